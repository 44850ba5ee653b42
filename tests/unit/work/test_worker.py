"""What the work thread does with a worker: order, hooks, retries, failures, dead letters."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest

from consumer.core import messages as m
from consumer.errors import ConfigError, PermanentError, TransientError
from consumer.work.report import Broken
from consumer.worker import Worker
from tests.unit.work.shop import FakeRecord, Gates, Plain, Script, Shop, headers_of

RETRIABLE, PERMANENT, TRANSIENT = m.FailureKind.RETRIABLE, m.FailureKind.PERMANENT, m.FailureKind.TRANSIENT


# --------------------------------------------------------------------------------------------------------- order


def test_one_after_another_in_input_order() -> None:
    with Shop(Plain()) as shop:
        shop.submit(range(10), start=5)
        shop.submit(range(10, 13), start=100)
        items = shop.until_items(13)
    assert [item.first for item in items] == [*range(5, 15), 100, 101, 102]
    assert all(item.first == item.last and item.records == 1 for item in items)
    assert shop.values() == [b"%d" % number for number in range(13)]
    assert [item.history.sequence_number for item in items] == list(range(13))
    assert shop.freed[0] == sum(len(str(number)) for number in range(13))


def test_a_record_that_is_done_with_is_kept_by_nobody() -> None:
    """The thread waits for the next command with nothing of the last one in its hands."""
    record = FakeRecord(0, b"1")
    gone = weakref.ref(record)
    with Shop(Plain()) as shop:
        shop.submit([record])
        del record
        shop.until_items(1)
        shop.quiet()
        assert gone() is None


class AsyncGated(Worker[int]):
    def __init__(self) -> None:
        self.waiting: dict[int, asyncio.Future[None]] = {}
        self.entered: list[int] = []

    async def process_checkpoint(self, checkpoint: Any) -> int:
        number = checkpoint.sequence_number
        self.entered.append(number)
        self.waiting[number] = asyncio.get_running_loop().create_future()
        await self.waiting[number]
        return int(number)

    def let(self, shop: Shop, number: int) -> None:
        shop.bench._loop.call_soon_threadsafe(lambda: self.waiting[number].set_result(None))


def test_async_checkpoints_run_at_once_and_leave_in_input_order() -> None:
    worker = AsyncGated()
    with Shop(worker, max_in_flight=3) as shop:
        shop.submit(range(5))
        shop.quiet()
        assert worker.entered == [0, 1, 2], "as many as may be in flight"
        worker.let(shop, 2)
        worker.let(shop, 1)
        shop.quiet()
        assert worker.entered == [0, 1, 2, 3, 4], "who is done makes room, released or not"
        assert shop.values() == [], "0 is not done"
        worker.let(shop, 0)
        shop.until_items(3)
        worker.let(shop, 4)
        worker.let(shop, 3)
        shop.until_items(5)
    assert shop.values() == [b"0", b"1", b"2", b"3", b"4"]


def test_plain_checkpoints_run_on_threads_and_leave_in_input_order() -> None:
    gates, threads = Gates(), set()

    class Threaded(Worker[int]):
        def process_checkpoint(self, checkpoint: Any) -> int:
            threads.add(threading.current_thread().name)
            gates.wait(checkpoint.sequence_number)
            return int(checkpoint.sequence_number)

    with Shop(Threaded(), max_in_flight=3) as shop:
        shop.submit(range(4))
        assert gates.next(3) == {0, 1, 2}
        gates.let(2)
        assert gates.next() == {3}
        gates.let(1, 3)
        shop.quiet()
        assert shop.values() == []
        gates.let(0)
        shop.until_items(4)
    assert shop.values() == [b"0", b"1", b"2", b"3"]
    assert len(threads) == 3
    assert "work" not in threads


def test_partitions_do_not_wait_for_each_other() -> None:
    worker = AsyncGated()
    with Shop(worker, max_in_flight=2) as shop:
        shop.submit([0], number=0)
        shop.submit([10], number=1)
        shop.quiet()
        worker.let(shop, 10)
        shop.until_items(1, number=1)
        assert shop.values(0) == []
        worker.let(shop, 0)
        shop.until_items(1, number=0)


def test_partitions_take_turns_for_the_places() -> None:
    """One partition's long queue must not take every place that becomes free."""
    worker = AsyncGated()
    with Shop(worker, max_in_flight=1) as shop:
        shop.submit(range(100), number=0)
        shop.quiet()
        shop.submit(range(100, 200), number=1)
        shop.quiet()
        for _ in range(10):
            worker.let(shop, worker.entered[-1])
            shop.quiet()
    assert sum(number < 100 for number in worker.entered) <= 7
    assert sum(number >= 100 for number in worker.entered) >= 4


