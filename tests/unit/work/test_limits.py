"""Bounded runs on the work thread: where a lane ends, and that nothing past the limit is worked on."""

from __future__ import annotations

from typing import Any

import pytest

from consumer.core import messages as m
from consumer.errors import PolicyStop
from consumer.limits import CaughtUp, EndOfEpoch, Limits, MaxCheckpoint
from consumer.partitioning import Partitioning
from consumer.work.report import Broken
from tests.unit.work.shop import Script, Shop

MODULO = Partitioning.parse("modulo")


def past(report: Any) -> bool:
    return isinstance(report, m.Worked) and report.past_limit


def test_the_lane_ends_before_the_first_checkpoint_past_the_limit() -> None:
    worker = Script()
    with Shop(worker, limits=Limits(MaxCheckpoint(2), partitions=1)) as shop:
        shop.submit([1, 2, 4, 5])
        report = shop.until(past)
        assert report.met_limit
        shop.submit([6], start=4)
        shop.post(m.End(0, 1))
        shop.until(m.Drained)
        assert shop.processed == {0: 5}, "what was dropped is done with as well"
        assert shop.freed == {0: 5}
        shop.post(m.Retry(0, 1, 0))
        assert shop.quiet() == [], "said, not repeated"
    assert worker.calls == [1, 2]
    assert shop.values() == [b"1", b"2"]


def test_with_a_known_partitioning_the_lane_ends_with_its_last_number() -> None:
    """Also when nothing comes after it."""
    worker = Script()
    with Shop(worker, limits=Limits(MaxCheckpoint(5), MODULO, partitions=2)) as shop:
        shop.submit([0, 2, 4])
        shop.until(past)
        shop.post(m.End(0, 1))
        shop.until(m.Drained)
    assert worker.calls == [0, 2, 4]


def test_several_in_flight_end_with_all_that_was_started_before_the_limit() -> None:
    worker = Script()
    with Shop(worker, limits=Limits(MaxCheckpoint(2), partitions=1), max_in_flight=4) as shop:
        shop.submit([0, 1, 2, 3, 4, 5])
        shop.until(past)
        shop.post(m.End(0, 1))
        shop.until(m.Drained)
    assert sorted(worker.calls) == [0, 1, 2]
    assert shop.values() == [b"0", b"1", b"2"]


def test_the_end_of_an_epoch() -> None:
    worker = Script()
    with Shop(worker, limits=Limits(EndOfEpoch(4), partitions=1)) as shop:
        shop.submit(["1/4", "2/4/end", "3/5"])
        assert shop.until(past).met_limit
        shop.post(m.End(0, 1))
        shop.until(m.Drained)
    assert worker.calls == [1, 2]


def test_a_predicate_ends_before_the_checkpoint_that_it_is_true_for() -> None:
    worker = Script()
    with Shop(worker, limits=Limits(lambda checkpoint: checkpoint.sequence_number == 2, partitions=1)) as shop:
        shop.submit([0, 1, 2, 3])
        shop.until(past)
    assert worker.calls == [0, 1]


def test_a_predicate_that_raises_ends_the_member_and_works_on_nothing() -> None:
    def predicate(checkpoint: Any) -> bool:
        raise ValueError("no idea")

    worker = Script()
    with Shop(worker, limits=Limits(predicate, partitions=1)) as shop:
        shop.submit([0, 1])
        error = shop.until(Broken).error
    assert isinstance(error, PolicyStop)
    assert "until predicate failed for in/0 offset 0: ValueError: no idea" in str(error)
    assert worker.calls == []


def test_caught_up_is_not_the_work_thread_s_business() -> None:
    with Shop(Script(), limits=Limits(CaughtUp(), ends={0: 1}, partitions=1)) as shop:
        shop.submit([0, 1])
        shop.until_items(2)
        assert not any(map(past, shop.seen))


@pytest.mark.parametrize("partitioning", ["modulo", "unknown"])
def test_a_last_checkpoint_that_fails_is_waited_for(partitioning: str) -> None:
    limits = Limits(MaxCheckpoint(1), Partitioning.parse(partitioning), partitions=1)
    with Shop(Script(_1=[ValueError("once")]), limits=limits) as shop:
        shop.submit([0, 1, 2])
        failed = shop.until(m.Failed)
        shop.post(m.End(0, 1))
        assert not any(isinstance(report, m.Drained) for report in shop.quiet())
        shop.post(m.Retry(0, 1, failed.offset))
        shop.until(m.Drained)
    assert shop.values() == [b"0", b"1"]


def test_a_last_checkpoint_that_the_broker_refused_still_ends_the_run() -> None:
    with Shop(Script(), limits=Limits(MaxCheckpoint(1), MODULO, partitions=1)) as shop:
        shop.submit([0, 1], condemned={1: "too large"})
        assert shop.until(past).met_limit
        items = shop.until_items(2)
    assert items[1].history.sequence_number == 1
