"""The checkpoint that kills its process: a mark in the committed metadata survives it, a trial finds the culprit.

Before the first records of an assignment are worked on, the metadata names this process (`Mark.process`); a commit or
a return in order takes the name out again. Whoever finds another's name there knows of one more death without
progress. From TRIAL_DEATHS of them on, the member's records run one at a time, of all its partitions, and the name
of the one that runs alone is written first (`Mark.suspect`), mostly by the commit of the one before it. The record
that ALONE_DEATHS processes ran alone when they died is written off unread. One would not do: a process may be killed
from outside while any record runs. A process that finds its own name (a rebalance there and back) counts nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from consumer.core.history import Mark
from consumer.core.messages import Chunk
from consumer.core.partition import Partition, State

TRIAL_DEATHS = 3
ALONE_DEATHS = 2
MOST_ALONE = 32
"""So many records are kept, those that count most and then the latest: the metadata has room for 4,096 bytes."""
TRIAL_RECORDS = 1_000
"""So many records of a partition run alone, then it is trusted again."""
_WORKING = (State.RUNNING, State.ENDING)
_LEFT = (State.DRAINING, State.DRAINED, State.ENDED)


class Starts:
    """What the metadata of a member's partitions must say before records may be worked on, and which may be then."""

    def __init__(self, process: int) -> None:
        self.process = process
        """Names this process: random, not 0."""
        self.trying = False
        """Something of a partition on trial waits or runs: nothing else begins."""
        self._turn: Partition | None = None

    def located(self, partition: Partition) -> None:
        """See what the processes that had this partition before have left in its metadata."""
        mark, committed = partition.history.mark, partition.committed or 0
        deaths, alone = mark.deaths, {at: count for at, count in mark.alone.items() if at >= committed}
        if mark.process not in (0, self.process):
            deaths += 1
            if mark.suspect is not None:
                alone[mark.suspect] = alone.get(mark.suspect, 0) + 1
        alone = dict(sorted(alone.items(), key=lambda it: it[1])[-MOST_ALONE:])
        partition.found = Mark(deaths, alone)
        partition.trusted, partition.ran_alone = False, 0
        for offset, count in alone.items():
            if count >= ALONE_DEATHS:
                why = f"{deaths} processes in a row died before its commit, {count} of them while it ran alone"
                partition.condemned[offset] = why
                partition.unread.add(offset)

    def waits(self, partition: Partition) -> bool:
        """Whether what was just fetched has to wait."""
        return self.trying or not partition.trusted or bool(partition.waiting)

    def advance(self, partitions: Collection[Partition]) -> Iterator[tuple[Partition, Chunk]]:
        """Set the marks that have to be written now; what waits and may be worked on is returned and waits no more."""
        astir = [partition for partition in partitions if not self._at_rest(partition)]
        if not astir:
            self.trying, self._turn = False, None
            return
        # Whether anything runs matters to a trial alone.
        busy = any(map(_on_trial, astir)) and any(map(_busy, partitions))
        for partition in astir:
            self._trust(partition, busy)
        alone = self._next_alone(astir)
        self.trying = alone is not None or any(
            self._named(partition) or (partition.submitted and _on_trial(partition)) for partition in astir
        )
        for partition in astir:
            partition.mark = self._wanted(partition, partition is alone, busy)
        if alone is not None:
            # One that starts over is still named: only once it is located can its mark be changed.
            if not busy and all(p.mark is None and (p is alone or not self._named(p)) for p in astir):
                alone.ran_alone += 1
                yield alone, alone.next_waiting(alone=True)
        elif not self.trying:
            for partition in astir:
                while partition.waiting and partition.trusted:
                    yield partition, partition.next_waiting()

    def marked(self, partitions: Collection[Partition]) -> bool:
        """Whether this process is named somewhere: if it ended now, it would be taken for one that died."""
        return any(partition.history.mark.process == self.process for partition in partitions)

    def _trust(self, partition: Partition, busy: bool) -> None:
        """Its start is counted, or its trial is over: nothing more waits, or enough ran, up to the end of a batch."""
        if partition.trusted or partition.state not in _WORKING or partition.history.mark.process != self.process:
            return
        ran = partition.ran_alone
        enough = ran >= TRIAL_RECORDS or (ran > 0 and not partition.waiting)
        if not _on_trial(partition):
            partition.trusted = True
        elif enough and not busy and (partition.finished or not partition.batch_messages):
            partition.trusted, partition.found = True, Mark()

    def _next_alone(self, partitions: Collection[Partition]) -> Partition | None:
        """Whose turn it is, until its trial is over."""
        turns = [partition for partition in partitions if partition.waiting and _on_trial(partition)]
        if self._turn not in turns:
            self._turn = turns[0] if turns else None
        return self._turn

    def _wanted(self, partition: Partition, alone: bool, busy: bool) -> Mark | None:
        """What the metadata has to say from now on, if it is not what it says; also what the next commit says."""
        mark, found = partition.history.mark, partition.found
        ours, trial = mark.process == self.process, _on_trial(partition)
        if partition.state in _LEFT:  # nobody died here; what others left stays where nothing, or not all, is refuted
            return found if (trial if partition.finished else ours) else None
        if partition.state not in _WORKING:
            return None
        if partition.trusted:
            return Mark() if self._named(partition) else None
        if not trial:
            return Mark(found.deaths, found.alone, self.process) if partition.waiting and not self.trying else None
        suspect = None
        if busy:
            suspect = mark.suspect if ours else None
        elif alone and (at := partition.waiting[0].offsets[0]) not in partition.unread:
            suspect = at
        wanted = Mark(found.deaths, found.alone, self.process, suspect)
        changes = not busy and wanted != mark and (ours or suspect is not None)
        return wanted if changes or partition.finished else None

    def _named(self, partition: Partition) -> bool:
        mark = partition.history.mark
        return mark.process == self.process and mark.suspect is not None

    def _at_rest(self, partition: Partition) -> bool:
        """Nothing is to be set or to be waited for here, before the first records neither: asked often, of each."""
        mark = partition.history.mark
        return (
            partition.mark is None
            and not partition.waiting
            and partition.state in _WORKING
            and mark.suspect is None
            and (partition.trusted or not (mark.process == self.process or partition.in_work or partition.finished))
        )


def _busy(partition: Partition) -> bool:
    return bool(partition.submitted or partition.asking or partition.closing)


def _on_trial(partition: Partition) -> bool:
    return not partition.trusted and partition.found.deaths >= TRIAL_DEATHS
