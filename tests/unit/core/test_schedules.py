"""Random schedules of everything that can happen to a member, in any order, judged by the model of the broker.

What holds in every one of them is in `World`: a transaction publishes and commits exactly what was delivered and is
finished, offsets never go back, what an old epoch says has no effect, one transaction at a time, memory is accounted
for to the byte, nothing is due before the time that the machine names, and it never spins. Once the faults are over,
everything is published once, in order, and committed.
"""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from consumer.core import messages as m
from consumer.core.history import DeadLetterLimits, History, Mark
from consumer.core.machine import Policy
from consumer.core.starts import TRIAL_DEATHS
from consumer.errors import ExitCode
from tests.unit.core.lanes import TOO_MANY
from tests.unit.core.model import NO_LIMIT, POLICY, World

PARTITIONS = 3
NUMBERS = st.integers(0, PARTITIONS - 1)
KINDS = st.sampled_from(m.FailureKind)
RARELY = st.integers(0, 5).map(lambda drawn: 5 - drawn)
OUTCOMES = st.sampled_from(m.Outcome)


class Schedules(RuleBasedStateMachine):
    """Direct mode."""

    reduces = False
    poison: tuple[tuple[int, int], ...] = ()

    @initialize(seed=st.integers(0, 1000), deaths=st.lists(st.integers(0, TRIAL_DEATHS), max_size=PARTITIONS))
    def begin(self, seed: int, deaths: list[int]) -> None:
        self.world = self.make_world(dataclasses.replace(POLICY, reduces=self.reduces), seed)
        for number in range(PARTITIONS):
            self.world.append(number, 3)
        for number, count in enumerate(deaths):
            log = self.world.logs[number]
            log.committed, log.metadata = 0, History(mark=Mark(count)).encode()
        self.world.poison.update(self.poison)
        self.world.assign(*range(PARTITIONS))

    def make_world(self, policy: Policy, seed: int) -> World:
        world = World(policy, PARTITIONS, seed)
        world.marks_at_once = bool(seed % 2)
        return world

    # ------------------------------------------------------------------------------------------- input

    @rule(
        number=NUMBERS, count=st.integers(1, 8), hole=st.sampled_from([0, 0, 1, 5]), size=st.sampled_from([0, 40, 400])
    )
    def records_come_in(self, number, count, hole, size):
        self.world.append(number, count, hole=hole, size=size)

    @rule(number=NUMBERS, ahead=st.integers(0, 5), kinds=st.lists(KINDS, min_size=1, max_size=4))
    def the_worker_will_fail(self, number, ahead, kinds):
        world = self.world
        offset = (world.logs[number].committed or 0) + ahead
        world.failures[number, offset] = list(kinds)
        if self.reduces:
            world.failures[number, -1 - offset] = [m.FailureKind.TRANSIENT] * len(kinds)

    @rule(number=NUMBERS, ahead=st.integers(0, 5))
    def the_worker_publishes_nothing_for(self, number, ahead):
        log = self.world.logs[number]
        self.world.filtered.add((number, log.end + ahead))

    # ------------------------------------------------------------------------------------------ the group

    def alive(self) -> bool:
        return not self.world.finished

    @precondition(lambda self: self.alive() and len(self.world.fetch) < PARTITIONS)
    @rule(data=st.data())
    def assigned(self, data):
        free = [number for number in range(PARTITIONS) if number not in self.world.fetch]
        self.world.assign(*data.draw(st.lists(st.sampled_from(free), min_size=1, unique=True)))

    @precondition(lambda self: self.alive() and self.world.fetch)
    @rule(data=st.data(), turns=st.integers(0, 5), others=st.integers(0, 2))
    def revoked(self, data, turns, others):
        owned = sorted(self.world.fetch)
        numbers = data.draw(st.lists(st.sampled_from(owned), min_size=1, unique=True))
        self.world.revoke(numbers, turns=turns, others=others)

    @precondition(lambda self: self.alive() and self.world.fetch)
    @rule(data=st.data())
    def lost(self, data):
        self.world.lose([data.draw(st.sampled_from(sorted(self.world.fetch)))])

    @precondition(lambda self: len(self.world.fetch) < PARTITIONS)
    @rule(number=NUMBERS, count=st.integers(1, 3))
    def another_member_works(self, number, count):
        if number not in self.world.fetch:
            self.world.other_member(number, count)

    @precondition(lambda self: self.alive() and self.world.transaction is not None)
    @rule(again=st.booleans(), place=st.booleans(), outcome=OUTCOMES, truth=st.booleans())
    def lost_in_the_middle_of_a_transaction(self, again, place, outcome, truth):
        world = self.world
        assert world.transaction is not None
        numbers = [number for number in world.transaction.offsets if number in world.fetch]
        if numbers:
            world.lose(numbers[:2])
        if again and self.alive():
            world.assign(*numbers[:2])
        if place and self.alive():
            world.place()
        if self.alive():
            world.end_transaction(outcome, truth=truth)

    @precondition(lambda self: self.alive() and self.world.machine.retries.next_at() is not None)
    @rule(again=st.booleans())
    def lost_while_a_retry_waits(self, again):
        world = self.world
        numbers = list(world.fetch)
        world.lose(numbers)
        if again and numbers:
            world.assign(*numbers)
            world.turn()

    # --------------------------------------------------------------------------------------------- turns

    @precondition(alive)
    @rule(most=st.integers(1, 5), more=st.booleans())
    def poll(self, most, more):
        self.world.poll(most, more=more)

    @precondition(alive)
    @rule(seeks=st.sampled_from([True, True, False]))
    def place(self, seeks):
        self.world.place(seeks=seeks)

    @precondition(lambda self: self.world.inbox)
    @rule(count=st.integers(1, 10))
    def commands_arrive(self, count):
        self.world.commands(count)

    @precondition(lambda self: self.world.bench.lanes)
    @rule(number=NUMBERS, ahead=st.sampled_from([0, 0, 0, 1, 3]))
    def work(self, number, ahead):
        self.world.work(number, ahead)

    @rule()
    def work_all(self):
        self.world.commands()
        self.world.work_all()

    @precondition(lambda self: self.alive() and self.world.outbox)
    @rule(count=st.integers(1, 10))
    def reports_arrive(self, count):
        self.world.reports(count)

    @precondition(alive)
    @rule(seconds=st.sampled_from([0.001, 0.03, 0.3, 1.5, 10.0]))
    def time_passes(self, seconds):
        self.world.advance(seconds)

    @precondition(alive)
    @rule(fraction=st.floats(0.0, 1.0, exclude_max=True))
    def woken_early(self, fraction):
        self.world.early_tick(fraction)

    @precondition(alive)
    @rule(outcomes=st.lists(OUTCOMES, min_size=1, max_size=5), truth=st.booleans())
    def turns(self, outcomes, truth):
        for outcome in outcomes:
            if self.alive():
                self.world.turn(outcome, truth=truth)

    @precondition(alive)
    @rule(count=st.integers(1, 4))
    def all_goes_well(self, count):
        for _ in range(count):
            if self.alive():
                self.world.turn()

    # --------------------------------------------------------------------------------------- transactions

    @precondition(lambda self: self.alive() and self.world.transaction is not None)
    @rule(outcome=OUTCOMES, truth=st.booleans())
    def a_transaction_ends(self, outcome, truth):
        self.world.end_transaction(outcome, truth=truth)

    @precondition(lambda self: self.alive() and self.world.rebuild is not None)
    @rule()
    def settled(self):
        self.world.settle()

    # ------------------------------------------------------------------------------------------ the end

    @precondition(alive)
    @rule(seconds=st.sampled_from([0.0, 0.5, 10.0]), turns=st.integers(0, 10), chance=RARELY)
    def told_to_stop(self, seconds, turns, chance):
        if chance:
            return
        world = self.world
        world.stop(seconds)
        deadline = world.machine.stop_deadline
        assert deadline is not None
        for _ in range(turns):
            if self.alive():
                world.turn()
        assert world.finished or world.now < deadline, "it does not stop"

    @rule(chance=RARELY)
    def the_process_dies(self, chance):
        if not chance:
            self.world.restart()

    @precondition(lambda self: self.world.finished)
    @rule()
    def a_new_process(self):
        self.judge(self.world.fails)
        self.world.fails = []
        self.world.restart()

    def judge(self, fails: list[m.Fail]) -> None:
        """A member that ends by itself has a reason."""
        for fail in fails:
            assert fail.exit_code == ExitCode.FENCED, fail.message

    @invariant()
    def what_is_published_is_right(self):
        self.world.check_output()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.judge(self.world.fails)
            self.world.settle_down()


