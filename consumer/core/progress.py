"""The progress watchdog: sees the partition that stands still for no reason, and says what is to be done about it.

It is asked whenever the brokers have said how far the partitions reach. While they say nothing, nothing counts as
stuck: a member waits for its brokers without limit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from consumer.core.messages import Reach
from consumer.core.partition import Partition, State


class Remedy(Enum):
    """What is tried, the first three in this order, each after another `CONSUMER_WATCHDOG__STUCK_SECONDS`."""

    SEEK = "seek"
    """Drop what is not committed, look the committed offset up again and fetch from there."""
    REJOIN = "rejoin"
    """Leave the group, and join it again with a new consumer."""
    EXIT = "exit"
    """End with exit code 1: the supervisor starts the member again."""
    WAIT = "wait"
    """It is said, and nothing is done."""


_LADDER = (Remedy.SEEK, Remedy.REJOIN, Remedy.EXIT)


@dataclass(slots=True)
class _Watched:
    epoch: int = 0
    since: float = 0.0
    position: int = 0
    """The highest so far, and the highest committed offset: what only comes again is no progress."""
    committed: int = 0
    tried: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """This partition has not moved for `seconds`."""

    partition: Partition
    remedy: Remedy
    seconds: float

    @property
    def why(self) -> str:
        """For people."""
        partition = self.partition
        return (
            f"{partition.state.value} for {self.seconds:.0f} s at offset {partition.position} (committed "
            f"{partition.committed}, {partition.in_work} records in work) with more input there, no call of user code "
            "and no retry under way (CONSUMER_WATCHDOG__STUCK_SECONDS)"
        )


class Progress:
    """What is known of each partition, also over a rejoin."""

    def __init__(self, stuck_seconds: float) -> None:
        self._stuck_seconds = stuck_seconds
        self._watched: dict[int, _Watched] = {}
        self._begun: Mapping[int, int] = {}
        self._turns: set[int] = set()

    def stuck(
        self, partitions: Iterable[Partition], reach: Reach, excused: Collection[int], now: float
    ) -> list[Standing]:
        """The partitions that have stood still for too long since the last remedy.

        Args:
            partitions: all that are assigned.
            reach: how far there is input.
            excused: those with a retry that waits for its time; all of them while a transaction is under way or sent
                again, which has deadlines and a backoff of its own.
            now: monotonic seconds.
        """
        found = []
        served = self._served(reach)
        partitions = list(partitions)
        told = any(partition.state is not State.LOCATING for partition in partitions)
        for partition in partitions:
            watched = self._watched.setdefault(partition.number, _Watched())
            self._note(watched, partition, now)
            if partition.number in excused or not _should_move(partition, reach, served):
                watched.since = now
            elif now - watched.since >= self._stuck_seconds:
                held = told and partition.state is State.LOCATING  # asked of the same client, others had an answer
                found.append(Standing(partition, Remedy.WAIT if held else _LADDER[watched.tried], now - watched.since))
                watched.tried = min(watched.tried + (not held), len(_LADDER) - 1)
                watched.since = now
        return found

    def _served(self, reach: Reach) -> set[int]:
        """Those of which the worker was called since the last look, and between that and the one before.

        The work thread goes round: between two turns of one of them every other one had its turn, or is passed over.
        """
        turns = {number for number, call in reach.begun.items() if self._begun.get(number) != call}
        served, self._turns, self._begun = turns & self._turns, turns, reach.begun
        return served

    @staticmethod
    def _note(watched: _Watched, partition: Partition, now: float) -> None:
        committed = partition.committed or 0
        if committed > watched.committed or partition.position > watched.position:
            watched.tried, watched.since = 0, now
        elif partition.epoch != watched.epoch:
            watched.since = now
        watched.epoch = partition.epoch
        watched.since = max(watched.since, partition.progressed_at)
        watched.committed = max(committed, watched.committed)
        watched.position = max(partition.position, watched.position)


def _should_move(partition: Partition, reach: Reach, served: Collection[int]) -> bool:
    """Whether there is no reason to stand still but a fault."""
    behind = partition.number in reach.behind
    if partition.state is State.LOCATING:
        return behind
    if partition.state is not State.RUNNING:
        return False  # a reducer's start_offset is a user call; the rest ends at a deadline
    if partition.in_work or partition.asking or partition.closing:
        if partition.number in reach.calling:
            return False
        # A call of another one may have every place. What was not handed to the work thread waits for a trial's end.
        waits = partition.in_work and not partition.submitted
        return not reach.calling or (not waits and any(number != partition.number for number in served))
    # An open batch alone simply waits. Paused: the memory budget is full, or the client fails at this offset.
    return bool(partition.finished) or (behind and not partition.paused)
