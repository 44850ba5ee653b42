"""When and what to publish: the transaction's state machine.

    IDLE ──Transact──▶ SENDING ──committed──▶ IDLE        items are dropped
                          │ ├────aborted────▶ IDLE        items are kept and sent again after a backoff
                          │ └─refused, unknown, fenced─▶ REBUILDING ──settled──▶ IDLE
    settled: the committed offsets decide for each partition whether its items were published.

After a refused record its partitions go one per transaction, then fewer and fewer items, until the culprit is alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from random import Random

from consumer.core.messages import Outcome, Transact
from consumer.core.partition import Partition
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
    narrow: dict[int, int] = field(default_factory=dict)
    """Partition → most items in its next transaction, while a refused record is looked for."""
    failures: int = 0
    rebuilds: int = 0
    """Rebuilds since the last commit."""
    not_before: float = 0.0
    linger_until: float = 0.0
    started_at: float = 0.0

    def due_at(self, partitions: Iterable[Partition], *, idle: bool, urgent: bool) -> float | None:
        """The time from which a transaction may begin (it may lie in the past); None: nothing to publish."""
        messages = size = 0
        oldest: float | None = None
        for partition in partitions:
            if partition.finished:
                size += partition.finished_bytes
                messages += partition.finished_messages
                oldest = partition.oldest_finished if oldest is None else min(oldest, partition.oldest_finished)
        if oldest is None or self.phase is not Phase.IDLE:
            return None
        if urgent or self.narrow or messages >= self.policy.max_messages or size >= self.policy.max_bytes:
            return self.not_before
        if idle:
            return max(self.not_before, min(self.linger_until, oldest + self.policy.max_seconds))
        return max(self.not_before, oldest + self.policy.max_seconds)

    def begin(self, partitions: Iterable[Partition], now: float) -> Transact:
        """Take finished items of all partitions, whole items only, up to the limits."""
        outs: list[OutRecord] = []
        offsets: dict[int, tuple[int, str]] = {}
        self.taken = {}
        messages = size = 0
        for partition in self._candidates(partitions):
            limit = self.narrow.get(partition.number, len(partition.finished))
            items = 0
            for item in islice(partition.finished, limit):
                if messages and (messages >= self.policy.max_messages or size >= self.policy.max_bytes):
                    break
                outs.extend(item.outs)
                messages += max(1, len(item.outs))
                size += item.size_bytes
                items += 1
            if items:
                next_offset, metadata = partition.offsets_after(items)
                offsets[partition.number] = (next_offset, metadata)
                self.taken[partition.number] = Taken(partition.epoch, items, next_offset)
        self.phase = Phase.SENDING
        self.started_at = now
        return Transact(outs, offsets)

    def _candidates(self, partitions: Iterable[Partition]) -> list[Partition]:
        pending = [partition for partition in partitions if partition.finished]
        if self.narrow:
            return [partition for partition in pending if partition.number in self.narrow][:1]
        return sorted(pending, key=lambda partition: partition.oldest_finished)

    def committed(self, partitions: Mapping[int, Partition], now: float) -> list[Partition]:
        """The transaction is visible: forget its items; returns the partitions that moved."""
        self.phase = Phase.IDLE
        self.failures = self.rebuilds = 0
        self.linger_until = self.started_at + max(self.policy.linger_seconds, now - self.started_at)
        self.linger_until = max(self.linger_until, now)
        moved = [partition for number in self.taken if (partition := self._owned(partitions, number)) is not None]
        for partition in moved:
            self._settle(partition, now)
        self.taken = {}
        return moved

    def failed(self, outcome: Outcome, now: float) -> None:
        """The transaction is not (or not known to be) visible: keep its items."""
        self.failures += 1
        self.not_before = now + self.policy.backoff.delay(self.failures, self.random)
        if outcome is Outcome.ABORTED:
            self.phase = Phase.IDLE
            self.taken = {}
            return
        self.phase = Phase.REBUILDING
        self.rebuilds += 1
        if outcome is Outcome.REFUSED:
            self.not_before = now
            alone = len(self.taken) == 1
            for number, taken in self.taken.items():
                self.narrow[number] = max(1, taken.items // 2) if alone else taken.items

    def settled(
        self, partitions: Mapping[int, Partition], committed: Mapping[int, int | None], now: float
    ) -> tuple[list[Partition], list[Partition]]:
        """The committed offsets decide; returns (partitions that moved, partitions whose offsets fit neither way)."""
        moved, lost = [], []
        for number, taken in self.taken.items():
            partition = self._owned(partitions, number)
            if partition is None:
                continue
            found = committed.get(number)
            if found == taken.next_offset:
                self._settle(partition, now)
                moved.append(partition)
            elif found != partition.committed:
                lost.append(partition)
        self.phase = Phase.IDLE
        self.taken = {}
        return moved, lost

    def culprit(self, partitions: Mapping[int, Partition]) -> Partition | None:
        """After REFUSED: the partition whose single item was the whole transaction, if it has come to that."""
        if len(self.taken) != 1:
            return None
        ((number, taken),) = self.taken.items()
        return self._owned(partitions, number) if taken.items == 1 else None

    def forget(self, number: int) -> None:
        """The partition is gone or rewound."""
        self.narrow.pop(number, None)

    def _owned(self, partitions: Mapping[int, Partition], number: int) -> Partition | None:
        partition = partitions.get(number)
        return partition if partition is not None and partition.epoch == self.taken[number].epoch else None

    def _settle(self, partition: Partition, now: float) -> None:
        taken = self.taken[partition.number]
        partition.commit(taken.items, taken.next_offset, now)
        if not partition.finished:
            self.narrow.pop(partition.number, None)
