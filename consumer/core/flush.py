"""When and what to publish: the transaction's state machine.

    IDLE ──Transact──▶ SENDING ──committed──▶ IDLE        items are dropped
                          │ ├────aborted────▶ IDLE        items are kept and sent again after a backoff
                          │ ├────late───────▶ IDLE        as aborted, half of them at once
                          │ └─refused, unknown, fenced─▶ REBUILDING ──settled──▶ IDLE
    settled: the committed offsets decide for each partition whether its items were published.

After a refused record the partitions of its transaction go one per transaction, then fewer and fewer items, until the
culprit is alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from random import Random

from consumer.core.history import Mark
from consumer.core.item import Item
from consumer.core.messages import Outcome, Transact
from consumer.core.partition import Partition, State
from consumer.core.retry import Backoff
from consumer.records import OutRecord


class Phase(Enum):
    """What the producer is doing."""

    IDLE = "idle"
    SENDING = "sending"
    REBUILDING = "rebuilding"


@dataclass(frozen=True, slots=True)
class Taken:
    """What a transaction holds of one partition."""

    epoch: int
    items: int
    next_offset: int
    mark: Mark


LATE_TIMES = 5
LATE_LOOKS = 3
MORE = 1.125
"""So many items more are sent after each commit, up to the limits, once so many were too many."""


@dataclass(slots=True)
class Late:
    """A single item, sent by itself, that was not delivered in time."""

    partition: int
    next_offset: int
    times: int = 0
    looks: int = 0
    """How often the brokers answered since the first time: no answer, and they are waited for without limit."""


@dataclass(slots=True)
class Suspects:
    """While a refused record is looked for: the first `items` of a partition, at most `limit` per transaction."""

    items: int
    limit: int


@dataclass(frozen=True, slots=True)
class FlushPolicy:
    """The limits of one transaction, `CONSUMER_BATCH__*`; sizes in bytes, times in seconds."""

    max_messages: int = 1000
    max_bytes: int = 16 * 1024 * 1024
    max_seconds: float = 1.0
    linger_seconds: float = 0.02
    backoff: Backoff = field(default_factory=lambda: Backoff(0.1, 2.0, 5.0))


@dataclass(slots=True)
class Flusher:
    """Chooses what goes into the next transaction and keeps count of what is in the current one."""

    policy: FlushPolicy
    random: Random
    phase: Phase = Phase.IDLE
    taken: dict[int, Taken] = field(default_factory=dict)
    narrow: dict[int, Suspects] = field(default_factory=dict)
    """By partition; each has at least that many finished items. While there is one, nothing else is published."""
    most: float = math.inf
    """Items per transaction: fewer where so many were not delivered in time."""
    late: Late | None = None
    failures: int = 0
    fences: int = 0
    """How often a newer producer was met since the last commit."""
    not_before: float = 0.0
    linger_until: float = 0.0
    started_at: float = 0.0

    @property
    def only_marks(self) -> bool:
        """The transaction under way publishes nothing."""
        return not any(taken.items for taken in self.taken.values())

    def publishing(self, partitions: Iterable[Partition]) -> bool:
        """A transaction is under way, or one that failed is sent again: there is something to send."""
        to_send = any(partition.finished or partition.mark is not None for partition in partitions)
        return self.phase is not Phase.IDLE or (self.failures > 0 and to_send)

    def due_at(self, partitions: Iterable[Partition], *, idle_at: float | None, urgent: bool) -> float | None:
        """The time from which a transaction may begin (it may lie in the past); None: nothing to publish.

        `idle_at`: from when on no more is to be expected; None: more input is ready.
        """
        if self.phase is not Phase.IDLE:
            return None
        pending = []
        for partition in partitions:
            if partition.mark is not None and not self.narrow:
                return self.not_before
            if partition.finished:
                pending.append(partition)
        if not pending:
            return None
        messages = sum(partition.finished_messages for partition in pending)
        size = sum(partition.finished_bytes for partition in pending)
        full = messages >= self.policy.max_messages or size >= self.policy.max_bytes
        if urgent or self.narrow or full or sum(len(partition.finished) for partition in pending) >= self.most:
            return self.not_before
        at = min(partition.oldest_finished for partition in pending) + self.policy.max_seconds
        if idle_at is not None:
            at = min(at, max(idle_at, self.linger_until))
        return max(self.not_before, at)

    def ask_at(self, partition: Partition, full: bool, input_ready: bool) -> float | None:
        """The time from which the reducer is to be asked about the partition's open batch; None: not now.

        `full`: the memory budget is; `input_ready`: more input is ready, of whatever partition.
        """
        if partition.state is not State.RUNNING or not partition.batch_messages:
            return None
        if partition.asking or partition.closing:
            return None
        at = partition.batch_since + self.policy.max_seconds
        if partition.batch_messages == partition.declined_at:
            return at
        if full:
            return partition.batch_since
        if partition.in_work:
            return at
        # While other partitions have input, a poll without this one's says little: its own linger must have passed.
        quiet = partition.progressed_at + self.policy.linger_seconds if input_ready else 0.0
        return min(at, max(quiet, self.linger_until))

    def begin(self, partitions: Iterable[Partition], now: float) -> Transact:
        """Take finished items of all partitions, whole items only, up to the limits, and the marks to be written."""
        outs: list[OutRecord] = []
        taken: list[Item] = []
        offsets: dict[int, tuple[int, str]] = {}
        self.taken = {}
        most_messages, most_bytes = self.policy.max_messages, self.policy.max_bytes
        messages = size = 0
        for partition in self._candidates(partitions):
            suspects = self.narrow.get(partition.number)
            before = len(taken)
            for item in islice(partition.finished, suspects.limit if suspects else None):
                if taken and (messages >= most_messages or size >= most_bytes or len(taken) + 1 > self.most):
                    break
                published = item.outs
                outs.extend(published)
                taken.append(item)
                messages += len(published) or 1
                size += item.size_bytes
            items = len(taken) - before
            if items or partition.mark is not None:
                mark = partition.mark or Mark()
                history = taken[-1].history if items else partition.history
                next_offset = taken[-1].last + 1 if items else partition.next_offset
                offsets[partition.number] = (next_offset, history.marked(mark).encode())
                self.taken[partition.number] = Taken(partition.epoch, items, next_offset, mark)
        self.phase = Phase.SENDING
        self.started_at = now
        return Transact(outs, offsets, taken)

    def _candidates(self, partitions: Iterable[Partition]) -> list[Partition]:
        pending = [partition for partition in partitions if partition.finished or partition.mark is not None]
        if self.narrow:
            return [partition for partition in pending if partition.number in self.narrow][:1]
        return sorted(pending, key=lambda partition: partition.oldest_finished)

    def committed(self, partitions: Mapping[int, Partition], now: float) -> list[Partition]:
        """The transaction is visible: forget its items; returns the partitions that moved."""
        self.phase = Phase.IDLE
        self.failures = self.fences = 0
        self.late, self.most = None, self.most * MORE
        if not self.only_marks:
            # From begin to begin: what comes meanwhile waits for half of it on average.
            self.linger_until = max(self.started_at + self.policy.linger_seconds, now + (now - self.started_at))
        moved = self._owned(partitions)
        for partition in moved:
            self._settle(partition)
        self.taken = {}
        return moved

    def failed(self, outcome: Outcome, partitions: Mapping[int, Partition], now: float) -> bool:
        """The transaction is not (or not known to be) visible: keep its items; True: a new producer is needed."""
        self.failures += 1
        self.not_before = now + self.policy.backoff.delay(self.failures, self.random)
        if outcome is Outcome.LATE:
            self._was_late(now)
        if outcome in (Outcome.ABORTED, Outcome.LATE):
            self.phase = Phase.IDLE
            self.taken = {}
            return False
        self.phase = Phase.REBUILDING
        if outcome is Outcome.FENCED:
            self.fences += 1
        elif outcome is Outcome.REFUSED:
            self.not_before = now
            alone = len(self.taken) == 1
            for partition in self._owned(partitions):
                items = self.taken[partition.number].items
                if not items:
                    continue
                self.narrow[partition.number] = Suspects(items, max(1, items // 2) if alone else items)
        return True

    def settled(
        self, partitions: Mapping[int, Partition], committed: Mapping[int, int | None]
    ) -> tuple[list[Partition], list[Partition]]:
        """The committed offsets decide; returns (those that moved, those of which they do not tell or are not told)."""
        moved, lost = [], []
        for partition in self._owned(partitions):
            found, taken = committed.get(partition.number), self.taken[partition.number]
            if taken.items and found == taken.next_offset != partition.committed:
                self._settle(partition)
                moved.append(partition)
            elif not taken.items:  # the worse of what the metadata may say holds until it is located
                worse = max(taken.mark, partition.history.mark, key=lambda it: (it.process > 0, it.suspect is not None))
                partition.history = partition.history.marked(worse)
                lost.append(partition)
            elif partition.number not in committed or found != partition.committed or found == taken.next_offset:
                lost.append(partition)  # the second: read again from before the committed offset, up to it
        self.phase = Phase.IDLE
        self.taken = {}
        return moved, lost

    def _was_late(self, now: float) -> None:
        """Half as many next time, at once: each try takes its time; of one alone it is counted how often."""
        items = sum(taken.items for taken in self.taken.values())
        self.most = max(1, items // 2)
        if items > 1:
            self.failures, self.not_before = 1, now
        elif items:
            at = next((number, taken.next_offset) for number, taken in self.taken.items() if taken.items)
            if self.late is None or (self.late.partition, self.late.next_offset) != at:
                self.late = Late(*at)
            self.late.times += 1

    def answered(self) -> None:
        """The brokers have answered a question beside the transactions."""
        if self.late is not None:
            self.late.looks += 1

    @property
    def too_late(self) -> bool:
        """A single item is never delivered in time, though alone and while the brokers answer."""
        return self.late is not None and self.late.times >= LATE_TIMES and self.late.looks >= LATE_LOOKS

    def culprit(self, partitions: Mapping[int, Partition]) -> Partition | None:
        """The partition whose single item is all that the transaction publishes, if it has come to that."""
        if sum(taken.items for taken in self.taken.values()) != 1:
            return None
        return next((owned for owned in self._owned(partitions) if self.taken[owned.number].items), None)

    def forget(self, number: int) -> None:
        """The partition is gone or rewound."""
        self.narrow.pop(number, None)

    def _owned(self, partitions: Mapping[int, Partition]) -> list[Partition]:
        """The partitions of the current transaction that are still those they were when it began."""
        return [
            partition
            for number, taken in self.taken.items()
            if (partition := partitions.get(number)) is not None and partition.epoch == taken.epoch
        ]

    def _settle(self, partition: Partition) -> None:
        taken = self.taken[partition.number]
        partition.commit(taken.items, taken.next_offset, self.started_at)
        partition.history = partition.history.marked(taken.mark)
        suspects = self.narrow.get(partition.number)
        if suspects is not None:
            suspects.items -= taken.items
            if suspects.items <= 0:
                self.forget(partition.number)