class RefusedSchedules(Schedules):
    """Direct mode, and the broker refuses some of the results for good: they become dead letters."""

    poison = ((0, 1), (1, 0), (1, 2), (2, 4))

    @rule(number=NUMBERS, ahead=st.integers(0, 5))
    def the_broker_will_refuse(self, number, ahead):
        self.world.poison.add((number, self.world.logs[number].end + ahead))


class ReducedSchedules(Schedules):
    """With a reducer, which declines at times."""

    reduces = True

    @rule(declines=st.booleans())
    def the_reducer_declines(self, declines):
        self.world.reducer_declines = declines

    def judge(self, fails: list[m.Fail]) -> None:
        for fail in fails:
            outgrown = fail.exit_code == ExitCode.POLICY and "CONSUMER_MEMORY__MAX_BYTES" in fail.message
            assert outgrown or fail.exit_code == ExitCode.FENCED, fail.message


class Limited(Schedules):
    """Few dead letters are allowed: none is ever committed beyond."""

    def make_world(self, policy: Policy, seed: int) -> World:
        world = super().make_world(policy, seed)
        world.dead_letter_limits = DeadLetterLimits(1, 0.003)
        world.restart()
        return world

    def judge(self, fails: list[m.Fail]) -> None:
        super().judge([fail for fail in fails if TOO_MANY not in fail.message])

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.judge(self.world.fails)
            self.world.dead_letter_limits = NO_LIMIT
            self.world.restart()
            self.world.settle_down()


class LimitedSchedules(Limited, RefusedSchedules):
    """Dead letters of the worker's and of the broker's making."""


class LimitedReducedSchedules(Limited, ReducedSchedules):
    """Dead letters in the middle of batches."""


@pytest.mark.parametrize(
    "machine", [Schedules, RefusedSchedules, ReducedSchedules, LimitedSchedules, LimitedReducedSchedules]
)
def test_every_schedule_ends_with_everything_published_once(machine):
    run_state_machine_as_test(machine, settings=settings(max_examples=100, stateful_step_count=60))
