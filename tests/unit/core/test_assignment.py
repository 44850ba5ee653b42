"""Examples: partitions come, are located, are given back, are lost; whatever is of an old epoch has no effect."""

from __future__ import annotations

import dataclasses

import pytest

from consumer.core import lifecycle
from consumer.core import messages as m
from consumer.core.history import History
from consumer.core.item import Item
from consumer.core.partition import State
from tests.unit.core.model import POLICY, World, running


def worked(world: World, records: int = 3) -> World:
    """One partition whose records are worked on and reported, but not published."""
    world.append(0, records)
    world.assign(0)
    world.place()
    world.poll(records, more=True)
    world.commands()
    world.work_all()
    world.reports()
    return world


def test_an_assigned_partition_is_located_sought_and_then_fetched() -> None:
    world = World(partitions=1)
    assert world.machine.handle(m.Assigned([0]), 0.0) == [m.Locate(0, 1)]
    assert world.machine.handle(m.Located(0, 1, 42, ""), 0.0) == [m.Open(0, 1, History()), m.Seek(0, 42), m.Resume([0])]


def test_a_partition_without_an_offset_starts_at_its_beginning() -> None:
    world = World(partitions=1)
    world.machine.handle(m.Assigned([0]), 0.0)
    assert world.machine.handle(m.Located(0, 1, None, ""), 0.0)[1] == m.Seek(0, None)


@pytest.mark.parametrize(("wanted", "start"), [(17, 17), (None, 42), (0, 0)])
def test_a_reducer_that_keeps_its_own_progress_decides_where_to_start(wanted: int | None, start: int) -> None:
    world = World(dataclasses.replace(POLICY, reduces=True, positions=True), partitions=1)
    world.machine.handle(m.Assigned([0]), 0.0)
    known = History(9, 2, 3, 7, 1)
    assert world.machine.handle(m.Located(0, 1, 42, known.encode()), 0.0) == [m.Position(0, 1)]
    assert world.machine.handle(m.Positioned(0, 9, 1), 0.0) == [], "an old epoch"
    history = known if start == 42 else known.afresh()
    assert world.machine.handle(m.Positioned(0, 1, wanted), 0.0)[:2] == [m.Open(0, 1, history), m.Seek(0, start)]
    assert world.machine.handle(m.Positioned(0, 1, 5), 0.0) == [], "once"


def test_an_offset_of_a_deleted_topic_of_this_name_is_not_taken() -> None:
    world = World(dataclasses.replace(POLICY, topic_id="new"), partitions=1)
    world.machine.handle(m.Assigned([0]), 0.0)
    (fail,) = world.machine.handle(m.Located(0, 1, 42, History(7, topic_id="old").encode()), 0.0)
    assert isinstance(fail, m.Fail)
    assert fail.exit_code == 3
    for part in ("in/0", "offset 42", "deleted topic", "its id was old", "CONSUMER_GROUP_ID"):
        assert part in fail.message
    assert world.machine.partitions[0].state is State.LOCATING


def test_the_topic_s_id_is_committed_with_every_offset() -> None:
    world = worked(World(dataclasses.replace(POLICY, topic_id="new"), partitions=1))
    world.settle_down()
    assert History.decode(world.logs[0].metadata).topic_id == "new"


def test_records_of_a_partition_whose_start_is_not_known_are_not_taken() -> None:
    world = World(partitions=1)
    world.append(0, 3)
    world.machine.handle(m.Assigned([0]), 0.0)
    chunk = m.Chunk(0, world.logs[0].records, [0, 1, 2], 120)
    assert world.machine.handle(m.Records([chunk]), 0.0) == []
    assert world.machine.handle(m.EndReached(0, 3), 0.0) == []
    assert world.machine.handle(m.OutOfRange(0, 3, "x"), 0.0) == []
    assert world.held_bytes == 0


