"""The checkpoint that kills its process is found by the count of starts in the committed metadata, whoever meets it."""

from __future__ import annotations

import dataclasses

import pytest

from consumer.core import messages as m
from consumer.core.history import History
from consumer.core.starts import TRIAL_DEATHS, TRIAL_STARTS
from tests.unit.core.model import POLICY, World, running

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


@pytest.mark.parametrize("reduces", [False, True], ids=["direct", "reduced"])
@pytest.mark.parametrize("killers", [{(1, 0)}, {KILLER}, {KILLER, (1, 8)}, {KILLER, (0, 0), (2, 11)}])
def test_killers_become_dead_letters_and_nothing_else_does(killers: set[tuple[int, int]], reduces: bool) -> None:
    life = Life(killers, reduces=reduces)
    for _ in range(60):
        if life.live():
            break
    life.world.check_output()
    assert life.world.all_committed()
    assert life.dead() == killers


def test_it_takes_three_deaths_until_records_run_alone_and_two_more_to_find_the_one() -> None:
    life = Life({(1, 0)})
    while not life.live():
        pass
    assert life.deaths == TRIAL_STARTS + TRIAL_DEATHS


def starts(world: World, number: int = 0) -> int:
    return History.decode(world.logs[number].metadata).starts


def begun() -> World:
    """A partition that has just begun, nothing of it committed yet."""
    world = World(partitions=1)
    world.logs[0].committed = 0
    world.append(0, 3)
    world.assign(0)
    world.place()
    assert running(world, 0)
    assert starts(world) == 1
    return world


def test_a_commit_clears_the_count() -> None:
    world = begun()
    world.settle_down()
    assert starts(world) == 0


def test_giving_the_partition_back_in_order_clears_the_count() -> None:
    world = begun()
    world.handle(m.Revoking([0]))
    world.commands()
    world.reports()
    world.lose([0])
    assert starts(world) == 0


def test_losing_it_does_not() -> None:
    world = begun()
    world.lose([0])
    world.assign(0)
    world.place()
    assert starts(world) == 2


def test_going_back_to_the_committed_offset_is_no_start() -> None:
    world = begun()
    world.machine._out = []
    world.machine._start_over(world.machine.partitions[0])
    world.commands()
    for command in world.machine._out:
        world._do(command)
    world.place()
    assert starts(world) == 1


def test_nothing_is_worked_on_before_the_start_is_counted() -> None:
    world = World(partitions=1)
    world.marks_at_once = False
    world.logs[0].committed = 0
    world.append(0, 3)
    world.assign(0)
    world.place()
    world.poll()
    assert world.transaction is not None
    assert not running(world, 0)
    world.end_transaction(m.Outcome.ABORTED)
    assert not running(world, 0)
    world.advance(5.0)
    world.end_transaction(m.Outcome.COMMITTED)
    assert running(world, 0)


def test_an_unknown_outcome_is_not_taken_for_a_count() -> None:
    world = World(partitions=1)
    world.marks_at_once = False
    world.logs[0].committed = 0
    world.assign(0)
    world.place()
    world.end_transaction(m.Outcome.UNKNOWN, truth=False)
    world.settle()
    assert not running(world, 0)
    world.advance(5.0)
    world.end_transaction(m.Outcome.COMMITTED)
    assert running(world, 0)
    assert starts(world) == 1


def on_trial() -> World:
    """Three processes died, and the first record is named and runs alone."""
    world = World(partitions=1)
    log = world.logs[0]
    log.committed, log.metadata = 0, History(starts=TRIAL_STARTS).encode()
    world.append(0, 3)
    world.assign(0)
    world.place()
    world.poll(3)
    assert History.decode(log.metadata).suspect == 0
    assert [command.chunk.offsets for command in world.inbox if isinstance(command, m.Submit)] == [[0]]
    return world


def test_whoever_finds_a_name_lets_that_record_run_alone_once_more_and_the_next_one_writes_it_off() -> None:
    world = on_trial()
    world.restart()
    world.assign(0)
    world.place()
    assert not world.machine.partitions[0].condemned
    world.poll(3)
    assert History.decode(world.logs[0].metadata).suspect == 0
    assert [command.chunk.offsets for command in world.inbox if isinstance(command, m.Submit)] == [[0]]
    world.restart()
    world.assign(0)
    world.place()
    assert list(world.machine.partitions[0].condemned) == [0]
    assert world.machine.partitions[0].unread == {0}


def test_the_process_that_named_it_lives_and_blames_nobody() -> None:
    world = on_trial()
    world.lose([0])
    world.assign(0)
    world.place()
    assert not world.machine.partitions[0].condemned


def test_a_record_that_runs_on_while_its_partition_is_given_back_is_named_no_more() -> None:
    world = on_trial()
    world.handle(m.Revoking([0]))
    assert History.decode(world.logs[0].metadata).marked((0, None)) == History.decode(world.logs[0].metadata)
