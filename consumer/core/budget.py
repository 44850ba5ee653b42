"""The member's memory budget: when to stop taking input in, of which partitions, and when to go on."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from consumer.core.messages import Pause, Resume
from consumer.core.partition import Partition, State

HOLD_SECONDS = 1.0
"""How long a full budget is met by not polling, which keeps the prefetch, before partitions are paused."""


@dataclass(slots=True)
class Budget:
    """Full from `max_bytes` on, until half of it is free again (hysteresis).

    What is held may pass the limit by one poll; a record larger than the budget is admitted when nothing else is held.

    A partition that gets nothing done for HOLD_SECONDS (a retry that waits, a slow commit) must not hold up the
    others: it takes in no more than its share, and what it has is set aside, at most half of the budget.
    """

    max_bytes: int
    full: bool = False
    room: int = 0
    """Bytes that may still be taken in."""
    since: float = 0.0
    _share: int = 0

    def update(self, partitions: Collection[Partition], now: float) -> None:
        """Take in what is held now."""
        self._share = self.max_bytes // max(1, 2 * len(partitions))
        held = waiting = 0
        # Open batches that the reducer declines to close do not shrink: with nothing else held they are no reason
        # to wait for half of the budget.
        rests = True
        for partition in partitions:
            held += partition.held_bytes
            if partition.raw_bytes or partition.finished:
                rests = False
                if _stalled(partition, now):
                    waiting += partition.raw_bytes
        held -= waiting
        limit = self.max_bytes - min(waiting, self.max_bytes // 2)
        if not self.full and held >= limit:
            self.full, self.since = True, now
        elif self.full and (held <= limit // 2 or (rests and held < limit)):
            self.full = False
        self.room = max(0, limit - held)

    def takes(self, partition: Partition, now: float) -> bool:
        """Whether the partition should be fetched now; what is paused stays so until it is down to its share."""
        if now < partition.blocked_until:
            return False
        if self.full and (partition.paused or now >= self.since + HOLD_SECONDS):
            return False
        return partition.raw_bytes <= self._share or not (partition.paused or _stalled(partition, now))

    def changes(self, running: Sequence[Partition], now: float) -> Iterator[Pause | Resume]:
        """Which of these partitions to stop fetching, and which to fetch again; they are marked so."""
        changed = [partition for partition in running if self.takes(partition, now) == partition.paused]
        for partition in changed:
            partition.paused = not partition.paused
        pause = [partition for partition in changed if partition.paused]
        resume = [partition for partition in changed if not partition.paused]
        if pause:
            yield Pause([partition.number for partition in pause])
        if resume:
            yield Resume([partition.number for partition in resume])

    def next_at(self, partitions: Collection[Partition], now: float) -> float | None:
        """When another partition may have to be paused, or another may go on; None: not while nothing else happens."""
        times = []
        for partition in partitions:
            times.append(partition.blocked_until)
            fetched = partition.state is State.RUNNING and not partition.paused
            if self.full and fetched:
                times.append(self.since + HOLD_SECONDS)
            if partition.in_work and (self.full or (fetched and partition.raw_bytes > self._share)):
                times.append(partition.progressed_at + HOLD_SECONDS)
        return min((at for at in times if at > now), default=None)


def _stalled(partition: Partition, now: float) -> bool:
    return partition.in_work > 0 and now >= partition.progressed_at + HOLD_SECONDS