# --------------------------------------------------------------------------------------------------------- hooks


class Hooked(Worker[int]):
    def __init__(self, *failing: int) -> None:
        self.log: list[tuple[str, int]] = []
        self.failing = list(failing)

    def preprocess_hook(self, checkpoint: Any) -> None:
        self.log.append(("hook", checkpoint.sequence_number))

    def process_checkpoint(self, checkpoint: Any) -> int:
        number = checkpoint.sequence_number
        self.log.append(("work", number))
        if number in self.failing:
            self.failing.remove(number)
            raise ValueError("once")
        return int(number)


def test_the_hook_is_called_in_order_and_again_on_a_retry() -> None:
    worker = Hooked(1)
    with Shop(worker) as shop:
        shop.submit(range(3))
        assert shop.until(m.Failed).offset == 1
        shop.post(m.Retry(0, 1, 1))
        shop.until_items(3)
    steps = [0, 1, 1, 2]
    assert worker.log == [(what, number) for number in steps for what in ("hook", "work")]


def test_later_checkpoints_of_the_partition_wait_for_the_hook() -> None:
    gates = Gates()

    class SlowHook(Worker[int]):
        def preprocess_hook(self, checkpoint: Any) -> None:
            gates.wait(("hook", checkpoint.sequence_number))

        def process_checkpoint(self, checkpoint: Any) -> int:
            gates.wait(("work", checkpoint.sequence_number))
            return int(checkpoint.sequence_number)

    with Shop(SlowHook(), max_in_flight=4) as shop:
        shop.submit([0, 1], number=0)
        shop.submit([10], number=1)
        assert gates.next(2) == {("hook", 0), ("hook", 10)}, "other partitions do not wait"
        shop.quiet()
        assert gates.empty(), "1 waits for the hook of 0"
        gates.let(("hook", 0))
        assert gates.next(2) == {("work", 0), ("hook", 1)}, "and for no more than that"
        gates.let(("hook", 1), ("hook", 10))
        gates.let(*(("work", number) for number in (0, 1, 10)))
        shop.until_items(2)
        shop.until_items(1, number=1)


def test_an_async_hook_with_a_plain_worker() -> None:
    class Mixed(Worker[int]):
        def __init__(self) -> None:
            self.log: list[tuple[str, int]] = []

        async def preprocess_hook(self, checkpoint: Any) -> None:
            await asyncio.sleep(0)
            self.log.append(("hook", checkpoint.sequence_number))

        def process_checkpoint(self, checkpoint: Any) -> int:
            self.log.append(("work", checkpoint.sequence_number))
            return int(checkpoint.sequence_number)

    worker = Mixed()
    with Shop(worker, max_in_flight=1) as shop:
        shop.submit(range(3))
        shop.until_items(3)
    assert worker.log == [(what, number) for number in range(3) for what in ("hook", "work")]


def test_a_failing_hook_fails_its_checkpoint() -> None:
    class BadHook(Plain):
        def preprocess_hook(self, checkpoint: Any) -> None:
            raise KeyError("hook")

    with Shop(BadHook()) as shop:
        shop.submit([7])
        failed = shop.until(m.Failed)
    assert (failed.stage, failed.kind, failed.error) == ("preprocess_hook", RETRIABLE, "KeyError: 'hook'")


# ------------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("x"), RETRIABLE),
        (PermanentError("x"), PERMANENT),
        (TransientError("x"), TRANSIENT),
        (SystemExit(0), RETRIABLE),
        (StopIteration("x"), RETRIABLE),
        (MemoryError(), RETRIABLE),
        (asyncio.CancelledError(), RETRIABLE),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
