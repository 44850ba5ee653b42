"""How a partition gets from state to state: each function changes it and returns the commands that go with it."""

from __future__ import annotations

from consumer.core.history import Mark
from consumer.core.messages import Chunk, Command, Drain, Drop, End, Locate, Open, Pause, Seek, Submit
from consumer.core.partition import Partition, State
from consumer.limits import Limits

LEAVING = (State.DRAINING, State.DRAINED, State.ENDING, State.ENDED)


def run(partition: Partition, offset: int | None, limits: Limits, *, stopping: bool) -> list[Command]:
    """Fetch from `offset` on, unless all is over; a partition without one is new and starts at its beginning."""
    partition.position, partition.from_beginning = offset or 0, offset is None
    end = limits.ends.get(partition.number, float("inf"))
    if limits.ended(partition.number, partition.history.sequence_number) or partition.position >= end:
        partition.state = State.ENDED
    elif stopping:
        partition.state = State.DRAINED
    else:
        partition.state = State.RUNNING
        history = partition.history.marked(Mark())
        if offset != partition.committed:
            history = history.afresh()
        # Housekeeping resumes it.
        return [Open(partition.number, partition.epoch, history), Seek(partition.number, offset)]
    return []


def seek(partition: Partition) -> list[Command]:
    """Fetch from its position again; paused meanwhile, as a client may come out of a seek. Housekeeping resumes it."""
    offset = None if partition.untouched else partition.position
    return [*_stop_fetching(partition), Seek(partition.number, offset)]


def submit(partition: Partition, chunk: Chunk) -> list[Command]:
    """Work on this, which waits no more; what ends, ends after the last that waited."""
    commands: list[Command] = [Submit(chunk, partition.epoch, dict(partition.condemned), set(partition.unread))]
    return commands + _close(partition) if partition.state is State.ENDING else commands


def start_over(partition: Partition, epoch: int) -> list[Command]:
    """Drop what is not committed, and fetch it again unless the partition is on its way to another owner.

    Paused and not RUNNING until it is located and sought: a record that is fetched from the old position in between
    would be taken for the next one, and what lies before it be skipped.
    """
    drop = Drop(partition.number, partition.epoch)
    partition.rewind(epoch)
    if partition.state in (State.DRAINING, State.DRAINED):
        partition.state = State.DRAINED
        return [drop]
    partition.state = State.LOCATING
    return [drop, *_stop_fetching(partition), Locate(partition.number, partition.epoch)]


def end(partition: Partition) -> list[Command]:
    """A bounded run has nothing more to do here: stop fetching, close the open batch unasked after what waits."""
    if partition.state is not State.RUNNING:
        return []
    partition.state = State.ENDING
    return _stop_fetching(partition) + _close(partition)


def drain(partition: Partition) -> list[Command]:
    """Begin nothing more, publish what gets finished."""
    if partition.state in (State.RUNNING, State.ENDING):
        partition.state = State.DRAINING
        partition.discard_waiting()
        return [Drain(partition.number, partition.epoch)]
    if partition.state not in LEAVING:
        partition.state = State.DRAINED
    return []


def _close(partition: Partition) -> list[Command]:
    return [] if partition.waiting else [End(partition.number, partition.epoch)]


def _stop_fetching(partition: Partition) -> list[Command]:
    if partition.paused:
        return []
    partition.paused = True
    return [Pause([partition.number])]
