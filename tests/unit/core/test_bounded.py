"""Bounded runs end by themselves, at the limit, under random schedules, one member or two after each other."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.core import messages as m
from consumer.core.partition import State
from consumer.core.starts import ALONE_DEATHS, TRIAL_DEATHS
from consumer.limits import CaughtUp, EndOfEpoch, Limits, MaxCheckpoint
from consumer.partitioning import Partitioning
from tests.unit.core.model import POLICY, FakeRecord, World

PARTITIONS = 3
MODULO, UNKNOWN = Partitioning.parse("modulo"), Partitioning.parse("unknown")


def bounded(until: Any, partitioning: Partitioning = UNKNOWN, *, reduces: bool = False, **kw: Any) -> World:
    limits = Limits(until, partitioning, PARTITIONS, **kw)
    world = World(dataclasses.replace(POLICY, reduces=reduces, limits=limits), PARTITIONS)
    world.reducer_declines = reduces
    return world


def feed(world: World, numbers: range, *, epoch_length: int = 1000) -> None:
    """Checkpoints as `feed --partition-by modulo` lays them, with a hole before each."""
    for sequence in numbers:
        log = world.logs[sequence % PARTITIONS]
        log.end += sequence % 2
        epoch, at = divmod(sequence, epoch_length)
        record = FakeRecord(sequence % PARTITIONS, log.end, sequence, epoch, at == epoch_length - 1, 40)
        log.records.append(record)
        log.end += 1


def run(world: World, turns: int = 300, *, noise: Any = None) -> None:
    """Turn until every partition has ended, as the supervisor sees it."""
    if not world.fetch:
        world.assign(*range(PARTITIONS))
    for _ in range(turns):
        if len(world.machine.ended) == PARTITIONS:
            break
        if noise is not None:
            noise(world)
        if world.finished:  # fenced twice: the supervisor starts another
            world.fails = []
            world.restart()
            world.assign(*range(PARTITIONS))
        world.turn()
    assert sorted(world.machine.ended) == list(range(PARTITIONS)), "it does not end"
    assert not world.fails
    assert world.held_bytes == 0, "an ended partition holds nothing"
    assert all(fetch.paused for fetch in world.fetch.values())


def committed(world: World) -> list[int]:
    """The sequence numbers of what is committed."""
    return sorted(
        record.sequence_number
        for log in world.logs.values()
        for record in log.records
        if record.at < (log.committed or 0)
    )


@pytest.mark.parametrize("reduces", [False, True])
@pytest.mark.parametrize("partitioning", [MODULO, UNKNOWN])
@pytest.mark.parametrize("more", [0, 1, 2, 30])
def test_the_run_ends_after_its_last_checkpoint(partitioning: Partitioning, more: int, reduces: bool) -> None:
    """Also where nothing comes after it, or nothing in some partitions."""
    world = bounded(MaxCheckpoint(20), partitioning, reduces=reduces)
    feed(world, range(21 + more))
    run(world)
    assert committed(world) == list(range(21))
    world.check_output()


@pytest.mark.parametrize("partitioning", [MODULO, UNKNOWN])
def test_the_run_ends_when_the_rest_comes_in_later(partitioning: Partitioning) -> None:
    world = bounded(MaxCheckpoint(20), partitioning)
    world.assign(*range(PARTITIONS))
    feed(world, range(10))
    for _ in range(20):
        world.turn()
    assert world.machine.ended == []
    feed(world, range(10, 21))
    run(world)
    assert committed(world) == list(range(21))


def test_a_partition_that_has_no_number_within_the_limit_ends_at_once() -> None:
    world = bounded(MaxCheckpoint(1), MODULO)
    feed(world, range(9))
    world.assign(2)
    world.place()
    assert world.machine.ended == [2]
    world.assign(0, 1)
    run(world)
    assert committed(world) == [0, 1]


@pytest.mark.parametrize("reduces", [False, True])
@pytest.mark.parametrize("more", [0, 1, 30])
def test_the_end_of_an_epoch(more: int, reduces: bool) -> None:
    world = bounded(EndOfEpoch(1), reduces=reduces)
    feed(world, range(20 + more), epoch_length=10)
    run(world)
    assert committed(world) == list(range(20))
    world.check_output()


@pytest.mark.parametrize("reduces", [False, True])
def test_caught_up_ends_at_the_ends_at_start(reduces: bool) -> None:
    world = bounded(CaughtUp(), reduces=reduces)
    feed(world, range(20))
    world.logs[1].end += 5  # a marker, or compacted records, at the end
    limits = dataclasses.replace(world.policy.limits, ends={number: log.end for number, log in world.logs.items()})
    world.policy = dataclasses.replace(world.policy, limits=limits)
    world.restart()
    feed(world, range(20, 40))
    run(world)
    assert committed(world) == list(range(20))
    world.check_output()


def test_caught_up_with_an_empty_topic_ends_at_once() -> None:
    world = bounded(CaughtUp(), ends=dict.fromkeys(range(PARTITIONS), 0))
    world.assign(*range(PARTITIONS))
    world.place()
    assert len(world.machine.ended) == PARTITIONS


def test_caught_up_with_what_retention_took_away_ends_at_the_end_of_the_partition() -> None:
    """The partition begins at its end: nothing will ever be delivered."""
    world = bounded(CaughtUp(), ends=dict.fromkeys(range(PARTITIONS), 7))
    for log in world.logs.values():
        log.end = 7
    run(world)


def test_a_second_run_to_the_same_limit_ends_at_once() -> None:
    for partitioning in (MODULO, UNKNOWN):
        world = bounded(MaxCheckpoint(20), partitioning)
        feed(world, range(21))
        run(world)
        before = [list(log.published) for log in world.logs.values()]
        world.restart()
        run(world, turns=5)
        assert [list(log.published) for log in world.logs.values()] == before


def test_the_limit_that_another_member_met_ends_this_one() -> None:
    """This member's partitions have nothing past the limit, and the last checkpoint is not theirs."""
    world = bounded(MaxCheckpoint(20))
    feed(world, range(20))
    world.assign(0, 1)
    for _ in range(30):
        world.turn()
    assert world.machine.ended == []
    world.handle(m.LimitReached())
    for _ in range(5):
        world.turn()
    assert sorted(world.machine.ended) == [0, 1]


