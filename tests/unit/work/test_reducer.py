"""The reducer's semantics of the contract, one test each."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any, cast

import pytest

from consumer.core import messages as m
from consumer.errors import PermanentError, PolicyStop, SchemaViolation, TransientError
from consumer.limits import EndOfEpoch, Limits, MaxCheckpoint
from consumer.reducer import Reducer
from consumer.work.report import Broken
from consumer.worker import Output, Worker
from tests.unit.work.shop import FakeRecord, Gates, Listener, Plain, Script, Shop, headers_of

NEVER = Listener(lambda batch, following: False).closes


class Pairs(Worker[str]):
    """Two messages per checkpoint; none for multiples of 10."""

    def process_checkpoint(self, checkpoint: Any) -> list[str]:
        number = checkpoint.sequence_number
        return [] if number % 10 == 0 else [f"{number}a", f"{number}b"]


# ----------------------------------------------------------------------------------------------------- when asked


def test_asked_once_per_checkpoint_with_its_first_message_before_it_is_added() -> None:
    reducer = Listener(NEVER)
    with Shop(Pairs(), reducer) as shop:
        shop.submit([1, 2, 3])
        shop.until_processed(3)
    assert reducer.asked == [(["1a", "1b"], "2a"), (["1a", "1b", "2a", "2b"], "3a")]


def test_a_checkpoint_with_several_messages_is_never_divided() -> None:
    """Also where a limit lies in the middle of it."""
    reducer = Listener(lambda batch, following: True)
    with Shop(Pairs(), reducer, max_messages=3) as shop:
        shop.submit([1, 2, 3, 4])
        shop.until_items(3)
        shop.until_processed(4)
        shop.post(m.End(0, 1))
        shop.until(m.Drained)
    assert reducer.committed == [["1a", "1b"], ["2a", "2b"], ["3a", "3b"], ["4a", "4b"]]


def test_closing_before_the_next_message_leaves_that_one_for_the_next_batch() -> None:
    reducer = Listener(lambda batch, following: following == "3a")
    with Shop(Pairs(), reducer) as shop:
        shop.submit([1, 2, 3, 4])
        (item,) = shop.until_items(1)
        assert (item.first, item.last, item.records) == (0, 1, 2)
        shop.until_processed(4)
        shop.post(m.End(0, 1))
        shop.until_items(2)
    assert reducer.committed == [["1a", "1b", "2a", "2b"], ["3a", "3b", "4a", "4b"]]
    assert reducer.asked.count((["1a", "1b", "2a", "2b"], "3a")) == 1, "once per checkpoint"


def test_asked_with_none_when_the_machine_says_that_nothing_more_is_ready() -> None:
    reducer = Listener()
    with Shop(Plain(), reducer) as shop:
        shop.submit([1, 2])
        shop.until_processed(2)
        assert reducer.committed == []
        shop.ask(2)
        assert shop.until(m.Answered) == m.Answered(0, 1, declined=False)
        shop.until_items(1)
    assert reducer.asked[-1] == ([1, 2], None)
    assert reducer.committed == [[1, 2]]


def test_a_declined_batch_goes_on() -> None:
    reducer = Listener(NEVER)
    with Shop(Plain(), reducer) as shop:
        shop.submit([1, 2])
        shop.ask(2)
        assert shop.until(m.Answered).declined
        shop.submit([3], start=2)
        shop.until_processed(3)
        shop.post(m.End(0, 1))
        (item,) = shop.until_items(1)
    assert (item.first, item.last, item.records) == (0, 2, 3)


@pytest.mark.parametrize(
    ("messages", "size"), [(3, 1_000_000), (1000, 3 * sys.getsizeof(1))], ids=["messages", "bytes"]
)
def test_asked_with_none_at_a_limit(messages: int, size: int) -> None:
    reducer = Listener()
    with Shop(Plain(), reducer, max_messages=messages, max_bytes=size) as shop:
        shop.submit([1, 2, 3, 4, 5, 6])
        shop.until_items(2)
    assert reducer.committed == [[1, 2, 3], [4, 5, 6]]


def test_asked_again_at_a_limit_only_when_as_much_has_come_again() -> None:
    reducer = Listener(NEVER)
    with Shop(Plain(), reducer, max_messages=3) as shop:
        shop.submit(range(1, 10))
        shop.until_processed(9)
    assert [len(batch) for batch, following in reducer.asked if following is None] == [3, 6, 9]


def test_never_asked_about_an_empty_batch() -> None:
    """The listener checks every question."""
    reducer = Listener(lambda batch, following: True)
    with Shop(Pairs(), reducer) as shop:
        shop.submit([10, 20, 1, 30, 2])
        shop.post(m.Ask(0, 1), m.Ask(0, 1))
        shop.until_processed(5)
        shop.post(m.Ask(0, 1), m.Ask(0, 1), m.Drain(0, 1))
        shop.until(m.Drained)
        shop.until_items(4)
    assert reducer.committed == [["1a", "1b"], ["2a", "2b"]]


def test_empty_checkpoints_move_the_offset_without_a_question() -> None:
    reducer = Listener(NEVER)
    with Shop(Pairs(), reducer) as shop:
        shop.submit([10, 20, 1, 30, 2])
        first, second = shop.until_items(2)
        assert [(item.first, item.last, list(item.outs)) for item in (first, second)] == [(0, 0, []), (1, 1, [])]
        shop.until_processed(5)
        assert len(reducer.asked) == 1
        shop.post(m.End(0, 1))
        batch = shop.until_items(3)[-1]
    assert (batch.first, batch.last, batch.records) == (2, 4, 3)


def test_the_batches_of_two_partitions_are_independent() -> None:
    reducer = Listener(lambda batch, following: following is None and batch.partition == 1)
    with Shop(Plain(), reducer) as shop:
        shop.submit([1, 3], number=0)
        shop.submit([2, 4], number=1)
        shop.ask(2)
        shop.ask(2, number=1)
        shop.until_items(1, number=1)
        assert shop.quiet() == []
    assert reducer.committed == [[2, 4]]


# ----------------------------------------------------------------------------------------------------- at the end


@pytest.mark.parametrize("accepts", [True, False])
def test_asked_once_more_at_revoke_and_shutdown_and_a_refusal_drops_the_batch(accepts: bool) -> None:
    reducer = Listener(lambda batch, following: accepts and following is None)
    with Shop(Plain(), reducer) as shop:
        shop.submit([1, 2])
        shop.until_processed(2)
        asked = len(reducer.asked)
        shop.post(m.Drain(0, 1))
        shop.until(m.Drained)
        assert reducer.asked[asked:] == [([1, 2], None)]
        assert len(shop.items[0]) == int(accepts)
        shop.post(m.Ask(0, 1), m.Drain(0, 1))
        assert [type(report) for report in shop.quiet()] == [m.Answered]
    assert reducer.committed == ([[1, 2]] if accepts else [])


def test_the_end_of_a_bounded_run_closes_unasked() -> None:
    reducer = Listener(NEVER)
    with Shop(Plain(), reducer) as shop:
        shop.submit([1, 2])
        shop.post(m.End(0, 1))
        shop.until(m.Drained)
    assert ([1, 2], None) not in reducer.asked
    assert reducer.committed == [[1, 2]]


# ----------------------------------------------------------------------------------------------------- the commit


def test_what_commit_returns_is_published() -> None:
    reducer = Listener()
    reducer.results = lambda batch: [sum(batch), Output("x", key=b"k")]
    with Shop(Plain(), reducer) as shop:
        shop.submit(
            [FakeRecord(at, b"%d" % at, 2, b"key %d" % at, [("traceparent", b"t%d" % at)]) for at in (5, 7)], number=2
        )
        shop.ask(2, number=2)
        (item,) = shop.until_items(1, 2)
    one, two = item.outs
    assert (one.value, one.key, one.partition) == (b"12", b"key 7", 2)
    assert headers_of(one) == {"checkpoint-source": b"in/2/5-7", "checkpoint-part": b"1/2", "traceparent": b"t7"}
    assert (two.value, two.key, headers_of(two)["checkpoint-part"]) == (b"x", b"k", b"2/2")
    assert item.history.sequence_number == 7


@pytest.mark.parametrize("nothing", [None, []])
def test_a_batch_that_publishes_nothing_moves_the_offset(nothing: Any) -> None:
    reducer = Listener()
    reducer.results = lambda batch: nothing
    with Shop(Plain(), reducer, default=False) as shop:
        shop.submit([1, 2])
        shop.ask(2)
        (item,) = shop.until_items(1)
    assert (item.first, item.last, list(item.outs)) == (0, 1, [])


def test_the_default_commit_returns_the_messages_themselves() -> None:
    with Shop(Pairs(), Reducer()) as shop:
        shop.submit([1, 2])
        shop.ask(2)
        (item,) = shop.until_items(1)
    assert [out.value for out in item.outs] == [b"1a", b"1b", b"2a", b"2b"]
    assert [headers_of(out)["checkpoint-part"] for out in item.outs] == [b"1/4", b"2/4", b"3/4", b"4/4"]
    assert {headers_of(out)["checkpoint-source"] for out in item.outs} == {b"in/0/0-1"}


def test_the_batch_tells_where_it_came_from() -> None:
    reducer = Listener()
    with Shop(Pairs(), reducer) as shop:
        shop.submit([1, 10, 2, 20], start=5)
        shop.until_processed(4)
        shop.post(m.Ask(0, 1))
        (item,) = shop.until_items(1)
    (batch,) = reducer.batches
    assert (item.first, item.last, item.records) == (5, 8, 4), "the empty one behind it is covered as well"
    assert (batch.topic, batch.partition, batch.id) == ("in", 0, "in/0/5-8")
    assert (batch.first_offset, batch.last_offset, batch.offsets) == (5, 8, [5, 5, 7, 7])
    assert (batch.first_sequence_number, batch.last_sequence_number) == (1, 20)
    rest = batch.after(5)
    assert (list(rest), rest.offsets, rest.first_offset, rest.last_offset) == (["2a", "2b"], [7, 7], 6, 8)
    assert list(batch.after(4)) == list(batch)
    assert list(batch.after(8)) == []


def test_a_plain_commit_runs_on_a_thread_and_holds_its_own_partition_only() -> None:
    gates = Gates()

    class Slow(Listener):
        def commit(self, batch: Any) -> Any:
            assert threading.current_thread().name.startswith("commit")
            gates.wait(batch.partition)
            return super().commit(batch)

    reducer, worker = Slow(), Script()
    with Shop(worker, reducer) as shop:
        shop.submit([1], number=0)
        shop.ask(1)
        assert gates.next() == {0}
        shop.submit([3, 4], number=0, start=1)
        shop.submit([2], number=1)
        shop.ask(1, number=1)
        assert gates.next() == {1}, "another partition's commit runs beside it"
        gates.let(1)
        shop.until_items(1, number=1)
        assert shop.processed[0] == 1, "its own waits"
        assert worker.calls == [1, 2]
        shop.post(m.Ask(0, 1))
        assert not shop.until(lambda report: isinstance(report, m.Answered) and report.partition == 0).declined
        gates.let(0)
        shop.until_processed(3)
    assert reducer.committed == [[2], [1]]


def test_an_async_commit() -> None:
    class Async(Listener):
        async def commit(self, batch: Any) -> Any:
            await asyncio.sleep(0)
            return super().commit(batch)

    with Shop(Plain(), Async(lambda batch, following: True)) as shop:
        shop.submit([1, 2, 3])
        shop.until_items(2)
        shop.post(m.Drain(0, 1))
        shop.until(m.Drained)
        assert shop.values() == [b"1", b"2", b"3"]


class Failing(Listener):
    """Fails to commit as often as it has errors."""

    def __init__(self, *errors: BaseException) -> None:
        super().__init__()
        self.errors = list(errors)

    def commit(self, batch: Any) -> Any:
        if self.errors:
            raise self.errors.pop(0)
        return super().commit(batch)


class AsyncFailing(Failing):
    async def commit(self, batch: Any) -> Any:
        await asyncio.sleep(0)
        return super().commit(batch)


@pytest.mark.parametrize("kind", [Failing, AsyncFailing])
@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (ValueError("x"), m.FailureKind.RETRIABLE),
        (TransientError("x"), m.FailureKind.TRANSIENT),
        (PermanentError("x"), m.FailureKind.PERMANENT),
        (SystemExit(0), m.FailureKind.RETRIABLE),
        (asyncio.CancelledError(), m.FailureKind.RETRIABLE),
        (StopIteration(), m.FailureKind.RETRIABLE),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_a_commit_that_fails_is_reported_and_tried_again(
    kind: type[Failing], error: BaseException, verdict: m.FailureKind
) -> None:
    reducer = kind(error)
    with Shop(Plain(), reducer) as shop:
        shop.submit([1, 2], start=3)
        shop.until_processed(2)
        shop.post(m.Ask(0, 1))
        failed = shop.until(m.Failed)
        assert (failed.stage, failed.kind, failed.offset) == ("commit", verdict, 4)
        shop.submit([5], start=5)
        assert shop.quiet() == [] or not shop.items[0]
        assert shop.processed[0] == 2, "what lies behind it waits"
        shop.post(m.Retry(0, 1, 4))
        shop.until_items(1)
        shop.until_processed(3)
    assert reducer.committed == [[1, 2]]


def test_results_that_do_not_fit_fail_the_commit() -> None:
    """Also of the default commit, which runs on the spot."""
    with Shop(Script(_1=["violation", "fine"]), Reducer()) as shop:
        shop.submit([1, 2])
        shop.ask(2)
        failed = shop.until(m.Failed)
        assert (failed.stage, failed.kind) == ("commit", m.FailureKind.PERMANENT)
        assert failed.error == f"{SchemaViolation.__name__}: field x: 1.5 is no long"


def test_a_retry_of_an_inline_commit_lets_the_lane_go_on() -> None:
    """What was done behind the batch is released, and a lane that ends does end."""

    class Once:
        def __init__(self) -> None:
            self.failed = False

        def __str__(self) -> str:
            if not self.failed:
                self.failed = True
                raise ValueError("once")
            return "mended"

    with Shop(Script(_1=[Once()]), Reducer()) as shop:
        shop.submit([1])
        shop.until_processed(1)
        shop.post(m.End(0, 1))
        assert shop.until(m.Failed).stage == "commit"
        shop.post(m.Retry(0, 1, 0))
        shop.until(m.Drained)
        assert shop.values() == [b"mended"]


def test_a_retry_is_for_what_failed_at_its_offset() -> None:
    """A commit and a checkpoint behind it both failed: neither retry is taken for the other."""
    gates = Gates()

    class Behind(Plain):
        tries = 0

        def process_checkpoint(self, checkpoint: Any) -> Any:
            if checkpoint.sequence_number == 2:
                self.tries += 1
                if self.tries == 1:
                    gates.wait(2)
                    raise ValueError("once")
            return checkpoint.sequence_number

    reducer = Failing(ValueError("first"), ValueError("second"))
    with Shop(Behind(), reducer, max_in_flight=2) as shop:
        shop.submit([1, 2])
        shop.until_processed(1)
        gates.next()
        shop.post(m.Ask(0, 1))
        assert shop.until(m.Failed).stage == "commit"
        gates.let(2)
        assert shop.until(m.Failed).stage == "process_checkpoint"
        shop.post(m.Retry(0, 1, 1))
        shop.quiet()
        assert len(reducer.errors) == 1, "the checkpoint's retry is none of the commit's"
        shop.post(m.Retry(0, 1, 0))
        assert shop.until(m.Failed).stage == "commit"
        shop.post(m.Retry(0, 1, 0))
        shop.until_processed(2)
        shop.post(m.Ask(0, 1))
        shop.until_items(2)
    assert reducer.committed == [[1], [2]]


@pytest.mark.parametrize("closing", [m.Drain, m.Drop])
def test_a_batch_whose_commit_failed_is_dropped_with_its_lane(closing: Any) -> None:
    reducer = Failing(ValueError("x"))
    with Shop(Plain(), reducer) as shop:
        shop.submit([1, 2])
        shop.ask(2)
        shop.until(m.Failed)
        shop.post(closing(0, 1), m.Retry(0, 1, 1), m.Ask(0, 1))
        reports = shop.quiet()
        assert not any(isinstance(report, m.Worked) and report.items for report in reports)
        assert any(isinstance(report, m.Drained) for report in reports) == (closing is m.Drain)
    assert reducer.committed == []


def test_drain_waits_for_the_commit_that_runs() -> None:
    gates = Gates()

    class Slow(Listener):
        def commit(self, batch: Any) -> Any:
            gates.wait("commit")
            return super().commit(batch)

    with Shop(Plain(), Slow()) as shop:
        shop.submit([1, 2])
        shop.ask(2)
        gates.next()
        shop.post(m.Drain(0, 1))
        assert not any(isinstance(report, m.Drained) for report in shop.quiet())
        gates.let("commit")
        shop.until(m.Drained)
        assert shop.values() == [b"1", b"2"]


def test_drop_in_the_middle_of_a_commit_publishes_nothing() -> None:
    gates = Gates()

    class Slow(Listener):
        def commit(self, batch: Any) -> Any:
            gates.wait(batch.first_offset)
            return super().commit(batch)

    with Shop(Plain(), Slow()) as shop:
        shop.submit([1])
        shop.ask(1)
        gates.next()
        shop.post(m.Drop(0, 1))
        shop.submit([1], epoch=2, start=5)
        shop.ask(2, epoch=2)
        gates.next()
        gates.let(0, 5)
        shop.until_items(1)
        assert shop.items[0][0].first == 5


@pytest.mark.parametrize("error", [ValueError("no idea"), SystemExit(0)])
def test_should_close_batch_that_raises_ends_the_member(error: BaseException) -> None:
    def closes(batch: Any, following: Any) -> bool:
        raise error

    with Shop(Plain(), Listener(closes)) as shop:
        shop.submit([1, 2])
        broken = shop.until(Broken).error
    assert isinstance(broken, PolicyStop)
    assert "should_close_batch of Listener failed for batch in/0/0-0" in str(broken)
    assert "nothing was skipped" in str(broken)


# --------------------------------------------------------------------------------------- dead letters and batches


def test_a_dead_letter_in_the_middle_of_a_batch_is_published_with_it() -> None:
    reducer = Listener(NEVER)
    with Shop(Script(_2=[PermanentError("no")]), reducer) as shop:
        shop.submit([1, 2, 3])
        failed = shop.until(m.Failed)
        shop.post(m.DeadLetter(0, 1, failed.offset, 1))
        shop.until_processed(3)
        assert shop.items[0] == [], "nothing but the reducer cuts a batch"
        shop.post(m.End(0, 1))
        (item,) = shop.until_items(1)
    assert reducer.committed == [[1, 3]]
    assert [out.topic for out in item.outs] == ["out", "out", "dlq"]
    assert "checkpoint-part" not in headers_of(item.outs[2])
    assert (item.first, item.last, item.records) == (0, 2, 3)


def test_a_dead_letter_outside_of_a_batch_is_published_at_once() -> None:
    with Shop(Script(_1=[PermanentError("no")]), Listener(NEVER)) as shop:
        shop.submit([1, 2])
        shop.post(m.DeadLetter(0, 1, shop.until(m.Failed).offset, 1))
        (item,) = shop.until_items(1)
    assert [out.topic for out in item.outs] == ["dlq"]


def test_a_dead_checkpoint_counts_as_seen() -> None:
    """A bounded run whose last checkpoint is a dead letter ends as well: its number is in the committed metadata."""
    limits = Limits(MaxCheckpoint(3), partitions=1)
    with Shop(Script(_3=[PermanentError("no")]), Listener(NEVER), limits=limits) as shop:
        shop.submit([1, 2, 3])
        shop.post(m.DeadLetter(0, 1, shop.until(m.Failed).offset, 1))
        shop.until_processed(3)
        shop.post(m.End(0, 1))
        (item,) = shop.until_items(1)
    assert item.history.sequence_number == 3


def test_start_offset_is_asked_on_the_work_thread() -> None:
    class Sink(Listener):
        def start_offset(self, topic: str, partition: int) -> int | None:
            assert threading.current_thread().name == "work"
            return 17 if (topic, partition) == ("in", 3) else None

    with Shop(Plain(), Sink()) as shop:
        shop.post(m.Position(3, 5), m.Position(4, 6))
        assert shop.until(m.Positioned) == m.Positioned(3, 5, 17)
        assert shop.until(m.Positioned) == m.Positioned(4, 6, None)


@pytest.mark.parametrize("offset", [-1, 1.0, "5", True])
def test_a_start_that_is_no_offset_stops_the_member(offset: Any) -> None:
    """Kafka takes -1 for the end: all that is there would be skipped in silence."""

    class Sink(Listener):
        def start_offset(self, topic: str, partition: int) -> int | None:
            return cast(int, offset)

    with Shop(Plain(), Sink()) as shop:
        shop.post(m.Position(3, 5))
        broken = shop.until(Broken).error
    assert isinstance(broken, PolicyStop)
    assert str(broken).startswith(f"start_offset of Sink says {offset!r} for in/3: nothing was skipped")


def test_the_end_of_an_epoch_travels_with_the_batch() -> None:
    with Shop(Plain(), Listener(NEVER), limits=Limits(EndOfEpoch(4), partitions=1)) as shop:
        shop.submit(["1/4", "2/4/end", "3/5"])
        assert shop.until(lambda report: isinstance(report, m.Worked) and report.past_limit).met_limit
        shop.post(m.End(0, 1))
        (item,) = shop.until_items(1)
    assert (item.history.ended_epoch, item.last) == (4, 1)
