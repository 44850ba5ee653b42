"""The checkpoint that kills its process: a count of starts survives the deaths, and a trial finds the culprit.

The count travels in the committed offset's metadata (`History.starts`). It is raised when a partition is assigned,
before anything of it is worked on, and cleared by the next commit, or when the partition is given back in order. Who
finds TRIAL_STARTS there knows that so many processes have died since the partition last moved. From then on this
member's records run one at a time, of all its partitions, and the metadata names the one that is about to run
(`History.suspect`). Whoever finds a name there lets that record run alone once more, and raises the count again; the
next one writes it off unread. Once would not do: a process may be killed from outside while any record runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from consumer.core.history import Mark
from consumer.core.messages import Chunk
from consumer.core.partition import Partition, State

TRIAL_STARTS = 3
TRIAL_DEATHS = 2
"""So many processes must die of a record that runs alone."""
TRIAL_RECORDS = 1_000
"""Records that run alone before the member's partitions are trusted again."""


class Starts:
    """Counts the starts of partitions, and lets records wait for their turn while there is a trial."""

    def __init__(self) -> None:
        self._left = 0
        self._turns: Counter[int] = Counter()
        self._named: dict[int, int] = {}
        """What this process has named, by partition."""
        self._accused: dict[tuple[int, int], int] = {}
        """Partition and offset: the count of starts with which it was named by a process that is dead."""

    @property
    def lasting_mark(self) -> Mark:
        """What a commit says where there is nothing else to be said: a trial is gone on with by the next process."""
        return (TRIAL_STARTS, None) if self._left else (0, None)

    def located(self, partition: Partition) -> None:
        """See what the metadata says about the processes that had this partition before."""
        history = partition.history
        if partition.counted:
            return
        if history.suspect is not None and history.suspect != self._named.get(partition.number):
            self._accused[partition.number, history.suspect] = history.starts
            if history.starts >= TRIAL_STARTS + TRIAL_DEATHS:
                why = f"{history.starts} processes in a row died before its commit, {TRIAL_DEATHS} while it ran alone"
                partition.condemned.setdefault(history.suspect, why)
                partition.unread.add(history.suspect)
        if history.starts >= TRIAL_STARTS:
            self._left = TRIAL_RECORDS

    def runnable(self, partitions: Collection[Partition]) -> list[Partition]:
        """The READY partitions that may run now; the others are given a mark, and run when it is committed."""
        run = []
        for partition in partitions:
            if partition.state is not State.READY:
                continue
            # Without a committed offset there is nothing to mark; in a trial every record is marked by itself.
            if partition.counted or partition.committed is None or self._left:
                run.append(partition)
            else:
                partition.state, partition.mark = State.MARKING, (partition.history.starts + 1, None)
            partition.counted = True
        return run

    def wait(self, partition: Partition, chunk: Chunk) -> bool:
        """Whether what was fetched waits for its turn."""
        if self._left or partition.waiting:
            partition.one_by_one(chunk)
        return bool(partition.waiting)

    def turns(self, partitions: Collection[Partition]) -> Iterator[tuple[Partition, Chunk]]:
        """What may be worked on now of the records that wait: in a trial one, once the metadata names it."""
        waiting = [partition for partition in partitions if partition.waiting]
        while waiting and not self._left:
            yield waiting[-1], waiting[-1].waiting.popleft()
            waiting = [partition for partition in waiting if partition.waiting]
        if not waiting or any(p.mark or p.in_work > len(p.waiting) for p in partitions):
            return
        partition = self._next(waiting)
        offset = partition.waiting[0].offsets[0]
        if offset not in partition.condemned and partition.committed is not None:
            if partition.history.suspect != offset or self._named.get(partition.number) != offset:
                for named in partitions:
                    if named.history.suspect is not None:
                        named.mark = (TRIAL_STARTS, None)
                partition.mark = self._accused.get((partition.number, offset), TRIAL_STARTS) + 1, offset
                self._named[partition.number] = offset
                return
            self._left -= 1
        self._turns[partition.number] += 1
        yield partition, partition.waiting.popleft()

    def _next(self, waiting: list[Partition]) -> Partition:
        """The one that is named already, else the one with the fewest turns."""
        return min(waiting, key=lambda p: (p.history.suspect != p.waiting[0].offsets[0], self._turns[p.number]))


def unmark(partition: Partition) -> None:
    """Given back in order: nobody died of it."""
    if partition.counted and (partition.history.starts or partition.mark):
        partition.mark = (0, None)
