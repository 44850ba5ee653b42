"""What becomes of failed work: another try at its time, a dead letter, or the end of the member."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from random import Random

from consumer.core import stops
from consumer.core.messages import Command, DeadLetter, Failed, FailureKind, Retry
from consumer.core.partition import Partition
from consumer.core.policy import Policy
from consumer.core.retry import Attempts

COMMIT_STAGE = "commit"


class Retries:
    """The tries of everything that failed, and the timers of those that are due again."""

    def __init__(self, policy: Policy, random: Random) -> None:
        self._policy = policy
        self.random = random
        self._timers: list[tuple[float, int, int, int]] = []

    def failed(self, partition: Partition, event: Failed, now: float) -> Command | None:
        """Count the failure; returns what to do at once, or None: it is tried again later."""
        policy, committing = self._policy, event.stage == COMMIT_STAGE
        attempts = self._attempts(partition, event, now)
        attempts.count += 1
        where = f"{policy.topic}/{partition.number} offset {event.offset}"
        if committing:
            where = f"the reducer's commit of the batch that ends at {where}"
        if event.kind is FailureKind.TRANSIENT:
            if now - attempts.since >= policy.retry_elapsed_seconds:
                return stops.transient(where, now - attempts.since, event.error)
        else:
            attempts.counted += 1
            if event.kind is FailureKind.PERMANENT or attempts.counted >= policy.retry_attempts:
                if committing:
                    return stops.commit_failed(where, attempts.count, event.error)
                return DeadLetter(partition.number, partition.epoch, event.offset, attempts.count)
        due = now + policy.retry.delay(attempts.count, self.random)
        heapq.heappush(self._timers, (due, partition.number, partition.epoch, event.offset))
        return None

    def due(self, now: float) -> Iterator[Retry]:
        """The retries whose time has come; some may be of an epoch that is over."""
        while self._timers and self._timers[0][0] <= now:
            _, number, epoch, offset = heapq.heappop(self._timers)
            yield Retry(number, epoch, offset)

    def waiting(self) -> set[int]:
        """The partitions with a retry that waits for its time."""
        return {number for _, number, _, _ in self._timers}

    def next_at(self) -> float | None:
        """When the next retry is due."""
        return self._timers[0][0] if self._timers else None

    def _attempts(self, partition: Partition, event: Failed, now: float) -> Attempts:
        if event.stage != COMMIT_STAGE:
            return partition.attempts.setdefault(event.offset, Attempts(now))
        if partition.commit_attempts is None:
            partition.commit_attempts = Attempts(now)
        return partition.commit_attempts