@pytest.mark.parametrize("mode", ["inline", "threads", "async"])
def test_what_a_worker_raises_fails_its_checkpoint_alone(mode: str, error: BaseException, kind: m.FailureKind) -> None:
    class Failing(Worker[int]):
        failing = True

        def process_checkpoint(self, checkpoint: Any) -> Any:
            if checkpoint.sequence_number == 1 and self.failing:
                self.failing = False
                raise error
            return checkpoint.sequence_number

    class AsyncFailing(Failing):
        async def process_checkpoint(self, checkpoint: Any) -> Any:
            await asyncio.sleep(0)
            return super().process_checkpoint(checkpoint)

    worker = AsyncFailing() if mode == "async" else Failing()
    with Shop(worker, max_in_flight=1 if mode == "inline" else 2) as shop:
        shop.submit(range(3))
        failed = shop.until(m.Failed)
        assert (failed.partition, failed.epoch, failed.offset) == (0, 1, 1)
        assert (failed.kind, failed.stage) == (kind, "process_checkpoint")
        shop.post(m.Retry(0, 1, 1))
        shop.until_items(3)
    assert shop.values() == [b"0", b"1", b"2"]


def test_a_task_cancelled_by_user_code_does_not_stall_the_partition() -> None:
    """Awaiting something cancelled raises CancelledError into the worker's own task."""

    class AwaitsCancelled(Worker[int]):
        tries = 0

        async def process_checkpoint(self, checkpoint: Any) -> int:
            self.tries += 1
            if self.tries == 1:
                future = asyncio.get_running_loop().create_future()
                future.cancel()
                await future
            return int(checkpoint.sequence_number)

    with Shop(AwaitsCancelled(), max_in_flight=2) as shop:
        shop.submit([4])
        assert shop.until(m.Failed).kind is RETRIABLE
        shop.post(m.Retry(0, 1, 0))
        shop.until_items(1)


@pytest.mark.parametrize("mode", ["inline", "async"])
def test_what_is_no_failure_of_the_checkpoint_ends_the_member(mode: str) -> None:
    class Interrupted(Worker[int]):
        def process_checkpoint(self, checkpoint: Any) -> int:
            raise KeyboardInterrupt

    class AsyncInterrupted(Worker[int]):
        async def process_checkpoint(self, checkpoint: Any) -> int:
            raise KeyboardInterrupt

    with Shop(Interrupted() if mode == "inline" else AsyncInterrupted()) as shop:
        shop.submit([0])
        assert isinstance(shop.until(Broken).error, KeyboardInterrupt)
    del shop
    # When the task is collected asyncio reports its exception; inside of `ast.parse` that is an error (Python 3.11).
    gc.collect()


def test_an_error_whose_text_cannot_be_made_is_a_failure_like_any_other() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    with Shop(Script(_0=Mute())) as shop:
        shop.submit([0])
        assert shop.until(m.Failed).error == "Mute: its text cannot be made: RuntimeError"
        shop.post(m.DeadLetter(0, 1, 0, 1))
        (item,) = shop.until_items(1)
    assert headers_of(item.outs[0])["__connect.errors.exception.message"].startswith(b"its text cannot be made")


@pytest.mark.parametrize("max_in_flight", [1, 2])
def test_a_record_that_failed_is_gone_once_it_is_released(max_in_flight: int) -> None:
    """Without the garbage collector: an error's traceback holds the frames that hold its record."""

    class Fails(Worker[int]):
        tries = 0

        def process_checkpoint(self, checkpoint: Any) -> int:
            self.tries += 1
            if checkpoint.sequence_number or self.tries == 1:
                raise ValueError
            return 0

    records = [FakeRecord(0, b"0"), FakeRecord(1, b"1"), FakeRecord(2, b"no checkpoint")]
    alive = [weakref.ref(record) for record in records]
    gc.disable()
    try:
        with Shop(Fails(), max_in_flight=max_in_flight) as shop:
            shop.submit(records)
            records.clear()
            shop.until(m.Failed)
            shop.post(m.Retry(0, 1, 0))
            for offset in (1, 2):
                assert shop.until(m.Failed).offset == offset
                shop.post(m.DeadLetter(0, 1, offset, 1))
            shop.until_items(3)
            shop.quiet()
            assert [found() for found in alive] == [None] * 3
    finally:
        gc.enable()