def test_records_of_a_partition_that_is_not_ours_are_not_taken() -> None:
    world = World(partitions=2)
    world.append(1, 3)
    assert world.machine.handle(m.Records([m.Chunk(1, world.logs[1].records, [0, 1, 2], 120)]), 0.0) == []


@pytest.mark.parametrize("state", ["stopping", "revoking", "ended"])
def test_records_of_a_partition_that_leaves_are_not_taken(state: str) -> None:
    world = worked(World(partitions=1))
    world.append(0, 2)
    chunks = world.fetched(2)
    if state == "stopping":
        world.stop()
    elif state == "revoking":
        world.handle(m.Revoking([0]))
    else:
        lifecycle.end(world.machine.partitions[0])
    assert not any(isinstance(command, m.Submit) for command in world.machine.handle(m.Records(chunks), world.now))


def test_a_repeat_after_a_seek_is_taken_once() -> None:
    world = worked(World(partitions=1))
    records = world.logs[0].records
    assert world.machine.handle(m.Records([m.Chunk(0, records, [0, 1, 2], 120)], more=True), world.now) == []
    world.append(0, 2)
    again = m.Chunk(0, records[1:], [1, 2, 3, 4], 160)
    submits = [c for c in world.machine.handle(m.Records([again], more=True), world.now) if isinstance(c, m.Submit)]
    assert [list(submit.chunk.offsets) for submit in submits] == [[3, 4]]
    assert submits[0].chunk.size_bytes == 80


def test_what_is_cut_off_a_chunk_is_weighed_by_what_it_is() -> None:
    """A share by count would never be given back whole: the budget would fill up with nothing."""
    world = worked(World(partitions=1), records=1)
    world.append(0, 1, size=400)
    world.append(0, 1, size=0)
    world.append(0, 1, size=40)
    chunk = m.Chunk(0, world.logs[0].records, [0, 1, 2, 3], 480)
    world.handle(m.Records([chunk], more=True))
    assert world.machine.partitions[0].raw_bytes == 440
    world.fetch[0].position = 4
    world.settle_down()


# ---------------------------------------------------------------------------------------------------- giving back


def test_revoking_drains_and_publishes_before_it_is_done() -> None:
    world = worked(World(partitions=1))
    world.append(0, 2)
    world.poll(2, more=True)
    world.handle(m.Revoking([0]))
    assert m.Drain(0, 1) in world.inbox
    assert not world.machine.drained([0])
    world.commands()
    world.reports()
    assert world.machine.partitions[0].state is State.DRAINED
    assert world.transaction is not None, "urgent, whatever the linger"
    assert not world.machine.drained([0]), "not while it is being published"
    world.end_transaction(m.Outcome.COMMITTED)
    assert world.machine.drained([0])
    assert world.logs[0].committed == 3
    assert world.held_bytes == 0, "what was dropped is held no more"
    world.lose([0])
    assert list(world.inbox) == [m.Drop(0, 1)]


def test_revoking_one_partition_leaves_the_others_alone() -> None:
    world = World(partitions=2)
    world.assign(0, 1)
    world.place()
    world.handle(m.Revoking([0]))
    assert running(world, 1)
    assert world.machine.drained([0]) is False
    assert world.machine.drained([1])


@pytest.mark.parametrize("positions", [True, False])
def test_a_partition_that_is_revoked_before_it_runs_is_drained_at_once(positions: bool) -> None:
    world = World(dataclasses.replace(POLICY, reduces=positions, positions=positions), partitions=1)
    world.assign(0)
    if positions:
        world.handle(m.Located(0, 1, None, ""))
    world.handle(m.Revoking([0]))
    assert world.machine.drained([0])
    assert world.machine.handle(m.Located(0, 1, 5, ""), world.now) == []
    assert world.machine.handle(m.Positioned(0, 1, 5), world.now) == []


