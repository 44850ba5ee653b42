"""Which calls of user code are told to be under way."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from consumer import Reducer, Worker
from consumer.core import messages as m
from consumer.work.underway import WORKER, Underway
from tests.unit.work.shop import Shop


class Waits(Worker[int]):
    def __init__(self) -> None:
        self.inside, self.go = threading.Event(), threading.Event()

    def process_checkpoint(self, checkpoint: Any) -> int:
        self.inside.set()
        self.go.wait(10)
        return 1


@pytest.mark.parametrize("at_once", [1, 3])
def test_the_oldest_call_of_the_worker_and_its_checkpoint(at_once: int) -> None:
    worker = Waits()
    with Shop(worker, max_in_flight=at_once) as shop:
        shop.submit([4, 5, 6], start=50)
        assert worker.inside.wait(10)
        found = shop.bench.underway.longest()
        worker.go.set()
        shop.until_items(3)
        assert found
        assert found[1] == "the worker of in/0 offset 50"
        assert shop.bench.underway.longest() is None


def test_a_failed_call_is_over() -> None:
    class Fails(Worker[int]):
        def process_checkpoint(self, checkpoint: Any) -> int:
            raise ValueError

    with Shop(Fails()) as shop:
        shop.submit([0])
        shop.until(m.Failed)
        assert shop.bench.underway.longest() is None


def test_a_reducers_calls_are_told_too() -> None:
    seen: list[str] = []

    class Tells(Reducer[int, int]):
        def should_close_batch(self, batch: Any, next_message: Any) -> bool:
            seen.append(tell())
            return True

        def commit(self, batch: Any) -> list[int]:
            seen.append(tell())
            return []

        def start_offset(self, topic: str, partition: int) -> int | None:
            seen.append(tell())
            return None

        def open(self, context: Any) -> None:
            seen.append(tell())

    def tell() -> str:
        found = shop.bench.underway.longest()
        return found[1] if found else "nothing"

    class Once(Worker[int]):
        def process_checkpoint(self, checkpoint: Any) -> int:
            return 1

    shop = Shop(Once(), Tells())
    with shop:
        shop.post(m.Position(2, 1))
        shop.until(m.Positioned)
        shop.submit([1])
        shop.until(m.Worked)
        shop.post(m.Ask(0, 1))
        shop.until(m.Answered)
        shop.until_items(1)
    assert seen == [
        "open of Tells",
        "start_offset of in/2",
        "should_close_batch of in/0",
        "the reducer's commit of in/0 offset 0",
    ]


def test_which_partitions_are_called_for_and_which_had_their_turn() -> None:
    underway = Underway("in")
    first, commit = underway.begin(WORKER, 3, 7), underway.begin("the reducer's commit", 4, 9)
    assert underway.partitions() == {3, 4}
    assert underway.begun() == {3: first}, "a commit beside the others is no turn of the work thread"
    underway.end(first)
    underway.end(commit)
    assert underway.partitions() == set()
    assert underway.begun() == {3: first}
