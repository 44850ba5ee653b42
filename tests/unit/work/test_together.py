"""The state machine and the real work thread's code together, under the same random schedules as the model.

The bench is not started: the test turns its loop, and says when each call of user code ends. So every schedule can be
played again, and what holds for the model of the work thread is shown to hold for the work thread.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable
from queue import SimpleQueue
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from consumer.checkpoint import Position
from consumer.core import messages as m
from consumer.core.audit import SequencePolicy
from consumer.core.machine import Policy
from consumer.errors import PermanentError, TransientError
from consumer.limits import Limits, MaxCheckpoint
from consumer.records import OutRecord
from consumer.reducer import Batch, Reducer
from consumer.work.bench import Bench
from consumer.work.job import Job
from consumer.work.lane import Lane
from consumer.work.publish import DeadLetters, Publisher, Target
from consumer.worker import Context, Worker
from tests.unit.core import test_bounded, test_schedules
from tests.unit.core.model import POLICY, FakeRecord, World

ERRORS = {
    m.FailureKind.TRANSIENT: TransientError,
    m.FailureKind.RETRIABLE: ValueError,
    m.FailureKind.PERMANENT: PermanentError,
}


class RealBench:
    """The bench's own code, turned by hand; stands where `ModelBench` does."""

    def __init__(self, world: World, max_in_flight: int) -> None:
        self.world = world
        self.calls: dict[int, list[asyncio.Future[None]]] = {}
        self.bench = Bench(self._job(max_in_flight), SimpleQueue())
        self.loop = self.bench._loop
        self.loop.run_until_complete(self.bench._open())

    def _job(self, max_in_flight: int) -> Job:
        world = self.world
        return Job(
            make_worker=lambda: GatedWorker(self),
            make_reducer=(lambda: GatedReducer(self)) if world.policy.reduces else None,
            decoder=lambda worker: self._decode,
            publisher=Publisher(Target("out", 1000, 10**6, lambda message: f"ok:{message}".encode()), {}),
            dead_letters=DeadLetters("dlq", 1000, 10**6, "group", "in"),
            limits=world.policy.limits,
            sequence=SequencePolicy(),
            dead_letter_limits=world.dead_letter_limits,
            context=Context("group", 0, "in"),
            max_in_flight=max_in_flight,
            max_messages=world.policy.flush.max_messages,
            max_bytes=world.policy.flush.max_bytes,
        )

    def _decode(self, value: bytes | None, position: Position) -> FakeRecord:
        records = self.world.logs[position.partition].records
        return next(record for record in records if record.at == position.offset)

    @property
    def lanes(self) -> dict[int, Lane]:
        return self.bench.lanes

    async def gate(self, number: int) -> None:
        """Called by user code: waits until the schedule lets it go on."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.calls.setdefault(number, []).append(future)
        await future

    def fail(self, number: int, key: int) -> None:
        failures = self.world.failures.get((number, key))
        if failures:
            raise ERRORS[failures.pop(0)]("no")

    def handle(self, command: Any) -> None:
        self.bench._handlers[type(command)](command)
        self._spin()

    def work(self, number: int, ahead: int) -> None:
        calls = self.calls.get(number)
        if calls:
            calls.pop(min(ahead, len(calls) - 1)).set_result(None)
            self._spin()

    def work_all(self) -> None:
        while any(self.calls.values()):
            for number in list(self.calls):
                self.work(number, 0)

    def _spin(self) -> None:
        async def turns() -> None:
            for _ in range(4):
                while self.bench._pump():  # noqa: ASYNC110 - as the bench's own loop
                    await asyncio.sleep(0)
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())
        while not self.bench.outbox.empty():
            report = self.bench.outbox.get()
            assert isinstance(report, m.Event), report
            self.world.outbox.append(report)

    def close(self) -> None:
        async def cancel() -> None:
            for task in self.bench._tasks:
                task.cancel()
            await asyncio.gather(*self.bench._tasks, return_exceptions=True)

        self.loop.run_until_complete(cancel())
        self.loop.close()


class GatedWorker(Worker[str]):
    def __init__(self, bench: RealBench) -> None:
        self.bench = bench

    async def process_checkpoint(self, record: FakeRecord) -> str | None:
        await self.bench.gate(record.number)
        self.bench.fail(record.number, record.at)
        return None if (record.number, record.at) in self.bench.world.filtered else str(record.at)


class GatedReducer(Reducer[str, str]):
    def __init__(self, bench: RealBench) -> None:
        self.bench = bench

    def should_close_batch(self, batch: Batch[str], next_message: str | None) -> bool:
        assert len(batch) > 0
        world = self.bench.world
        return not world.reducer_declines or world.random.random() < 0.2

    async def commit(self, batch: Batch[str]) -> list[str]:
        await self.bench.gate(batch.partition)
        self.bench.fail(batch.partition, -1 - batch.last_offset)
        assert batch.id == f"in/{batch.partition}/{batch.first_offset}-{batch.last_offset}"
        return [",".join(batch)]


class RealWorld(World):
    """The model's broker and poll thread around the real work thread."""

    max_in_flight = 3

    def make_bench(self) -> RealBench:
        if hasattr(self, "bench"):
            self.close()
        return RealBench(self, self.max_in_flight)

    def close(self) -> None:
        self.bench.close()

    def offsets_in(self, outs: Iterable[OutRecord]) -> list[tuple[str, int]]:
        found = []
        for out in outs:
            if out.topic == "dlq":
                found.append(("dead", int(dict(out.headers)["__connect.errors.offset"])))
            else:
                found += super().offsets_in([out])
        return found


def roomy(policy: Policy) -> Policy:
    """The real sizes of records are larger than the model's."""
    return dataclasses.replace(policy, memory_bytes=5000, flush=dataclasses.replace(policy.flush, max_bytes=2000))


class Together(test_schedules.Schedules):
    def make_world(self, policy: Policy, seed: int) -> World:
        return RealWorld(roomy(policy), test_schedules.PARTITIONS, seed)

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            if hasattr(self, "world"):
                self.world.close()  # type: ignore[attr-defined]


class RefusedTogether(Together, test_schedules.RefusedSchedules):
    pass


class ReducedTogether(Together, test_schedules.ReducedSchedules):
    pass


class LimitedTogether(Together, test_schedules.LimitedSchedules):
    """As above, with limits to dead letters."""


@pytest.mark.parametrize("machine", [Together, RefusedTogether, ReducedTogether, LimitedTogether])
def test_every_schedule_ends_with_everything_published_once(machine: Any) -> None:
    run_state_machine_as_test(machine, settings=settings(max_examples=40, stateful_step_count=50))


@settings(max_examples=40)
@given(test_bounded.UNTIL, st.integers(0, 30), st.booleans(), st.integers(0, 10_000))
def test_bounded_runs_end(until: Any, more: int, reduces: bool, seed: int) -> None:
    limit, partitioning = until
    limits = Limits(limit, partitioning, test_bounded.PARTITIONS)
    policy = roomy(dataclasses.replace(POLICY, reduces=reduces, limits=limits))
    world = RealWorld(policy, test_bounded.PARTITIONS, seed)
    world.reducer_declines = reduces
    last = 20 if isinstance(limit, MaxCheckpoint) else 19
    test_bounded.feed(world, range(last + 1 + more), epoch_length=10)
    try:
        test_bounded.run_with_faults(world)
        assert test_bounded.committed(world) == list(range(last + 1))
        world.check_output()
    finally:
        world.close()