# -------------------------------------------------------------------------------------------------------- retries


def test_a_waiting_retry_holds_its_partition_and_no_slot() -> None:
    worker = Script(_1=[ValueError("once")])
    with Shop(worker) as shop:
        shop.submit(range(4), number=0)
        shop.until(m.Failed)
        shop.submit(range(10, 13), number=1)
        shop.until_items(3, number=1)
        assert shop.quiet() == []
        assert shop.values(0) == [b"0"], "what came before it is released"
        assert worker.calls == [0, 1, 10, 11, 12], "nothing behind it is started"
        shop.post(m.Retry(0, 1, 1))
        shop.until_items(4, number=0)
    assert shop.values(0) == [b"0", b"1", b"2", b"3"]


def test_a_waiting_retry_holds_no_slot_when_several_are_in_flight() -> None:
    class FailsOnce(AsyncGated):
        async def process_checkpoint(self, checkpoint: Any) -> int:
            if checkpoint.sequence_number == 0 and 0 not in self.entered:
                self.entered.append(0)
                raise ValueError("once")
            return await super().process_checkpoint(checkpoint)

    worker = FailsOnce()
    with Shop(worker, max_in_flight=2) as shop:
        shop.submit([0, 1], number=0)
        shop.until(m.Failed)
        shop.submit([10, 11], number=1)
        shop.quiet()
        assert {1, 10} <= set(worker.entered) or {10, 11} <= set(worker.entered), "both slots are in use"
        for number in (1, 10, 11):
            if number in worker.waiting:
                worker.let(shop, number)
                shop.quiet()
        shop.post(m.Retry(0, 1, 0))
        shop.quiet()
        for number, future in list(worker.waiting.items()):
            if not future.done():
                worker.let(shop, number)
                shop.quiet()
        assert shop.values(0) == [b"0", b"1"]
        assert shop.values(1) == [b"10", b"11"]


def test_a_retry_of_something_else_is_no_retry() -> None:
    with Shop(Script(_0=ValueError("once"))) as shop:
        shop.submit([0])
        shop.until(m.Failed)
        shop.post(m.Retry(0, 2, 0), m.Retry(1, 1, 0), m.Retry(0, 1, 5))
        assert shop.quiet() == []


# ---------------------------------------------------------------------------------------- commands on a lane's end


def test_drain_finishes_what_runs_and_drops_what_waits() -> None:
    worker = AsyncGated()
    with Shop(worker, max_in_flight=2) as shop:
        shop.submit(range(5))
        shop.quiet()
        shop.post(m.Drain(0, 1))
        reports = shop.quiet()
        assert not any(isinstance(report, m.Drained) for report in reports), "two run"
        worker.let(shop, 1)
        worker.let(shop, 0)
        shop.until(m.Drained)
        assert shop.quiet() == []
    assert shop.values() == [b"0", b"1"]
    assert worker.entered == [0, 1]
    assert (shop.processed, shop.freed) == ({0: 5}, {0: 5}), "what was dropped is done with as well"


def test_drain_drops_what_is_held_and_ignores_what_comes_for_it_afterwards() -> None:
    worker = Script(_1=[ValueError("once")])
    with Shop(worker) as shop:
        shop.submit(range(4))
        shop.until(m.Failed)
        shop.post(m.Drain(0, 1))
        shop.until(m.Drained)
        shop.post(m.Retry(0, 1, 1), m.DeadLetter(0, 1, 1, 1), m.Ask(0, 1))
        assert shop.quiet() == []
    assert shop.values() == [b"0"]
    assert worker.calls == [0, 1]


def test_end_waits_for_retries() -> None:
    with Shop(Script(_1=[ValueError("once")])) as shop:
        shop.submit(range(3))
        shop.post(m.End(0, 1))
        shop.until(m.Failed)
        assert not any(isinstance(report, m.Drained) for report in shop.quiet())
        shop.post(m.Retry(0, 1, 1))
        shop.until(m.Drained)
    assert shop.values() == [b"0", b"1", b"2"]


