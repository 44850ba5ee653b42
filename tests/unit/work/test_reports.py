"""What a call may hold up: neither what is finished, nor a command, waits for calls that begin after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

from consumer.core import messages as m
from consumer.core.history import History
from consumer.work import bench as bench_module
from consumer.work.bench import REPORT_SECONDS
from consumer.worker import Worker
from tests.unit.work.shop import FakeRecord, Shop, chunk_of

FAST, SLOW = 0.0001, 60.0


class Turned:
    """A bench that is turned by hand; its clock goes on by what calls take, and by nothing else.

    `calls`: for each partition what its calls do, one after the other: they take so many seconds.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.calls: dict[int, list[Callable[[], float]]] = {}
        self.outbox: SimpleQueue[Any] = SimpleQueue()
        monkeypatch.setattr(bench_module, "time", SimpleNamespace(perf_counter=lambda: self.now))
        self.bench = Shop(Timed(self)).bench
        self.bench.outbox = self.outbox
        self.bench._loop.run_until_complete(self.bench._open())

    def submit(self, number: int, *calls: Callable[[], float]) -> None:
        """A new lane, and its records: one for each call."""
        self.calls[number] = list(calls)
        records = [FakeRecord(at, b"%d" % at, number) for at in range(len(calls))]
        self.bench._open_lane(m.Open(number, 1, History()))
        self.bench._submit(m.Submit(chunk_of(records), 1, {}))

    def fast(self) -> float:
        return FAST

    def interrupted(self) -> float:
        """During the call the poll thread posts something."""
        self.bench._inbox.append(m.Drop(99, 1))
        return FAST

    def slow(self) -> float:
        return SLOW

    def round(self) -> list[tuple[int, int]]:
        """One round, as `_serve` makes them; the partition and offset of what is reported in it."""
        self.bench._inbox.clear()
        self.bench._pump()
        return self.reported()

    def reported(self) -> list[tuple[int, int]]:
        found = []
        while not self.outbox.empty():
            report = self.outbox.get()
            found += [(report.partition, item.first) for item in report.items]
        return found


class Timed(Worker[int]):
    def __init__(self, turned: Turned) -> None:
        self.turned = turned

    def process_checkpoint(self, checkpoint: Any) -> int:
        self.turned.now += self.turned.calls[checkpoint.position.partition].pop(0)()
        return int(checkpoint.sequence_number)


@pytest.fixture
def turned(monkeypatch: pytest.MonkeyPatch) -> Iterator[Turned]:
    made = Turned(monkeypatch)
    yield made
    made.bench._calls.close()
    made.bench._loop.close()


def test_the_result_of_a_slow_call_does_not_wait_for_the_next_one(turned: Turned) -> None:
    turned.submit(0, turned.interrupted, turned.slow, turned.slow)
    assert [turned.round() for _ in range(3)] == [[(0, 0)], [(0, 1)], [(0, 2)]]


def test_what_one_partition_has_finished_does_not_wait_for_a_call_of_another(turned: Turned) -> None:
    seen = []

    def slow() -> float:
        seen.extend(turned.reported())
        return SLOW

    turned.submit(0, turned.interrupted, turned.fast, turned.interrupted, turned.slow)
    assert turned.round() == [(0, 0)]
    turned.submit(1, slow)
    turned.bench.lanes = {number: turned.bench.lanes[number] for number in (0, 1)}  # it is partition 0's turn
    for _ in range(2):
        seen.extend(turned.round())
    assert seen[:3] == [(0, 1), (0, 2), (1, 0)]


def test_a_command_does_not_wait_for_a_call_of_every_partition(turned: Turned) -> None:
    turned.submit(0, turned.fast, turned.interrupted, turned.slow)
    turned.submit(1, turned.slow)
    assert turned.round() == [(0, 0), (0, 1)]
    assert turned.now < 1000.0 + SLOW, "a drain would have to wait: when partitions are revoked there are 3 s for it"
    assert [turned.round(), turned.round()] == [[(1, 0)], [(0, 2)]], "it was the other partition's turn"


def test_other_tasks_do_not_wait_for_a_turn_of_every_partition(turned: Turned) -> None:
    """A reducer's `async def commit` goes on between two rounds."""
    for number in range(5):
        turned.submit(number, lambda: 0.6 * REPORT_SECONDS)
    assert [turned.round() for _ in range(3)] == [[(0, 0), (1, 0)], [(2, 0), (3, 0)], [(4, 0)]]
