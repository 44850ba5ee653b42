"""Examples: when the reducer is asked with None about an open batch."""

from __future__ import annotations

import dataclasses

import pytest

from consumer.core import messages as m
from consumer.core.history import History
from consumer.core.item import Item
from tests.unit.core.model import POLICY, World

LINGER, OLD = POLICY.flush.linger_seconds, POLICY.flush.max_seconds


def start(partitions: int = 1) -> World:
    world = World(dataclasses.replace(POLICY, reduces=True), partitions=partitions)
    world.assign(*range(partitions))
    world.place()
    return world


def grow(world: World, messages: int, number: int = 0, items: int = 0) -> None:
    """A checkpoint goes into the open batch of the partition, behind `items` that were closed."""
    partition = world.machine.partitions[number]
    world.append(number, 1)
    at = world.logs[number].end - 1
    world.filtered.add((number, at))
    world.handle(m.Records(world.fetched(1, [number]), more=True))
    done = [Item(partition.delivered[0], at - 1, len(partition.delivered) - 1, [], 0, History(at - 1))] if items else []
    world.handle(m.Worked(number, partition.epoch, done, 1, 40, messages, 10 * messages))


def asks(world: World) -> list[int]:
    return [command.partition for command in world.log if isinstance(command, m.Ask)]


def test_asked_when_nothing_more_is_ready() -> None:
    world = start()
    grow(world, 1)
    assert asks(world) == []
    world.handle(m.Records([]))
    assert asks(world) == [0]


def test_asked_once_about_the_same_batch_until_it_is_old() -> None:
    world = start()
    grow(world, 1)
    world.handle(m.Records([]))
    world.advance(10.0)
    assert asks(world) == [0], "not before it has answered"
    world.handle(m.Answered(0, 1, declined=True))
    world.handle(m.Records([]))
    world.advance(OLD / 2)
    assert asks(world) == [0]
    assert world.machine.wake_at(world.now) == pytest.approx(world.now + OLD / 2)
    world.advance(OLD / 2)
    assert asks(world) == [0, 0], "a limit is reached again"


def test_asked_again_when_it_has_grown() -> None:
    world = start()
    grow(world, 1)
    world.handle(m.Records([]))
    world.handle(m.Answered(0, 1, declined=True))
    grow(world, 2)
    world.handle(m.Records([]))
    assert asks(world) == [0, 0]


def test_a_new_batch_of_the_size_at_which_the_last_one_was_declined_is_asked_about() -> None:
    world = start()
    grow(world, 1)
    world.handle(m.Records([]))
    world.handle(m.Answered(0, 1, declined=True))
    grow(world, 1, items=1)
    world.handle(m.Records([]))
    world.end_transaction(m.Outcome.COMMITTED)
    world.advance(LINGER)
    assert asks(world) == [0, 0]


def test_not_asked_while_records_of_the_partition_are_in_work() -> None:
    world = start()
    grow(world, 1)
    world.append(0, 1)
    world.handle(m.Records(world.fetched(1)))
    world.advance(OLD / 2)
    assert asks(world) == []


def test_asked_after_max_seconds_whatever_is_ready() -> None:
    world = start()
    grow(world, 1)
    world.append(0, 1)
    world.handle(m.Records(world.fetched(1), more=True))
    assert world.machine.wake_at(world.now) == pytest.approx(world.now + OLD)
    world.advance(OLD)
    assert asks(world) == [0]


def test_the_linger_is_waited_for() -> None:
    world = start()
    grow(world, 1)
    grow(world, 1, items=1)
    world.advance(OLD)
    assert world.transaction is not None
    asked = len(asks(world))
    world.handle(m.Answered(0, 1, declined=True))
    world.end_transaction(m.Outcome.COMMITTED)
    grow(world, 2)
    world.handle(m.Records([]))
    assert len(asks(world)) == asked
    world.advance(LINGER)
    assert len(asks(world)) == asked + 1


def test_a_partition_without_input_is_asked_although_others_have_some() -> None:
    world = start(2)
    grow(world, 1, number=0)
    for _ in range(10):
        world.now += LINGER / 5
        grow(world, 1, number=1)
    assert asks(world) == [0]


def test_asked_at_once_when_the_memory_is_full() -> None:
    world = start()
    grow(world, 1)
    world.append(0, 30)
    world.handle(m.Records(world.fetched(30), more=True))
    assert asks(world) == [0]


def test_not_asked_while_it_is_being_closed() -> None:
    world = start()
    grow(world, 1)
    world.handle(m.Records([]))
    world.handle(m.Answered(0, 1, declined=False))
    world.advance(10 * OLD)
    assert asks(world) == [0]
    world.handle(m.Worked(0, 1, [Item(0, 0, 1, [], 0, History(0))], 0, 0, 0, 0))
    grow(world, 1)
    world.end_transaction(m.Outcome.COMMITTED)
    world.handle(m.Records([]))
    world.advance(10 * OLD)
    assert asks(world) == [0, 0]


@pytest.mark.parametrize("event", [m.Revoking([0]), m.Stop(1e9)])
def test_a_partition_that_leaves_is_asked_by_its_drain_alone(event: m.Event) -> None:
    world = start()
    grow(world, 1)
    world.handle(event)
    world.handle(m.Records([]))
    world.advance(10 * OLD)
    assert asks(world) == []
    assert any(isinstance(command, m.Drain) for command in world.log)


def test_a_batch_that_was_dropped_at_revoke_is_committed_by_nobody() -> None:
    world = World(dataclasses.replace(POLICY, reduces=True), partitions=1)
    world.append(0, 3)
    world.reducer_declines = True
    world.random.seed(7)
    world.assign(0)
    world.place()
    world.poll(3, more=True)
    world.commands()
    world.bench._closes = lambda: False
    world.work_all()
    world.reports()
    world.revoke([0], turns=5)
    assert world.logs[0].published == []
    del world.bench._closes
    world.settle_down()