def test_a_lane_that_never_had_anything_is_drained_at_once() -> None:
    with Shop(Plain()) as shop:
        shop.open(3, 9)
        shop.open(4, 8)
        shop.post(m.Drain(3, 9), m.End(4, 8))
        assert shop.until(m.Drained) == m.Drained(3, 9)
        assert shop.until(m.Drained) == m.Drained(4, 8)


@pytest.mark.parametrize("fails", [False, True])
def test_drop_while_running_has_no_effect_on_what_follows(fails: bool) -> None:
    worker = AsyncGated()
    with Shop(worker, max_in_flight=1) as shop:
        shop.submit([0, 1])
        shop.quiet()
        shop.post(m.Drop(0, 1))
        shop.submit([0, 1], epoch=2)
        shop.quiet()
        assert worker.entered == [0], "the call goes on and takes its place until it ends"
        if fails:
            shop.bench._loop.call_soon_threadsafe(lambda: worker.waiting[0].set_exception(ValueError("late")))
        else:
            worker.let(shop, 0)
        assert shop.quiet() == [], "nobody wants to know"
        worker.let(shop, 0)
        shop.quiet()
        worker.let(shop, 1)
        shop.until_items(2)
        assert {report.epoch for report in shop.seen if isinstance(report, m.Worked)} == {2}
    assert worker.entered == [0, 0, 1]


# --------------------------------------------------------------------------------------------- opening and closing


@pytest.mark.parametrize("is_async", [False, True])
def test_open_and_close_run_on_the_work_thread_around_all_work(is_async: bool) -> None:
    log: list[tuple[str, str]] = []

    def note(what: str) -> None:
        log.append((what, threading.current_thread().name))

    class Opened(Plain):
        def open(self, context: Any) -> Any:
            assert (context.group, context.member, context.input_topic) == ("group", 0, "in")
            note("open")

        def close(self) -> Any:
            note("close")

        def process_checkpoint(self, checkpoint: Any) -> int:
            note("work")
            return 0

    class AsyncOpened(Opened):
        async def open(self, context: Any) -> None:
            super().open(context)

        async def close(self) -> None:
            super().close()

    with Shop(AsyncOpened() if is_async else Opened()) as shop:
        shop.submit([0])
        shop.until_items(1)
    assert log == [("open", "work"), ("work", "work"), ("close", "work")]


def test_closing_does_not_wait_for_a_call_that_still_runs() -> None:
    worker = AsyncGated()
    with Shop(worker, max_in_flight=1) as shop:
        shop.submit([0])
        shop.quiet()
    assert worker.waiting[0].cancelled()


def test_a_cancelled_call_ends_before_the_worker_is_closed() -> None:
    log = []

    class Tidy(AsyncGated):
        async def process_checkpoint(self, checkpoint: Any) -> Any:
            try:
                return await super().process_checkpoint(checkpoint)
            finally:
                await asyncio.sleep(0)
                log.append("finally")

        def close(self) -> None:
            log.append("close")

    with Shop(Tidy(), max_in_flight=1) as shop:
        shop.submit([0])
        shop.quiet()
    assert log == ["finally", "close"]


def test_a_worker_that_cannot_open_breaks_the_member() -> None:
    class Bad(Plain):
        def open(self, context: Any) -> None:
            raise OSError("no database")

    shop = Shop(Bad())
    shop.bench.start()
    assert str(shop.until(Broken).error) == "no database"
    shop.bench._thread.join()
    shop.bench._loop.close()


def test_nothing_to_publish_to_is_a_configuration_error() -> None:
    with Shop(Plain(), default=False) as shop:
        shop.submit([0])
        error = shop.until(Broken).error
    assert isinstance(error, ConfigError)
    assert "CONSUMER_OUTPUT_TOPIC" in str(error)


def test_the_position_of_a_checkpoint() -> None:
    seen: list[Any] = []

    class Looks(Worker[int]):
        def process_checkpoint(self, checkpoint: Any) -> None:
            seen.append(checkpoint.position)

    with Shop(Looks()) as shop:
        shop.submit([FakeRecord(42, b"1", 3, b"k", [("a", b"1")])], number=3)
        shop.until_items(1, number=3)
    (position,) = seen
    assert (position.topic, position.partition, position.offset, position.key) == ("in", 3, 42, b"k")
    assert (position.timestamp, position.headers) == (1_700_000_000_000, (("a", b"1"),))
