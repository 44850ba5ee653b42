"""Examples: a policy holds one partition for good; the rest is finished and published, then the member ends."""

from __future__ import annotations

import dataclasses

import pytest
from msgspec.structs import replace

from consumer.core import messages as m
from consumer.core.history import DeadLetterLimits, History
from consumer.core.partition import State
from consumer.errors import ExitCode
from tests.unit.core.model import POLICY, World

FAIL = m.Fail(ExitCode.POLICY, "in/0 offset 2: enough")


def failing(limit: int, *, reduces: bool = False) -> World:
    """Partition 0 has nothing but records that fail for good, partition 1 has none."""
    world = World(dataclasses.replace(POLICY, reduces=reduces), partitions=2)
    world.dead_letter_limits = DeadLetterLimits(limit, 1)
    for number in range(2):
        world.append(number, 10)
    fail_all(world)
    return world


def fail_all(world: World) -> None:
    world.failures = {(0, at): [m.FailureKind.PERMANENT] for at in range(10)}


def run(world: World) -> m.Fail:
    world.assign(0, 1)
    for _ in range(50):
        if world.fails:
            break
        world.turn()
    (fail,) = world.fails
    return fail


def test_what_is_finished_is_published_before_the_member_ends() -> None:
    world = failing(limit=3)
    assert run(world).exit_code == ExitCode.POLICY
    assert world.logs[0].published == [("dead", 0), ("dead", 1), ("dead", 2)]
    assert world.logs[0].committed == 3
    assert History.decode(world.logs[0].metadata).dead_run == 3
    assert not any(partition.finished for partition in world.machine.partitions.values())


def test_a_restart_ends_again_without_another_dead_letter_until_the_cause_is_mended() -> None:
    world = failing(limit=3)
    for _ in range(10):
        run(world)
        world.fails = []
        world.restart()
        fail_all(world)
    assert world.logs[0].published == [("dead", 0), ("dead", 1), ("dead", 2)]
    assert world.all_committed() is False
    world.failures = {}
    world.settle_down()
    assert [kind for kind, _ in world.logs[0].published] == ["dead"] * 3 + ["ok"] * 7


def test_with_the_count_taken_out_of_the_metadata_it_goes_on() -> None:
    world = failing(limit=3)
    run(world)
    log = world.logs[0]
    log.metadata = replace(History.decode(log.metadata), dead_run=0, dead_window=0).encode()
    world.fails = []
    world.restart()
    fail_all(world)
    run(world)
    assert log.published == [("dead", at) for at in range(6)]


def test_the_open_batch_is_not_closed_by_it() -> None:
    world = failing(limit=3, reduces=True)
    world.reducer_declines = True
    world.random.random = lambda: 0.9  # type: ignore[method-assign] # it declines always, also the last time
    world.failures.pop((0, 0))
    run(world)
    assert world.logs[0].committed == 0
    assert world.logs[0].published == []


def test_it_ends_at_its_deadline_whatever_is_left() -> None:
    world = World(partitions=1)
    world.append(0, 3)
    world.assign(0)
    world.place()
    world.poll(3)
    drain, unmark = world.handle(m.Halted(0, 1, FAIL))
    assert drain == m.Drain(0, 1)
    assert unmark == m.Transact([], {0: (0, History().encode())}, [])
    world.now += POLICY.stop_seconds - 0.01
    assert world.handle(m.Tick()) == []
    world.now += 0.01
    assert world.handle(m.Tick()) == [FAIL]


@pytest.mark.parametrize("first", [m.Stop(200.0), m.Revoked([0])])
def test_a_member_that_is_told_to_stop_already_or_lost_the_partition_ends_as_it_would(first: m.Event) -> None:
    world = World(partitions=2)
    world.assign(0, 1)
    world.place()
    world.handle(first)
    if isinstance(first, m.Revoked):
        del world.fetch[0]
    world.handle(m.Halted(0, 1, FAIL))
    for number, partition in list(world.machine.partitions.items()):
        if partition.state is State.DRAINING:
            world.handle(m.Drained(number, partition.epoch))
    world.handle(m.Tick())
    assert world.fails == []
    assert world.finished is isinstance(first, m.Stop)
