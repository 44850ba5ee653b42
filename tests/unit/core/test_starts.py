"""The checkpoint that kills its process is found by the count of starts in the committed metadata, whoever meets it."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.core import messages as m
from consumer.core.history import History, Mark
from consumer.core.starts import ALONE_DEATHS, TRIAL_DEATHS, TRIAL_RECORDS
from tests.unit.core.model import POLICY, World

KILLER = (1, 7)


class Life:
    """Lives of a member on partitions that other members may own in between; `killers` end the process."""

    def __init__(self, killers: set[tuple[int, int]], *, reduces: bool = False) -> None:
        self.world = World(dataclasses.replace(POLICY, reduces=reduces), partitions=3)
        self.killers = killers
        for number, log in self.world.logs.items():
            self.world.append(number, 12)
            log.committed = 0
        self.deaths = 0

    def live(self, turns: int = 400) -> bool:
        """Whether everything is committed; False: the process died."""
        world = self.world
        world.restart()
        world.assign(*world.logs)
        for _ in range(turns):
            world.commands()
            if self.met():
                self.deaths += 1
                world.transaction = None
                return False
            world.turn()
            if world.all_committed():
                return True
        raise AssertionError("it does not get to the end")

    def live_until_all_is_done(self) -> None:
        for _ in range(60):
            if self.live():
                break
        self.world.check_output()
        assert self.world.all_committed()
        assert self.dead() == self.killers

    def met(self) -> bool:
        """Whether a killer is started: what is condemned is not even read."""
        return any(
            (number, slot.record.at) in self.killers and slot.record.at not in lane.condemned
            for number, lane in self.world.bench.lanes.items()
            for slot in lane.slots
            if slot.state != "done"
        )

    def dead(self) -> set[tuple[int, int]]:
        return {(n, at) for n, log in self.world.logs.items() for kind, at in log.published if kind == "dead"}


@pytest.mark.parametrize("declines", [None, False, True], ids=["direct", "reduced", "declined"])
@pytest.mark.parametrize("killers", [{(1, 0)}, {KILLER}, {KILLER, (1, 8)}, {KILLER, (0, 0), (2, 11)}])
def test_killers_become_dead_letters_and_nothing_else_does(
    killers: set[tuple[int, int]], declines: bool | None
) -> None:
    life = Life(killers, reduces=declines is not None)
    life.world.reducer_declines = bool(declines)
    life.live_until_all_is_done()


@settings(max_examples=60)
@given(
    killers=st.sets(st.tuples(st.integers(0, 2), st.integers(0, 11)), max_size=3),
    reduces=st.booleans(),
    seed=st.integers(0, 1000),
    at_once=st.booleans(),
)
def test_wherever_they_lie(killers: set[tuple[int, int]], reduces: bool, seed: int, at_once: bool) -> None:
    life = Life(killers, reduces=reduces)
    life.world.random.seed(seed)
    life.world.marks_at_once = at_once
    life.world.reducer_declines = bool(seed % 2)
    life.live_until_all_is_done()


def test_it_takes_three_deaths_until_records_run_alone_and_two_more_to_find_the_one() -> None:
    life = Life({(1, 0)})
    life.live_until_all_is_done()
    assert life.deaths == TRIAL_DEATHS + ALONE_DEATHS


# -------------------------------------------------------------------------------------------------- the count


def mark(world: World, number: int = 0) -> Mark:
    return History.decode(world.logs[number].metadata).mark


def owned(found: Mark | None = None, *, partitions: int = 1, records: int = 3, reduces: bool = False) -> World:
    """Partitions that have just been sought; `found` is what the metadata of number 0 said."""
    world = World(dataclasses.replace(POLICY, reduces=reduces), partitions)
    for number, log in world.logs.items():
        log.committed = 0
        if number == 0 and found is not None:
            log.metadata = History(mark=found).encode()
        world.append(number, records)
    world.assign(*world.logs)
    world.place()
    world.place()
    return world


def named(world: World, deaths: int = 0) -> Mark:
    """That this process is at work."""
    return Mark(deaths, process=world.machine.starts.process)


def submitted(world: World) -> list[tuple[int, list[int]]]:
    return [(c.chunk.partition, list(c.chunk.offsets)) for c in world.log if isinstance(c, m.Submit)]


def test_nothing_is_written_before_something_is_fetched() -> None:
    world = owned(records=0)
    world.advance(1.0)
    world.handle(m.Revoking([0]))
    assert not any(isinstance(command, m.Transact) for command in world.log)


def test_nothing_is_worked_on_before_the_start_is_counted_and_one_transaction_counts_all() -> None:
    world = owned(partitions=3)
    world.marks_at_once = False
    world.poll()
    assert world.transaction is not None
    assert world.transaction.offsets == {n: (0, History(mark=named(world)).encode()) for n in range(3)}
    world.end_transaction(m.Outcome.ABORTED)
    world.advance(5.0)
    world.end_transaction(m.Outcome.UNKNOWN, truth=False)
    world.settle()
    assert submitted(world) == []
    world.advance(5.0)
    for _ in range(2):
        world.place()
    world.poll()
    world.end_transaction(m.Outcome.COMMITTED)
    assert submitted(world) == [(n, [0, 1, 2]) for n in range(3)]


def test_a_new_partition_is_marked_where_its_first_record_lies() -> None:
    world = World(partitions=1)
    world.append(0, 3, hole=5)
    world.assign(0)
    world.place()
    world.place()
    world.poll()
    assert (world.logs[0].committed, mark(world)) == (5, named(world))


def test_a_commit_clears_the_count() -> None:
    world = owned(Mark(2))
    world.poll()
    assert mark(world) == named(world, 2)
    world.settle_down()
    assert mark(world) == Mark()


@pytest.mark.parametrize("leave", [m.Revoking([0]), m.Stop(1e9)], ids=["revoked", "stopped"])
def test_giving_it_back_in_order_leaves_what_was_found(leave: m.Event) -> None:
    world = owned(Mark(2))
    world.poll()
    assert mark(world) == named(world, 2)
    world.handle(leave)
    assert mark(world) == Mark(2)
    world.commands()
    world.reports()
    assert world.machine.drained([0])


def test_what_waits_is_not_worked_on_once_its_partition_leaves() -> None:
    world = owned()
    world.marks_at_once = False
    world.poll()
    world.handle(m.Revoking([0]))
    world.end_transaction(m.Outcome.COMMITTED)
    world.end_transaction(m.Outcome.COMMITTED)
    assert (submitted(world), mark(world), world.held_bytes) == ([], Mark(), 0)


def test_a_process_that_died_is_counted_by_the_next_and_one_that_lives_is_not() -> None:
    world = owned()
    world.poll()
    world.lose([0])
    world.assign(0)
    world.place()
    world.place()
    world.poll()
    assert mark(world) == named(world, 0)
    world.restart()
    world.assign(0)
    world.place()
    world.place()
    world.poll()
    assert mark(world) == named(world, 1)


# -------------------------------------------------------------------------------------------------- the trial


def on_trial(alone: dict[int, int] | None = None, partitions: int = 1) -> World:
    world = owned(Mark(TRIAL_DEATHS, alone or {}), partitions=partitions)
    world.poll(3)
    return world


def suspect(world: World, number: int = 0) -> int | None:
    assert mark(world, number).process == world.machine.starts.process
    return mark(world, number).suspect


def work_one(world: World) -> None:
    world.commands()
    world.work_all()
    world.reports()


def test_the_commit_of_a_record_names_the_next_one() -> None:
    world = on_trial()
    assert (submitted(world), suspect(world)) == ([(0, [0])], 0)
    work_one(world)
    assert world.transaction is not None
    world.end_transaction(m.Outcome.COMMITTED)
    assert (submitted(world), suspect(world)) == ([(0, [0]), (0, [1])], 1)
    work_one(world)
    world.end_transaction(m.Outcome.COMMITTED)
    work_one(world)
    world.end_transaction(m.Outcome.COMMITTED)
    assert mark(world) == Mark(), "nothing more waits: the trial is over"
    transactions = [command for command in world.log if isinstance(command, m.Transact)]
    assert len(transactions) == 1 + 3


def test_the_others_wait_until_the_trial_is_over() -> None:
    world = on_trial(partitions=2)
    assert submitted(world) == [(0, [0])]
    for _ in range(3):
        work_one(world)
        world.end_transaction(m.Outcome.COMMITTED)
        world.advance(0.1)
    assert submitted(world)[:4] == [(0, [0]), (0, [1]), (0, [2]), (1, [0, 1, 2])]


def test_what_runs_already_ends_first() -> None:
    world = owned(Mark(TRIAL_DEATHS), partitions=2)
    world.handle(m.Records(world.fetched(3, [1])))
    world.handle(m.Records(world.fetched(3, [0])))
    assert submitted(world) == [(1, [0, 1, 2])]
    work_one(world)
    assert submitted(world) == [(1, [0, 1, 2])]
    world.end_transaction(m.Outcome.COMMITTED)
    assert submitted(world)[1:] == [(0, [0])]


def test_a_trial_ends_after_so_many_records() -> None:
    world = owned(Mark(TRIAL_DEATHS), records=TRIAL_RECORDS + 20)
    while mark(world) != Mark():
        world.turn()
    alone = [offsets for _, offsets in submitted(world) if len(offsets) == 1]
    assert TRIAL_RECORDS <= len(alone) <= TRIAL_RECORDS + 5
    world.settle_down()


def test_an_aborted_commit_names_nobody_else() -> None:
    world = on_trial()
    work_one(world)
    world.end_transaction(m.Outcome.ABORTED)
    world.advance(5.0)
    assert (submitted(world), suspect(world)) == ([(0, [0])], 0)


def test_who_died_while_it_ran_alone_is_counted_and_the_second_time_it_is_written_off() -> None:
    world = on_trial()
    for deaths in range(1, ALONE_DEATHS + 1):
        world.restart()
        world.assign(0)
        world.place()
        world.place()
        world.poll(3)
        assert mark(world).alone == ({0: deaths} if deaths < ALONE_DEATHS else {0: 1})
        assert world.machine.partitions[0].unread == (set() if deaths < ALONE_DEATHS else {0})
    world.settle_down()
    assert world.logs[0].published == [("dead", 0), ("ok", 1), ("ok", 2)]


def test_deaths_at_ever_other_records_fit_into_the_metadata() -> None:
    world = owned(Mark(500, {2**62 + at: 1 for at in range(500)} | {2**62 - 1: ALONE_DEATHS}, 77, 2**62 + 500))
    partition = world.machine.partitions[0]
    assert len(History(mark=partition.found).encode()) < 2000
    assert {2**62 - 1, 2**62 + 499, 2**62 + 500} <= set(partition.found.alone)


def test_the_process_that_named_it_lives_and_blames_nobody() -> None:
    world = on_trial({0: 1})
    world.lose([0])
    world.assign(0)
    world.place()
    world.place()
    assert not world.machine.partitions[0].condemned
    world.poll(3)
    assert mark(world) == Mark(TRIAL_DEATHS, {0: 1}, world.machine.starts.process, 0)


def test_a_record_that_runs_on_while_its_partition_is_given_back_is_named_no_more() -> None:
    world = on_trial({0: 1})
    world.handle(m.Revoking([0]))
    assert mark(world) == Mark(TRIAL_DEATHS, {0: 1})


def test_a_trial_that_is_given_back_goes_on_at_the_next_owner() -> None:
    world = on_trial({0: 1})
    world.commands()
    world.work_all()
    world.handle(m.Revoking([0]))
    work_one(world)
    world.end_transaction(m.Outcome.COMMITTED)
    assert (world.logs[0].committed, mark(world).deaths) == (1, TRIAL_DEATHS)


def test_a_retry_that_waits_in_a_trial_makes_no_other_partition_stand_still() -> None:
    world = on_trial(partitions=2)
    world.failures[0, 0] = [m.FailureKind.TRANSIENT]
    work_one(world)
    reach = m.Reach({0, 1}, calling=())
    world.handle(reach)
    world.now += POLICY.stuck_seconds + 1
    assert not any(isinstance(command, m.Stuck) for command in world.handle(reach))


def test_an_open_batch_keeps_its_partition_on_trial_and_no_other_from_running() -> None:
    world = owned(Mark(TRIAL_DEATHS), partitions=2, records=1, reduces=True)
    world.reducer_declines = True
    world.bench._closes = lambda: False
    world.poll()
    assert submitted(world) == [(0, [0])]
    work_one(world)
    assert submitted(world) == [(0, [0]), (1, [0])]
    assert mark(world) == named(world, TRIAL_DEATHS), "it names no record any more"
    for _ in range(2):
        work_one(world)  # the second time it answers that it keeps its batch open
    world.append(0, 2)
    world.poll()
    assert submitted(world)[2:] == [(0, [1])]
    assert suspect(world) == 1


def test_nothing_runs_while_the_named_partition_starts_over() -> None:
    world = owned(Mark(TRIAL_DEATHS), partitions=2)
    world.machine.partitions[1].found = Mark(TRIAL_DEATHS)
    world.poison = {(0, 0)}
    world.poll()
    work_one(world)
    world.end_transaction(m.Outcome.COMMITTED)  # the broker refuses it
    world.settle()
    world.advance(5.0)
    assert submitted(world) == [(0, [0])]
    world.place()
    world.handle(m.Tick())
    assert submitted(world) == [(0, [0]), (1, [0])]
    assert suspect(world) is None
    world.settle_down()