def test_the_end_of_a_partition_is_where_it_ends_by_then() -> None:
    """It stood at its end before; what came in since is part of the run."""
    world = bounded(MaxCheckpoint(20))
    feed(world, range(6))
    world.assign(*range(PARTITIONS))
    for _ in range(10):
        world.turn()
    assert all(partition.at_end for partition in world.machine.partitions.values())
    feed(world, range(6, 21))
    world.poll(1)
    world.handle(m.LimitReached())
    run(world)
    assert committed(world) == list(range(21))


def test_the_limit_is_known_once_it_is_committed() -> None:
    world = bounded(MaxCheckpoint(3))
    feed(world, range(4))
    world.assign(*range(PARTITIONS))
    while not world.machine.limit_reached:
        assert 3 not in committed(world)
        world.turn()
    assert 3 in committed(world)


def test_a_batch_that_holds_the_last_checkpoint_is_closed_unasked() -> None:
    world = bounded(MaxCheckpoint(20), reduces=True)
    world.bench._closes = lambda: False
    feed(world, range(21))
    run(world)
    assert committed(world) == list(range(21))


@pytest.mark.parametrize("event", [m.Stop(1e9), m.Revoking([0, 1, 2])])
def test_an_ended_partition_has_nothing_left_to_drain(event: m.Event) -> None:
    world = bounded(MaxCheckpoint(20))
    feed(world, range(25))
    run(world)
    before = len(world.log)
    world.handle(event)
    assert not any(isinstance(command, m.Drain) for command in world.log[before:])
    assert world.machine.drained([0, 1, 2])


def test_a_partition_that_ends_while_it_is_given_back_is_drained() -> None:
    world = bounded(MaxCheckpoint(20), MODULO)
    feed(world, range(21))
    world.assign(*range(PARTITIONS))
    while not any(partition.state is State.ENDING for partition in world.machine.partitions.values()):
        world.commands()
        world.work_all()
        world.reports()
        world.place()
        world.poll(10)
    world.revoke(list(range(PARTITIONS)), turns=10)
    run(world)
    assert committed(world) == list(range(21))
    world.check_output()


def test_an_ended_partition_does_not_make_the_others_hurry() -> None:
    """Transactions stay as large as they would be without it."""
    world = bounded(MaxCheckpoint(3000), MODULO)
    feed(world, range(30))
    world.assign(*range(PARTITIONS))
    world.place()
    world.handle(m.Worked(0, 1, [], 0, 0, past_limit=True))
    world.handle(m.Drained(0, 1))
    assert world.machine.ended == [0]
    world.handle(m.Records(world.fetched(2, [1]), more=True))
    world.commands()
    world.work_all()
    world.reports()
    assert world.transaction is None


def run_with_faults(world: World) -> None:
    """Run to the end through twenty random troubles.

    Four deaths at most: a fifth could write off the record that ran alone, also one beyond the limit.
    """
    for sequence in range(0, 40, 3):
        world.failures[sequence % PARTITIONS, sequence // 3] = [m.FailureKind.TRANSIENT, m.FailureKind.RETRIABLE]
    trouble, deaths = [20], [TRIAL_DEATHS + ALONE_DEATHS - 1]

    def noise(world: World) -> None:
        if trouble[0] == 0 or len(world.machine.ended) == PARTITIONS:
            return
        trouble[0] -= 1
        chance = world.random.random()
        if chance < 0.2 and deaths[0]:
            deaths[0] -= 1
            world.restart()
            world.assign(*range(PARTITIONS))
        elif chance < 0.4:
            world.revoke([0, 2], turns=world.random.randrange(4), others=2)
            world.assign(0, 2)
        elif chance < 0.9:
            world.turn(world.random.choice([m.Outcome.ABORTED, m.Outcome.UNKNOWN]), truth=chance < 0.6)

    run(world, turns=600, noise=noise)


UNTIL = st.sampled_from([(MaxCheckpoint(20), MODULO), (MaxCheckpoint(20), UNKNOWN), (EndOfEpoch(1), UNKNOWN)])


@given(UNTIL, st.integers(0, 30), st.booleans(), st.integers(0, 10_000))
def test_faults_do_not_keep_a_bounded_run_from_its_end(
    until: tuple[Any, Partitioning], more: int, reduces: bool, seed: int
) -> None:
    """Aborts, unknown outcomes, failures, rebalances and restarts on the way; the limit holds all the same."""
    world = bounded(*until, reduces=reduces)
    world.random.seed(seed)
    last = 20 if isinstance(until[0], MaxCheckpoint) else 19
    feed(world, range(last + 1 + more), epoch_length=10)
    run_with_faults(world)
    assert committed(world) == list(range(last + 1))
    world.check_output()
