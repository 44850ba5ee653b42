"""Examples: the memory budget, who is paused and when, and what must not hold up the others."""

from __future__ import annotations

import dataclasses

from consumer.core import messages as m
from consumer.core.budget import HOLD_SECONDS
from consumer.errors import ExitCode
from tests.unit.core.model import POLICY, World


def fetched(world: World, number: int, count: int, size: int = 40) -> None:
    """Records come in and are fetched at once; nothing is done with them."""
    world.append(number, count, size=size)
    world.place()
    world.handle(m.Records(world.fetched(count, [number]), more=True))


def start(partitions: int = 2, **policy: object) -> World:
    world = World(dataclasses.replace(POLICY, **policy), partitions=partitions)  # type: ignore[arg-type]
    world.assign(*range(partitions))
    world.place()
    return world


def paused(world: World) -> set[int]:
    return {number for number, fetch in world.fetch.items() if fetch.paused}


def work(world: World, *numbers: int) -> None:
    world.commands()
    for number in numbers:
        while world.bench.lanes[number].startable():
            world.work(number)
    world.reports()


def test_a_full_budget_is_held_for_a_second_and_then_paused() -> None:
    world = start(memory_bytes=1000)
    for _ in range(30):  # both partitions make some progress all the time, so neither is stuck
        fetched(world, 0, 1)
    assert world.machine.holding, "at 1,000 bytes of 40 each"
    assert paused(world) == set(), "the prefetch is kept"
    world.commands()
    world.advance(HOLD_SECONDS / 2)
    world.work(0)
    world.reports()
    assert world.machine.holding
    world.advance(HOLD_SECONDS / 2)
    assert paused(world) == {0, 1}
    assert not world.machine.holding, "then it polls"


def test_it_goes_on_at_half_of_the_budget() -> None:
    world = start(memory_bytes=1000)
    fetched(world, 0, 30)
    world.commands()
    world.advance(HOLD_SECONDS / 2)
    world.work(0)
    world.reports()
    world.advance(HOLD_SECONDS / 2)
    assert paused(world) == {0, 1}
    while world.held_bytes > 500:
        assert world.machine.budget.full
        assert paused(world) == {0, 1}
        world.work(0)
        world.reports()
        if world.transaction is not None:
            world.end_transaction(m.Outcome.COMMITTED)
            world.handle(m.Tick())
    assert not world.machine.budget.full
    world.place()
    assert 1 not in paused(world)
    world.settle_down()


def test_a_record_larger_than_the_budget_is_admitted_alone() -> None:
    world = start(memory_bytes=1000)
    fetched(world, 0, 1, size=5000)
    assert world.machine.budget.full
    assert world.machine.budget.room == 0
    world.settle_down()
    assert world.machine.budget.room == 1000


def test_unsent_results_count() -> None:
    world = start(1, memory_bytes=30)
    world.append(0, 3, size=0)
    world.poll(3, more=True)
    work(world, 0)
    assert world.held_bytes == 30
    assert world.machine.budget.full
    assert world.transaction is not None, "urgent"


def test_a_partition_whose_retry_waits_does_not_hold_up_the_others() -> None:
    """Its queue fills the budget; the others go on with what is left, at least half of it."""
    world = start(memory_bytes=1000)
    world.failures[0, 0] = [m.FailureKind.TRANSIENT] * 50
    fetched(world, 0, 25)
    work(world, 0)
    assert world.machine.budget.full
    world.advance(HOLD_SECONDS)
    world.place()
    assert paused(world) == {0}, "it alone"
    assert not world.machine.holding
    assert world.machine.budget.room == 500
    for _ in range(40):
        world.append(1, 5)
        world.turn()
    assert (world.logs[1].committed or 0) > 100
    assert world.logs[0].committed == 0
    world.settle_down()


def test_a_partition_that_waits_takes_in_no_more_than_its_share() -> None:
    world = start(memory_bytes=1000)
    world.failures[0, 0] = [m.FailureKind.TRANSIENT] * 50
    fetched(world, 0, 3)
    work(world, 0)
    world.advance(HOLD_SECONDS)
    assert paused(world) == set(), "120 bytes of 250"
    fetched(world, 0, 4)
    assert paused(world) == {0}
    assert not world.machine.budget.full


