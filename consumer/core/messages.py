"""What goes into the state machine (events) and what comes out of it (commands).

Partitions are plain numbers: a member reads one input topic. `epoch` counts the assignments (and rewinds) of a
partition; whatever carries an epoch that is not the current one has no effect.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from consumer.core import endings
from consumer.core.history import History
from consumer.core.item import Item
from consumer.records import OutRecord, Record

FailureKind = endings.FailureKind
Outcome = endings.Outcome

# ---------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Assigned:
    """The group gave these partitions to this member; they are paused until their start is known."""

    partitions: Sequence[int]


@dataclass(frozen=True, slots=True)
class Located:
    """The committed offset of a partition (None: there is none) and the metadata committed with it."""

    partition: int
    epoch: int
    offset: int | None
    metadata: str


@dataclass(frozen=True, slots=True)
class Positioned:
    """What the reducer's `start_offset` said (None: it has no opinion)."""

    partition: int
    epoch: int
    offset: int | None


@dataclass(frozen=True, slots=True)
class Revoking:
    """The group wants these partitions back: finish what can be finished, the time is short."""

    partitions: Sequence[int]


@dataclass(frozen=True, slots=True)
class Revoked:
    """These partitions are gone, in order (revoked) or not (lost): drop what is left of them."""

    partitions: Sequence[int]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records of one partition in the order in which they were delivered."""

    partition: int
    records: Sequence[Record]
    offsets: Sequence[int]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Records:
    """What one poll returned; `more`: it took all it may take at once, so that more input is probably ready."""

    chunks: Sequence[Chunk]
    more: bool = False


@dataclass(frozen=True, slots=True)
class EndReached:
    """The fetch position stands at the end of the partition (bounded runs only)."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class OutOfRange:
    """The offset to fetch next does not exist: retention overtook the group, or the topic was made anew."""

    partition: int
    offset: int
    error: str


@dataclass(frozen=True, slots=True)
class FetchFailed:
    """The client cannot read what comes next in the partition, and says so in its place."""

    partition: int
    error: str


@dataclass(frozen=True, slots=True)
class Reach:
    """What the brokers say: these partitions have records that were not fetched.

    `calling`: those for which user code runs now (-1: for none); `begun`: the number of their last call of the worker.
    """

    behind: Collection[int]
    calling: Collection[int] = ()
    begun: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Worked:
    """What the work thread did for one partition since its last report.

    `items` in input order; `processed` records and `freed_bytes` of raw input are done with; `batch_*` are of the open
    batch. `met_limit`: a bounded run's last checkpoint was among them; `past_limit`: the lane dropped the rest.
    """

    partition: int
    epoch: int
    items: Sequence[Item]
    processed: int
    freed_bytes: int
    batch_messages: int = 0
    batch_bytes: int = 0
    met_limit: bool = False
    past_limit: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """The reducer was asked with None and either closed the batch (its item has come or will) or declined."""

    partition: int
    epoch: int
    declined: bool


@dataclass(frozen=True, slots=True)
class Drained:
    """The lane has nothing running and no open batch left."""

    partition: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Failed:
    """One checkpoint failed; its lane holds it until a Retry or a DeadLetter."""

    partition: int
    epoch: int
    offset: int
    kind: FailureKind
    error: str
    stage: str


@dataclass(frozen=True, slots=True)
class Halted:
    """A policy holds this partition for good: `fail` ends the member once all that can be finished is published."""

    partition: int
    epoch: int
    fail: Fail


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End in order: drain, flush, leave."""

    deadline: float


@dataclass(frozen=True, slots=True)
class LimitReached:
    """Somewhere in the group the last checkpoint of the bounded run was committed."""


@dataclass(frozen=True, slots=True)
class TransactionEnded:
    """The result of the Transact command."""

    outcome: Outcome
    error: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Settled:
    """A new producer is ready, every earlier transaction has an outcome, and these offsets are committed."""

    committed: Mapping[int, int | None]


Event = (
    Assigned
    | Located
    | Positioned
    | Revoking
    | Revoked
    | Records
    | EndReached
    | OutOfRange
    | FetchFailed
    | Reach
    | Worked
    | Answered
    | Drained
    | Failed
    | Halted
    | Tick
    | Stop
    | LimitReached
    | TransactionEnded
    | Settled
)

# -------------------------------------------------------------------------------------------------- commands


@dataclass(frozen=True, slots=True)
class Locate:
    """Look up the committed offset and metadata; answer with Located."""

    partition: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Position:
    """Ask the reducer's `start_offset` on the work thread; answer with Positioned."""

    partition: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Open:
    """A lane begins: the records of this epoch will come, the first of them right after this history."""

    partition: int
    epoch: int
    history: History


@dataclass(frozen=True, slots=True)
class Seek:
    """Fetch from `offset` on (None: from the partition's beginning), once the partition, paused now, is resumed."""

    partition: int
    offset: int | None


@dataclass(frozen=True, slots=True)
class Pause:
    """Stop fetching these partitions."""

    partitions: Sequence[int]


@dataclass(frozen=True, slots=True)
class Resume:
    """Fetch these partitions again."""

    partitions: Sequence[int]


@dataclass(frozen=True, slots=True)
class Submit:
    """Work on these records, but for the `condemned` (offset: reason), of which those `unread` are not even decoded."""

    chunk: Chunk
    epoch: int
    condemned: Mapping[int, str]
    unread: Collection[int] = ()


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the reducer with None about the open batch; answer with Answered."""

    partition: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Start nothing new, finish what runs, ask the reducer once more; answer Drained."""

    partition: int
    epoch: int


@dataclass(frozen=True, slots=True)
class End:
    """Finish everything that was submitted, retries included, close the open batch unasked; answer Drained."""

    partition: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Forget the lane."""

    partition: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Retry:
    """Work on the held checkpoint again."""

    partition: int
    epoch: int
    offset: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Turn the held checkpoint into a dead letter."""

    partition: int
    epoch: int
    offset: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Transact:
    """Publish `outs` and commit `offsets` (next offset, metadata) per partition as one transaction, made of `items`."""

    outs: Sequence[OutRecord]
    offsets: Mapping[int, tuple[int, str]]
    items: Sequence[Item] = ()


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Make a new producer, settle what the old one left, look up the committed offsets; answer with Settled."""

    partitions: Sequence[int]


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing is left to do: close and exit."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """Say that the partition does not move, why, and the remedy; `rejoin`: leave, and join with a new consumer."""

    partition: int
    offset: int
    remedy: str
    why: str


@dataclass(frozen=True, slots=True)
class Fail:
    """Stop the member with this exit code; `message` says what to do."""

    exit_code: int
    message: str


Command = (
    Locate
    | Position
    | Open
    | Seek
    | Pause
    | Resume
    | Submit
    | Ask
    | Drain
    | End
    | Drop
    | Retry
    | DeadLetter
    | Transact
    | Rebuild
    | Finish
    | Stuck
    | Fail
)