def test_a_lost_partition_is_dropped_with_everything() -> None:
    world = worked(World(partitions=1))
    world.lose([0])
    assert world.machine.partitions == {}
    assert world.held_bytes == 0
    world.advance(5.0)
    assert world.transaction is None


def test_an_old_epoch_has_no_effect() -> None:
    world = worked(World(partitions=1))
    world.lose([0])
    world.assign(0)
    world.place()
    world.poll(3, more=True)
    before = dataclasses.asdict(world.machine.partitions[0])
    item = Item(0, 0, 1, [], 0)
    for event in (
        m.Located(0, 1, 2, ""),
        m.Positioned(0, 1, 2),
        m.Worked(0, 1, [item], 1, 40),
        m.Answered(0, 1, declined=True),
        m.Drained(0, 1),
        m.Failed(0, 1, 0, m.FailureKind.PERMANENT, "x", "decode"),
    ):
        assert world.machine.handle(event, world.now) == [], event
        assert dataclasses.asdict(world.machine.partitions[0]) == before, event


def test_a_retry_of_an_old_epoch_is_not_sent() -> None:
    world = World(partitions=1)
    world.failures[0, 0] = [m.FailureKind.RETRIABLE] * 2
    worked(world)
    assert world.machine.retries.next_at() is not None
    world.lose([0])
    world.assign(0)
    world.place()
    world.poll(3)
    world.advance(30.0)
    assert not any(isinstance(command, m.Retry) for command in world.log)


def test_an_unknown_partition_is_not_missed() -> None:
    world = World(partitions=1)
    assert world.machine.handle(m.Revoking([7]), 0.0) == []
    assert world.machine.handle(m.Revoked([7]), 0.0) == []
    assert world.machine.drained([7])


def test_an_offset_out_of_range_stops_the_member() -> None:
    world = worked(World(partitions=1))
    world.handle(m.OutOfRange(0, 7, "Broker: Offset out of range"))
    (fail,) = world.fails
    assert fail.exit_code == 3
    assert fail.message.startswith("in/0: the next offset 7 is out of range (Broker: Offset out of range)")


# --------------------------------------------------------------------------------------------------------- stopping


def test_stop_drains_publishes_and_finishes() -> None:
    world = worked(World(partitions=1))
    world.append(0, 2)
    world.poll(2, more=True)
    world.stop()
    assert not world.finished
    world.commands()
    world.reports()
    world.end_transaction(m.Outcome.COMMITTED)
    assert world.finished
    assert world.logs[0].committed == 3


def test_stop_with_nothing_to_do_finishes_at_once() -> None:
    world = World(partitions=1)
    world.stop()
    assert world.log == [m.Finish()]


def test_stop_waits_for_the_transaction_of_a_partition_that_is_gone() -> None:
    """Left open, it would keep the partition's next owner waiting until it times out."""
    world = worked(World(partitions=1))
    world.poll()
    assert world.transaction is not None
    world.lose([0])
    world.stop()
    assert not world.finished
    world.end_transaction(m.Outcome.ABORTED)
    assert world.finished


def test_stop_ends_at_its_deadline_whatever_happens() -> None:
    world = worked(World(partitions=1))
    world.stop(5.0)
    assert world.machine.wake_at(world.now) == world.now + 1.0
    world.advance(4.9)
    assert not world.finished
    assert world.machine.wake_at(world.now) == pytest.approx(world.now + 0.1)
    world.advance(0.1)
    assert world.finished


def test_a_second_stop_does_not_move_the_deadline() -> None:
    world = worked(World(partitions=1))
    world.stop(5.0)
    before = len(world.log)
    world.stop(50.0)
    assert world.log[before:] == []
    world.advance(5.0)
    assert world.finished


def test_a_partition_that_comes_while_stopping_is_not_started() -> None:
    world = worked(World(partitions=2))
    world.stop()
    world.assign(1)
    world.place()
    assert world.machine.partitions[1].state is State.DRAINED
    assert not world.fetch[1].seek
