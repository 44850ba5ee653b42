"""What the work thread lets in and out: the sequence audit and the dead-letter limits, per policy."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from consumer.core import messages as m
from consumer.core.audit import SequencePolicy
from consumer.core.history import DeadLetterLimits, History
from consumer.core.machine import Machine, Policy
from consumer.errors import ExitCode, PermanentError
from consumer.limits import Limits, MaxCheckpoint
from consumer.partitioning import Partitioning
from consumer.telemetry import Telemetry
from consumer.work import bench
from consumer.work.report import Closed
from consumer.worker import Worker
from tests.unit.work.shop import Gates, Listener, Plain, Script, Shop

ONE_PARTITION = Partitioning.parse("modulo")


def sequence(policy: Any) -> SequencePolicy:
    return SequencePolicy(policy, ONE_PARTITION, 1)


def offsets(shop: Shop) -> list[int]:
    return [item.first for item in shop.items[0]]


def tally_of(shop: Shop) -> Any:
    shop.post(None)  # type: ignore[arg-type]
    return shop.until(Closed).tally


def anomalies(log: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.fields for record in log.records if record.message == "sequence anomaly"]  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------------ sequence


def test_report_tells_and_counts_and_works_on_all(caplog: pytest.LogCaptureFixture) -> None:
    with Shop(Plain(), sequence=sequence("report")) as shop:
        shop.submit([0, 1, 3, 3, 2])
        shop.until_items(5)
        assert shop.values() == [b"0", b"1", b"3", b"3", b"2"]
        assert tally_of(shop).anomalies == {"gap": 1, "repeat": 1, "regression": 1}
    where = {"topic": "in", "partition": 0}
    assert anomalies(caplog) == [
        {**where, "offset": 2, "kind": "gap", "number": 3, "highest": 1, "expected": 2},
        {**where, "offset": 3, "kind": "repeat", "number": 3, "highest": 3, "expected": 4},
        {**where, "offset": 4, "kind": "regression", "number": 2, "highest": 3, "expected": 4},
    ]


def test_a_flood_of_anomalies_is_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with Shop(Plain(), sequence=sequence("report")) as shop:
        shop.submit([5] * 300)
        shop.until_items(300)
        assert tally_of(shop).anomalies == {"repeat": 299}
    assert len(anomalies(caplog)) == 1


def test_ignore_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with Shop(Plain(), sequence=sequence("ignore")) as shop:
        shop.submit([0, 5, 5, 2])
        shop.until_items(4)
        assert not tally_of(shop).anomalies
    assert anomalies(caplog) == []


def test_a_record_is_audited_once_however_often_it_is_tried(caplog: pytest.LogCaptureFixture) -> None:
    with Shop(Script(_1=[ValueError("x"), ValueError("x"), 1]), sequence=sequence("report")) as shop:
        shop.submit([0, 1, 2])
        for _ in range(2):
            shop.until(m.Failed)
            shop.post(m.Retry(0, 1, 1))
        shop.until_items(3)
    assert anomalies(caplog) == []


def test_after_a_restart_the_history_says_what_is_known() -> None:
    with Shop(Plain(), sequence=sequence("report")) as shop:
        shop.open(history=History(6))
        shop.submit([7, 8, 6, 5])
        shop.until_items(4)
        assert tally_of(shop).anomalies == {"repeat": 1, "regression": 1}
        assert shop.items[0][-1].history == History(8), "the numbers seen are kept under skip_repeats only"


@pytest.mark.parametrize("worker", [Plain(), Script(_3=[[3, 3]])])
def test_a_repeat_is_skipped_and_a_regression_never(worker: Any) -> None:
    with Shop(worker, sequence=sequence("skip_repeats")) as shop:
        shop.open(history=History(1).keeping_seen(True))
        shop.submit([1, 3, 3, 2, 2, 4])
        items = shop.until_items(6)
        tally = tally_of(shop)
    assert [bool(item.outs) for item in items] == [False, True, False, True, False, True]
    assert offsets(shop) == list(range(6)), "the offset moves all the same"
    assert tally.outcomes == {"skipped": 3, "published": 3}
    assert items[-1].history == History(4, seen=0b1111)


def test_a_skipped_repeat_neither_mends_nor_breaks_a_run_of_dead_letters() -> None:
    with Shop(Script(_1=[PermanentError("no")]), sequence=sequence("skip_repeats")) as shop:
        shop.submit([0, 1, 1])
        shop.post(m.DeadLetter(0, 1, shop.until(m.Failed).offset, 1))
        items = shop.until_items(3)
    assert items[2].history == items[1].history
    assert (items[2].history.dead_run, items[2].history.dead_window) == (1, 1)


def test_a_skipped_repeat_is_in_no_batch() -> None:
    reducer = Listener(lambda batch, following: False)
    with Shop(Plain(), reducer, sequence=sequence("skip_repeats")) as shop:
        shop.submit([0, 1, 1, 2])
        shop.until_processed(4)
        shop.post(m.End(0, 1))
        (item,) = shop.until_items(1)
    assert reducer.committed == [[0, 1, 2]]
    assert item.records == 4


def test_stop_publishes_what_is_before_and_holds_the_place() -> None:
    worker = Script()
    with Shop(worker, sequence=sequence("stop")) as shop:
        shop.submit([0, 1, 3, 4])
        halted = shop.until(m.Halted)
        assert offsets(shop) == [0, 1]
        assert shop.quiet() == []
        shop.post(m.Drain(0, 1))
        shop.until(m.Drained)
    assert worker.calls == [0, 1]
    assert offsets(shop) == [0, 1]
    assert halted.fail.exit_code == ExitCode.POLICY
    for part in ("in/0 offset 2", "checkpoint 3", "gap", "expected was 2", "CONSUMER_SEQUENCE__POLICY=report"):
        assert part in halted.fail.message


def test_what_runs_when_the_place_is_held_still_leaves() -> None:
    gates = Gates()

    class Threaded(Worker[int]):
        def process_checkpoint(self, checkpoint: Any) -> int:
            gates.wait(checkpoint.sequence_number)
            return int(checkpoint.sequence_number)

    with Shop(Threaded(), max_in_flight=4, sequence=sequence("stop")) as shop:
        shop.submit([0, 1, 5, 6])
        assert gates.next(2) == {0, 1}
        shop.until(m.Halted)
        shop.post(m.Drain(0, 1))
        gates.let(0, 1)
        shop.until(m.Drained)
    assert offsets(shop) == [0, 1]
    assert gates.empty()


def test_a_checkpoint_without_a_number_is_not_audited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "numbers_of", lambda checkpoint: (None, None))
    with Shop(Plain(), sequence=sequence("stop")) as shop:
        shop.open(history=History(8))
        shop.submit([0, 5, 5])
        assert shop.until_items(3)[2].history == History(8)
        assert not any(isinstance(report, m.Halted) for report in shop.quiet())


def test_what_is_past_the_limit_of_a_bounded_run_is_not_audited() -> None:
    limits = Limits(MaxCheckpoint(1), ONE_PARTITION, 1)
    with Shop(Plain(), sequence=sequence("stop"), limits=limits) as shop:
        shop.submit([0, 1, 7])
        assert shop.until(lambda report: isinstance(report, m.Worked) and report.past_limit)
        assert not any(isinstance(report, m.Halted) for report in shop.quiet())


# -------------------------------------------------------------------------------------------- dead-letter limits


def bury_all(shop: Shop, count: int) -> None:
    for _ in range(count):
        failed = shop.until(m.Failed)
        shop.post(m.DeadLetter(0, 1, failed.offset, 1))


def broken(numbers: Sequence[int]) -> Script:
    return Script(**{f"_{number}": PermanentError("no such table") for number in numbers})


def test_the_dead_letter_that_would_pass_the_limit_is_not_released_nor_anything_behind_it() -> None:
    with Shop(broken([1, 2, 3]), dead_letter_limits=DeadLetterLimits(2, 0.5)) as shop:
        shop.submit([0, 1, 2, 3, 4])
        bury_all(shop, 3)
        halted = shop.until(m.Halted)
        assert offsets(shop) == [0, 1, 2]
        assert shop.quiet() == []
        shop.post(m.Drain(0, 1))
        shop.until(m.Drained)
        assert tally_of(shop).dead_letters == {"PermanentError": 2}
    assert offsets(shop) == [0, 1, 2]
    assert halted.fail.exit_code == ExitCode.POLICY
    for part in (
        *("in/0 offset 3", "PermanentError: no such table", "CONSUMER_DLQ__MAX_CONSECUTIVE=2"),
        *("CONSUMER_DLQ__MAX_RATIO=0.5", "`dlq list`", "`dlq resume`"),
    ):
        assert part in halted.fail.message


def test_the_count_goes_on_after_a_restart() -> None:
    with Shop(broken([7]), dead_letter_limits=DeadLetterLimits(2, 1)) as shop:
        shop.open(history=History(6, None, 2, 0b11))
        shop.submit([7])
        bury_all(shop, 1)
        shop.until(m.Halted)
        assert shop.items.get(0, []) == []


def test_what_the_broker_refused_counts() -> None:
    with Shop(Plain(), dead_letter_limits=DeadLetterLimits(0, 1)) as shop:
        shop.submit([0, 1, 2], condemned={1: "INVALID_RECORD: no"})
        assert "INVALID_RECORD: no" in shop.until(m.Halted).fail.message
        assert offsets(shop) == [0]


def test_the_ratio_counts_where_successes_lie_between() -> None:
    with Shop(broken([0, 2, 4]), dead_letter_limits=DeadLetterLimits(1, 0.002)) as shop:
        shop.submit(range(6))
        bury_all(shop, 3)
        shop.until(m.Halted)
        assert offsets(shop) == [0, 1, 2, 3]


def test_dead_letters_in_an_open_batch_count_and_it_is_asked_once_more_as_at_shutdown() -> None:
    reducer = Listener(lambda batch, following: False)
    with Shop(broken([1, 2]), reducer, dead_letter_limits=DeadLetterLimits(1, 1)) as shop:
        shop.submit([0, 1, 2, 3])
        bury_all(shop, 2)
        shop.until(m.Halted)
        assert shop.items.get(0, []) == [], "not closed by this"
        reducer.closes = lambda batch, following: following is None
        shop.post(m.Drain(0, 1))
        shop.until(m.Drained)
    (item,) = shop.items[0]
    assert (item.first, item.last, item.history.dead_run) == (0, 1, 1)


def test_what_is_counted_becomes_metrics() -> None:
    telemetry = Telemetry("in", 0)
    with Shop(Script(_3=[PermanentError("no")]), sequence=sequence("report")) as shop:
        shop.submit([0, 0, 3])
        bury_all(shop, 1)
        shop.until_items(3)
        telemetry.measured(tally_of(shop))
    found = telemetry.snapshot(Machine(Policy(), Random(0)), {}, {})
    counted = {key: numbers[0] for key, numbers in found.items() if key[0].startswith(("sequence_", "dead_"))}
    assert counted == {
        ("sequence_anomalies_total", ("gap",)): 1,
        ("sequence_anomalies_total", ("repeat",)): 1,
        ("dead_letters_total", ("PermanentError",)): 1,
    }
