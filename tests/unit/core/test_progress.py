"""The progress watchdog: what counts as standing still, what does not, and the ladder of remedies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.core import faults
from consumer.core import messages as m
from consumer.core.item import Item
from consumer.core.machine import Machine
from consumer.core.partition import Partition, State
from consumer.core.progress import Progress
from consumer.errors import ExitCode
from consumer.records import Record
from tests.unit.core.model import POLICY, World, running

STUCK = POLICY.stuck_seconds
LOST = m.Reach({0}, calling=())


def started(records: int = 0) -> World:
    """Partition 0 runs, and everything that has come is committed."""
    world = World(partitions=2)
    world.append(0, records)
    world.assign(0)
    for _ in range(records + 3):
        world.turn()
    assert running(world, 0)
    return world


def stands(world: World, reach: m.Reach = LOST, seconds: float = STUCK) -> list[m.Command]:
    """Nothing happens for `seconds`, in which the brokers say four times how far the partitions reach."""
    commands = world.handle(reach)
    for _ in range(4):
        world.now += seconds / 4 + 1e-9
        commands += world.handle(reach)
    return commands


def remedies(commands: list[m.Command]) -> list[str]:
    return [command.remedy for command in commands if isinstance(command, m.Stuck)]


def test_the_ladder() -> None:
    world = started(3)

    assert remedies(stands(world, seconds=STUCK - 1)) == []
    first = stands(world, seconds=2)
    assert remedies(first) == ["seek"]
    assert [type(command) for command in first][:3] == [m.Stuck, m.Drop, m.Pause]
    world.place()
    assert world.fetch[0].position == world.logs[0].committed
    second = stands(world)
    assert remedies(second) == ["rejoin"]
    world.lose([0])
    world.assign(0)
    world.place()
    third = stands(world)
    assert remedies(third) == ["exit"]
    (fail,) = [command for command in third if isinstance(command, m.Fail)]
    assert fail.exit_code == ExitCode.UNEXPECTED
    assert fail.message.startswith("in/0 stands still: running for 120 s at offset 3 (committed 3, 0 records in work)")


def test_a_partition_whose_offset_alone_is_not_told_is_waited_for() -> None:
    """A transaction holds it, or hangs. The client works: it has told of the others, and would have to leave them."""
    world = World(partitions=2)
    world.assign(0, 1)
    world.commands()
    del world.locating[0]
    world.place()
    assert remedies([command for _ in range(4) for command in stands(world)]) == ["wait"] * 4
    world.lose([1])
    assert remedies(stands(world)) == ["seek"]


def test_what_moved_starts_at_the_first_remedy_again() -> None:
    world = started()
    assert remedies(stands(world)) == ["seek"]
    world.append(0, 1)
    for _ in range(5):
        world.turn()
    assert remedies(stands(world)) == ["seek"]


def test_what_only_comes_again_is_no_progress() -> None:
    """The work thread lost records: they are fetched again after each remedy, and lost again."""
    world = started()
    world.append(0, 2)
    for expected in ("seek", "rejoin"):
        world.place()
        world.now += 1.0
        world.poll()
        assert world.machine.partitions[0].in_work == 2
        assert remedies(stands(world, m.Reach((), calling=()))) == [expected]
        world.inbox.clear()


def waits_for_a_retry(world: World) -> None:
    world.append(0, 1)
    world.poll()
    world.machine.retries._timers.append((1e9, 0, world.machine.partitions[0].epoch, 0))


def is_in_a_transaction(world: World) -> None:
    world.append(0, 1)
    world.poll()
    world.commands()
    world.work_all()
    world.reports()
    world.advance(1.0)
    assert world.transaction is not None


def failed_to_publish(world: World) -> None:
    is_in_a_transaction(world)
    world.end_transaction(m.Outcome.ABORTED)
    world.machine.flusher.not_before = 1e9


def is_paused(world: World) -> None:
    world.machine.partitions[0].blocked_until = 1e9
    world.advance(0.1)
    assert world.fetch[0].paused


def has_a_reducer_that_is_asked(world: World) -> None:
    world.machine.partitions[0].state = State.POSITIONING


@pytest.mark.parametrize(
    "happens", [waits_for_a_retry, is_in_a_transaction, failed_to_publish, is_paused, has_a_reducer_that_is_asked]
)
def test_what_has_a_reason_to_wait_is_not_stuck(happens: Callable[[World], Any]) -> None:
    world = started()
    happens(world)
    assert remedies(stands(world, seconds=10 * STUCK)) == []


@pytest.mark.parametrize("calling", [0, 1, -1])
def test_a_long_call_excuses_what_is_in_work_but_not_what_is_not_fetched(calling: int) -> None:
    world = started()
    assert remedies(stands(world, m.Reach({0}, calling={calling}))) == ["seek"]
    world.place()
    world.append(0, 1)
    world.poll()
    assert remedies(stands(world, m.Reach({0}, calling={calling}))) == []


def looks(world: World, calling: int, begins: Callable[[int], Mapping[int, int]]) -> list[str]:
    """What is said over ten times the limit, in which user code always runs for partition `calling`."""
    said = []
    for look in range(40):
        said += remedies(world.handle(m.Reach((), calling={calling}, begun=begins(look))))
        world.now += STUCK / 4 + 1e-9
    return said


def with_work_on_0() -> World:
    world = started()
    world.append(0, 1)
    world.poll()
    return world


def test_one_that_is_passed_over_while_others_have_turn_after_turn_is_stuck() -> None:
    assert looks(with_work_on_0(), 1, lambda look: {1: look}) == ["seek"], "then it is not in work any more"


def test_one_whose_own_call_is_long_is_not_whatever_the_others_do() -> None:
    assert looks(with_work_on_0(), 0, lambda look: {1: look}) == []


def test_one_that_waits_for_its_turn_among_many_with_long_calls_is_not() -> None:
    """Each of the others has a turn in every third interval: a round takes longer than two of them."""
    assert looks(with_work_on_0(), 1, lambda look: {number: (look + number) // 3 for number in range(1, 9)}) == []


def test_what_waits_for_the_trial_of_another_one_is_not() -> None:
    progress = Progress(STUCK)
    waits = Partition(0, 1, State.RUNNING, in_work=1)
    waits.waiting.append(m.Chunk(0, [cast(Record, Blank())], [0], 1))
    given = Partition(1, 1, State.RUNNING, in_work=1)
    found = [progress.stuck([waits, given], m.Reach((), {2}, {2: look}), (), look * STUCK / 4) for look in range(9)]
    assert {standing.partition.number for standings in found for standing in standings} == {1}


def test_an_open_batch_that_waits_and_a_partition_at_its_end_are_not_stuck() -> None:
    world = started(2)
    world.machine.partitions[0].batch_messages = 5
    assert remedies(stands(world, m.Reach((), calling=()))) == []


def test_one_that_is_never_located_is_stuck_too() -> None:
    world = World(partitions=1)
    world.assign(0)
    assert remedies(stands(world)) == ["seek"]
    assert set(world.locating) == {0}


def test_while_the_brokers_say_nothing_nothing_is_stuck() -> None:
    world = started()
    world.now += 100 * STUCK
    assert remedies(world.handle(m.Tick())) == []


@given(st.lists(st.tuples(st.floats(1, STUCK / 2), st.booleans()), min_size=2, max_size=40))
def test_the_first_remedy_comes_when_the_time_has_passed_and_never_before(schedule: list[tuple[float, bool]]) -> None:
    world = started()
    since: float | None = None
    for seconds, moves in schedule:
        world.now += seconds
        if moves:
            world.append(0, 1)
            for _ in range(4):
                world.turn()
            since = None
            continue
        due = since is not None and world.now - since >= STUCK
        since = world.now if since is None else since
        assert remedies(world.handle(LOST)) == (["seek"] if due else [])
        if due:
            return


# ------------------------------------------------------------------------------------------- client errors


SOUGHT = [m.Pause([0]), m.Seek(0, 2), m.Resume([0])]


def test_the_position_is_sought_after_every_client_error() -> None:
    world = started(2)
    assert world.handle(m.FetchFailed(0, "bad checksum")) == SOUGHT


def test_three_errors_at_one_offset_pause_the_partition_and_the_others_go_on() -> None:
    world = started(2)
    world.assign(1)
    world.turn()
    for _ in range(faults.MOST - 1):
        assert remedies(world.handle(m.FetchFailed(0, "bad checksum"))) == []
        world.advance(0.5)
    said = world.handle(m.FetchFailed(0, "bad checksum"))
    assert remedies(said) == ["wait"]
    assert m.Pause([0]) in said
    world.append(1, 3)
    for _ in range(3):
        world.turn()
    assert world.logs[1].committed == 3
    assert world.fetch[0].paused


@pytest.mark.parametrize(
    "ends",
    [
        [m.TransactionEnded(m.Outcome.ABORTED, "its partitions were given back"), m.Revoked([0])],
        [m.TransactionEnded(m.Outcome.UNKNOWN, "it was committed"), m.Settled({0: 1})],
    ],
)
def test_a_transaction_that_failed_and_is_not_sent_again_excuses_nothing(ends: list[m.Event]) -> None:
    machine, now = Machine(POLICY, Random(0)), 100.0
    for located in machine.handle(m.Assigned([0, 1]), now):
        assert isinstance(located, m.Locate)
        machine.handle(m.Located(located.partition, located.epoch, 0, ""), now)
    machine.handle(m.Records([m.Chunk(0, [cast(Record, Blank())], [0], 1)]), now)
    machine.handle(m.TransactionEnded(m.Outcome.COMMITTED), now)  # its start is counted
    commands = machine.handle(m.Worked(0, machine.partitions[0].epoch, [Item(0, 0, 1, [], 0)], 1, 1), now)
    assert any(isinstance(command, m.Transact) for command in commands)
    for event in ends:
        machine.handle(event, now + 1)

    said = [command for after in range(10) for command in machine.handle(m.Reach({1}), now + after * STUCK)]

    assert "seek" in remedies(said)


class Blank:
    def value(self) -> bytes:
        return b"x"


def test_it_is_tried_again_with_backoff_and_one_success_ends_it() -> None:
    world = started(2)
    world.append(0, 1)
    for _ in range(faults.MOST):
        world.handle(m.FetchFailed(0, "bad checksum"))
    waits = []
    for _ in range(8):
        partition = world.machine.partitions[0]
        waits.append(partition.blocked_until - world.now)
        world.now = partition.blocked_until
        assert m.Resume([0]) in world.handle(m.Tick())
        world.place()
        world.handle(m.FetchFailed(0, "bad checksum"))
        assert partition.paused, "one more error is enough"
    assert min(waits) >= 1.0
    assert 50 < max(waits) <= 301
    world.now = world.machine.partitions[0].blocked_until
    world.handle(m.Tick())
    world.settle_down()
    assert remedies(world.handle(m.FetchFailed(0, "another"))) == []


def test_what_comes_while_it_waits_is_sought_again_and_not_counted() -> None:
    world = started(2)
    for _ in range(faults.MOST):
        world.handle(m.FetchFailed(0, "bad checksum"))
    until = world.machine.partitions[0].blocked_until
    assert world.handle(m.OutOfRange(0, 3_835_153_952_260_044_596, "late")) == [m.Seek(0, 2)]
    assert world.machine.partitions[0].blocked_until == until


def test_errors_at_different_offsets_are_not_counted_together() -> None:
    world = started()
    for _ in range(6):
        assert remedies(world.handle(m.FetchFailed(0, "late"))) == []
        world.append(0, 1)
        for _ in range(5):
            world.turn()


def test_an_error_from_before_the_start_was_known_means_nothing() -> None:
    world = World(partitions=1)
    world.assign(0)
    assert world.handle(m.FetchFailed(0, "stale")) == []


def test_an_offset_that_comes_out_of_a_damaged_batch_is_a_client_error_like_the_batch_itself() -> None:
    world = started(2)
    world.handle(m.FetchFailed(0, "bad checksum"))
    assert world.handle(m.OutOfRange(0, 3_835_153_952_260_044_596, "out of range")) == SOUGHT
    assert remedies(world.handle(m.FetchFailed(0, "bad checksum"))) == ["wait"]
    assert world.fails == []
    world.handle(m.OutOfRange(0, 2, "retention took the damaged batch away"))
    assert [fail.exit_code for fail in world.fails] == [ExitCode.POLICY]


def test_the_offset_that_a_client_is_assigned_at_may_be_out_of_range() -> None:
    world = started(2)
    assert world.handle(m.OutOfRange(0, 0, "out of range")) == SOUGHT
    assert world.fails == []


def test_a_new_partition_is_sought_at_its_beginning_wherever_that_is() -> None:
    world = World(partitions=1)
    world.assign(0)
    world.turn()
    beginning = [m.Pause([0]), m.Seek(0, None), m.Resume([0])]
    assert world.handle(m.OutOfRange(0, 0, "its first records are gone")) == beginning
    assert world.handle(m.FetchFailed(0, "bad checksum")) == beginning
    assert remedies(world.handle(m.OutOfRange(0, 3_835_153_952_260_044_596, "out of it"))) == []
    assert remedies(world.handle(m.FetchFailed(0, "bad checksum"))) == ["wait"]
    assert world.fails == []


def test_the_first_offset_that_a_group_was_told_to_start_at_is_not_skipped() -> None:
    world = World(partitions=1)
    world.logs[0].committed = 0
    world.assign(0)
    world.turn()
    world.handle(m.OutOfRange(0, 0, "its first records are gone"))
    assert [fail.exit_code for fail in world.fails] == [ExitCode.POLICY]