def test_pauses_are_said_once_and_taken_back_once() -> None:
    """The model refuses a second pause or resume."""
    world = start(3, memory_bytes=300)
    for turn in range(60):
        world.append(turn % 3, 3)
        world.turn()
    world.settle_down()
    assert paused(world) == set()
    kinds = [type(command) for command in world.log if isinstance(command, m.Pause | m.Resume)]
    assert m.Pause in kinds


def test_an_open_batch_that_outgrows_the_budget_ends_the_member() -> None:
    world = start(1, reduces=True, memory_bytes=25)
    world.reducer_declines = True
    world.handle(m.Worked(0, 1, [], 0, 0, 3, 30))
    (fail,) = world.fails
    assert fail.exit_code == ExitCode.POLICY
    assert "the 25 that are half of CONSUMER_MEMORY__MAX_BYTES" in fail.message
    assert "the reducer's open batch of in/0 holds 30 bytes in 3 messages" in fail.message


def test_open_batches_that_fill_the_budget_together_end_the_member_rather_than_wait_for_ever() -> None:
    world = start(2, reduces=True, memory_bytes=100)
    world.handle(m.Worked(0, 1, [], 0, 0, 3, 50))
    world.handle(m.Worked(1, 2, [], 0, 0, 4, 60))
    asked = [command for command in world.log if isinstance(command, m.Ask)]
    assert {ask.partition for ask in asked} == {0, 1}, "both are asked first"
    assert world.fails == []
    world.handle(m.Answered(0, 1, declined=True))
    assert world.fails == []
    world.handle(m.Answered(1, 2, declined=True))
    (fail,) = world.fails
    assert "the reducer's open batch of in/1 holds 60 bytes in 4 messages, all open batches 110 bytes" in fail.message


def test_a_batch_that_is_being_committed_is_waited_for() -> None:
    world = start(2, reduces=True, memory_bytes=100)
    world.handle(m.Worked(0, 1, [], 0, 0, 3, 50))
    world.handle(m.Worked(1, 2, [], 0, 0, 4, 60))
    world.handle(m.Answered(0, 1, declined=False))
    world.handle(m.Answered(1, 2, declined=True))
    world.advance(5.0)
    assert world.fails == []


def test_a_batch_that_was_declined_before_it_was_closed_is_waited_for_as_well() -> None:
    world = start(2, reduces=True, memory_bytes=100)
    world.handle(m.Worked(0, 1, [], 0, 0, 3, 50))
    world.handle(m.Worked(1, 2, [], 0, 0, 4, 60))
    world.handle(m.Answered(0, 1, declined=True))
    world.advance(POLICY.flush.max_seconds)
    world.handle(m.Answered(0, 1, declined=False))
    world.handle(m.Answered(1, 2, declined=True))
    assert world.fails == []


def test_open_batches_below_the_budget_do_not_stop_the_input() -> None:
    """Declined batches do not shrink: waiting for half of the budget would be waiting for ever."""
    world = start(1, reduces=True, memory_bytes=100)
    fetched(world, 0, 3)
    assert world.machine.budget.full
    world.handle(m.Worked(0, 1, [], 3, 120, 3, 80))
    world.handle(m.Answered(0, 1, declined=True))
    world.place()
    assert not world.machine.budget.full
    assert paused(world) == set()
    assert world.machine.budget.room == 20


def test_what_a_bounded_run_dropped_is_given_back() -> None:
    """Records past the limit must not fill the budget for the partitions that are not done."""
    world = start(2, memory_bytes=1000)
    fetched(world, 0, 20)
    world.handle(m.Worked(0, 1, [], 0, 0, past_limit=True))
    world.handle(m.Drained(0, 1))
    assert world.held_bytes == 0
    assert world.machine.in_work == 0
    assert world.machine.partitions[0].position == 0
