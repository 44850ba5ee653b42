"""The state of one assigned partition: what was delivered, what is finished, what is committed."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from consumer.core.history import History, Mark
from consumer.core.item import Item
from consumer.core.messages import Answered, Chunk, Worked
from consumer.core.retry import Attempts


class State(Enum):
    """LOCATING → (POSITIONING) → RUNNING → DRAINING → DRAINED; in a bounded run ENDING → ENDED.

    Back to LOCATING where what is not committed must be fetched again.
    """

    LOCATING = "locating"
    POSITIONING = "positioning"
    RUNNING = "running"
    DRAINING = "draining"
    DRAINED = "drained"
    ENDING = "ending"
    ENDED = "ended"


class OrderError(RuntimeError):
    """Finished work does not match what was delivered: a defect, and never committed."""


@dataclass(slots=True)
class Partition:
    """One partition of one assignment.

    The committable offset is the end of the contiguous prefix of *delivered* offsets that are finished: offsets have
    holes (transaction markers, compaction), so `delivered` holds the offsets that really came.
    """

    number: int
    epoch: int
    state: State = State.LOCATING
    position: int = 0
    """Lowest offset that may still be delivered."""
    from_beginning: bool = False
    """It is new, and starts at the beginning of its log; `position` is 0 until the first record says where that is."""
    committed: int | None = None
    delivered: deque[int] = field(default_factory=deque)
    """Delivered and not finished, in order; an open batch's offsets are among them."""
    finished: deque[Item] = field(default_factory=deque)
    """Finished and not known to be committed, in order."""
    in_work: int = 0
    """Records submitted and not yet through the worker."""
    progressed_at: float = 0.0
    """When something was last done here, or first had to be done."""
    raw_bytes: int = 0
    finished_bytes: int = 0
    finished_messages: int = 0
    oldest_finished: float = 0.0
    """No later than when the first of them finished."""
    batch_messages: int = 0
    batch_bytes: int = 0
    batch_since: float = 0.0
    asking: bool = False
    closing: bool = False
    """The reducer has closed the batch, and commits it."""
    declined_at: int = 0
    """Messages in the open batch when the reducer last declined to close it."""
    history: History = field(default_factory=History)
    """As of the last committed item."""
    attempts: dict[int, Attempts] = field(default_factory=dict)
    commit_attempts: Attempts | None = None
    """Of the reducer's commit of the open batch."""
    condemned: dict[int, str] = field(default_factory=dict)
    unread: set[int] = field(default_factory=set)
    """Of those, the ones that are not even decoded."""
    found: Mark = field(default_factory=Mark)
    """What processes that died have left in the metadata."""
    trusted: bool = False
    """What is fetched is worked on at once: the metadata names this process, or the trial is over."""
    ran_alone: int = 0
    """Records that ran alone in this trial."""
    mark: Mark | None = None
    """To be committed with the offset, or by itself; None: an empty one with the next commit."""
    waiting: deque[Chunk] = field(default_factory=deque)
    """Delivered and not submitted; it counts as in work."""
    at_end: bool = False
    """The fetch position is at the partition's end (known in bounded runs only)."""
    met_limit: bool = False
    """The last checkpoint of a bounded run went through the worker here."""
    paused: bool = True
    failing_at: int = -1
    """Where the client last failed to read, and how often in a row."""
    fetch_failures: int = 0
    blocked_until: float = 0.0
    """Not fetched before."""

    @property
    def held_bytes(self) -> int:
        """What this partition keeps in memory."""
        return self.raw_bytes + self.batch_bytes + self.finished_bytes

    @property
    def next_offset(self) -> int:
        """Where its next owner starts: the committed offset; in a new partition the first that came, or would come."""
        if self.committed is not None:
            return self.committed
        return self.finished[0].first if self.finished else self.delivered[0] if self.delivered else self.position

    @property
    def untouched(self) -> bool:
        """Whether what comes next is its first record, wherever that is."""
        return self.from_beginning and not self.position

    @property
    def submitted(self) -> int:
        """Records that the work thread has and has not finished with."""
        return self.in_work - sum(len(chunk.offsets) for chunk in self.waiting)

    @property
    def settled(self) -> bool:
        """Whether it has nothing left to do or to publish."""
        return self.state not in (State.DRAINING, State.ENDING) and not self.finished and self.mark is None

    @property
    def declined(self) -> bool:
        """Nothing is held here but, perhaps, an open batch that the reducer declined to close as it is."""
        return not (self.raw_bytes or self.finished) and (
            not self.batch_messages
            or (self.batch_messages == self.declined_at and not self.asking and not self.closing)
        )

    def deliver(self, chunk: Chunk, now: float) -> Chunk | None:
        """Take in what was fetched; None where all of it came before (a repeat after a seek)."""
        if chunk.offsets[0] < self.position:
            skip = bisect_left(chunk.offsets, self.position)
            if skip == len(chunk.offsets):
                return None
            chunk = cut(chunk, skip, len(chunk.offsets))
        if not self.in_work:
            self.progressed_at = now
        self.delivered.extend(chunk.offsets)
        self.position = chunk.offsets[-1] + 1
        self.in_work += len(chunk.offsets)
        self.raw_bytes += chunk.size_bytes
        self.at_end = False
        return chunk

    def next_waiting(self, *, alone: bool = False) -> Chunk:
        """What has waited longest waits no more; `alone`: only its first record."""
        chunk = self.waiting.popleft()
        if not alone or len(chunk.offsets) == 1:
            return chunk
        self.waiting.extendleft(cut(chunk, at, at + 1) for at in reversed(range(1, len(chunk.offsets))))
        return cut(chunk, 0, 1)

    def discard_waiting(self) -> None:
        """What waits is not worked on: not finished, so never committed."""
        self.in_work = self.submitted
        self.raw_bytes -= sum(chunk.size_bytes for chunk in self.waiting)
        self.waiting.clear()

    def worked(self, event: Worked, now: float) -> None:
        """Take in what the work thread did."""
        self.progressed_at = now
        self.in_work -= event.processed
        self.raw_bytes -= event.freed_bytes
        self.finish(event.items, now)
        if event.batch_messages and (event.items or not self.batch_messages):
            self.batch_since = now
        self.batch_messages, self.batch_bytes = event.batch_messages, event.batch_bytes
        self.met_limit = self.met_limit or event.met_limit

    def answered(self, event: Answered, now: float) -> None:
        """The reducer has closed the open batch, or will not yet."""
        self.asking = False
        self.closing = self.batch_messages > 0 and not event.declined
        if event.declined:
            self.declined_at = self.batch_messages
        self.batch_since = now

    def finish(self, items: Sequence[Item], now: float) -> None:
        """Move the items' offsets from delivered to finished.

        Raises:
            OrderError: the items are not exactly the head of what was delivered.
        """
        if items and not self.finished:
            self.oldest_finished = now
        delivered = self.delivered
        for item in items:
            first, last = item.first, item.last
            if not delivered or delivered[0] != first:
                raise OrderError(f"partition {self.number}: {first}-{last} finished out of order")
            count, at = 1, delivered.popleft()
            while at != last and delivered and delivered[0] <= last:
                count, at = count + 1, delivered.popleft()
            if at != last or count != item.records:
                raise OrderError(f"partition {self.number}: {first}-{last} covers {count} of {item.records}")
        self.finished_bytes += sum([item.size_bytes for item in items])
        self.finished_messages += sum([len(item.outs) or 1 for item in items])
        self.finished.extend(items)
        if items:
            if self.attempts:
                self.attempts = {at: made for at, made in self.attempts.items() if at > items[-1].last}
            self.commit_attempts = None
            self.closing = False
            self.declined_at = 0

    def commit(self, items: int, next_offset: int, since: float) -> None:
        """The first `items` finished items are committed, by a transaction that began at `since`."""
        done = [self.finished.popleft() for _ in range(items)]
        if done:
            self.history = done[-1].history
        self.finished_bytes -= sum([item.size_bytes for item in done])
        self.finished_messages -= sum([len(item.outs) or 1 for item in done])
        self.committed = next_offset
        self.condemned = {at: why for at, why in self.condemned.items() if at >= next_offset}
        self.oldest_finished = max(self.oldest_finished, since)

    def abandon(self) -> None:
        """What is not finished was dropped: its next owner gets it again."""
        if self.delivered:
            self.position = self.delivered[0]
        self.delivered.clear()
        self.waiting.clear()
        self.attempts.clear()
        self.commit_attempts = None
        self.in_work = self.raw_bytes = 0
        self.batch_messages = self.batch_bytes = self.declined_at = 0
        self.asking = self.closing = self.at_end = self.met_limit = False

    def rewind(self, epoch: int) -> None:
        """Forget everything not committed, under a new epoch."""
        self.abandon()
        self.epoch = epoch
        self.finished.clear()
        self.finished_bytes = self.finished_messages = 0


def cut(chunk: Chunk, start: int, stop: int) -> Chunk:
    """Part of a chunk. Its size is that of its values, as the work thread counts it when it is done with them."""
    records = chunk.records[start:stop]
    size = sum(len(record.value() or b"") for record in records)
    return Chunk(chunk.partition, records, chunk.offsets[start:stop], size)


def below(chunk: Chunk, end: int) -> Chunk:
    """The chunk without the records from offset `end` on; it may be empty."""
    if chunk.offsets[-1] < end:
        return chunk
    return cut(chunk, 0, bisect_left(chunk.offsets, end))
