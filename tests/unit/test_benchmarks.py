"""The benchmark's arithmetic: medians, ratios, percentiles, tables, goals, and what it checks."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import msgspec
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import bench, compare, growth, jobs, lab, latency, publish, report, scale_out, systems
from benchmarks.bench import CPU, RATE
from benchmarks.goals import GOALS, Goal
from benchmarks.goals import shown as goals_shown
from benchmarks.lab import arguments, in_turn, is_trial
from benchmarks.latency import percentile, waited
from benchmarks.measure import Job, Wrong, _Moment, _watch, peak
from benchmarks.peers import projected
from benchmarks.source import Shape, from_folder, renumbered
from benchmarks.systems import ALO, EOS, SYSTEMS
from benchmarks.workers import refused
from consumer import Checkpoint, CheckpointHeader
from consumer.checkpoint import Position
from consumer.generate import generate
from consumer.workers import SummaryWorker, TransactionWorker

POSITION = Position("in", 0, 0, 0, None, ())
RUNS = {
    "consumer exactly_once": [{RATE: 30.0, CPU: 1.0}, {RATE: 10.0, CPU: 2.0}, {RATE: 40.0, CPU: 3.0}],
    "loop exactly_once": [{RATE: 10.0, CPU: 4.0}, {RATE: 2.0, CPU: 4.0}, {RATE: 10.0, CPU: 4.0}],
}


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    assert report.middle(RUNS, "consumer exactly_once", RATE) == 30
    assert report.fraction(RUNS, "consumer exactly_once", "loop exactly_once", RATE) == 4  # of 3, 5, 4; not 30 / 10
    with pytest.raises(KeyError):
        report.fraction(RUNS, "consumer exactly_once", "rust exactly_once", RATE)


def test_a_table_is_aligned_markdown() -> None:
    columns = [report.spread("rate", RATE), report.plain("CPU", CPU, 1, unit=2)]
    assert report.table(RUNS, "system", columns, lambda label: label.split()[0]).splitlines() == [
        "| system   |       rate | CPU |",
        "| :------- | ---------: | --: |",
        "| consumer | 30 (10-40) | 1.0 |",
        "| loop     |  10 (2-10) | 2.0 |",
    ]


def test_everything_is_compared_with_the_consumer_under_the_same_guarantee() -> None:
    full = dict.fromkeys(("peak_bytes", "largest_bytes", "first_seconds", "wall_seconds", "stolen_percent"), 1.0)
    rates = {"consumer exactly_once": 40.0, "loop exactly_once": 10.0, "consumer at_least_once": 60.0}
    rates |= {"loop at_least_once": 20.0}
    runs = {label: [{RATE: rate, CPU: 1.0, **full}] for label, rate in rates.items()}
    rows = [[cell.strip() for cell in line.split("|")] for line in bench.shown(runs).splitlines()[2:]]
    assert [row[3] for row in rows] == ["1.00", "4.00", "1.00", "3.00"]
    del runs["consumer at_least_once"]
    assert bench.shown(runs).splitlines()[-1].split("|")[3].strip() == "2.00"


def test_neither_the_first_third_of_the_output_counts_nor_what_a_timer_commits_at_the_end() -> None:
    """Half of the output is there when it is first seen to be more than a third; behind 0.96 comes only the rest."""
    shares, seconds = iter([0.0, 0.3, 0.5, 0.8, 0.96, 1.0]), iter([0.5, 1.0, 3.3, 50.0])
    observer = SimpleNamespace(missing=1, share=0.0, records=100)

    def read(_: float) -> None:
        observer.share = next(shares)
        observer.missing = int(observer.share < 1)

    observer.read = read
    usage = SimpleNamespace(ended=False, cpu=lambda: next(seconds), peak_bytes=2, largest_bytes=1)
    result = _watch(cast(Any, observer), cast(Any, usage))
    assert result.cpu_seconds_per_10000 == pytest.approx(2.3 / 46 * 10_000)
    assert result.whole_cpu_seconds_per_10000 == pytest.approx(2.8 / 66 * 10_000)
    assert _Moment(3.0, 0.9, 5.0).since(_Moment(1.0, 0.4, 1.0), records=100) == (25.0, 800.0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps a process's peak")
def test_a_peak_is_known_after_the_memory_was_given_back() -> None:
    block = b"x" * 64_000_000
    del block
    assert peak(os.getpid()) > psutil.Process().memory_info().rss + 50_000_000
    assert peak(2**30) == 0


@given(st.lists(st.floats(0, 1e6), min_size=1).map(sorted), st.floats(0.01, 1))
def test_a_percentile_is_not_exceeded_by_its_share(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values)


def test_what_never_became_visible_counts_with_what_it_has_waited() -> None:
    sent, visible = [1.0, 2.0, 3.0, 4.0, 9.5, 0.0], [1.5, 2.25, 0.0, 4.125, 9.75, 0.0]
    waits, seen = waited(sent, visible, begin=1.0, recent=9.0, end=10.0)
    assert (waits, seen) == ([0.125, 0.25, 7.0], 2)


@pytest.mark.parametrize(
    ("sign", "limit", "other", "measured", "reached"),
    [
        ("≥", 4, "loop exactly_once", "4.00 (3.00-5.00)", "yes, 2 of 3 rounds"),
        ("≥", 4.1, "loop exactly_once", "4.00 (3.00-5.00)", "**no**, 1 of 3 rounds"),
        ("≥", 3, "loop exactly_once", "4.00 (3.00-5.00)", "yes"),
        ("≤", 30, "", "30.00 (10.00-40.00)", "yes, 2 of 3 rounds"),
        ("≤", 29, "", "30.00 (10.00-40.00)", "**no**, 1 of 3 rounds"),
        ("≤", 9, "", "30.00 (10.00-40.00)", "**no**"),
        ("≥", 1, "rust exactly_once", "not measured yet", "not measured yet"),
    ],
)
def test_a_goal_is_reached_or_not_or_unmeasured(
    sign: str, limit: float, other: str, measured: str, reached: str
) -> None:
    row = Goal(1, "peers", RATE, "consumer exactly_once", other, sign, limit).row(RUNS)
    assert row[1:4] == [f"{sign} {limit:g}", measured, reached]


def test_goals_and_tables_name_what_the_drivers_measure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    measured = {name: {" ".join(pair) for pair in pairs} for name, pairs in bench.SETS.items()}
    measured["peers-1"] = measured["peers-real"] = measured["peers"]
    measured["transactions-real"] = measured["transactions"]
    measured |= {f"growth-{curve}": set(points) for curve, points in growth.CURVES.items()}
    measured["scale-out"] = set(scale_out.PROTOCOLS)
    measured["latency"] = {f"consumer {rate:.0f}/s" for rate in latency.RATES}
    assert [goal for goal in GOALS if not {goal.label, goal.other} - {""} <= measured[goal.file]] == []
    assert goals_shown().count("not measured yet") == 2 * len(GOALS)


def test_results_are_kept_as_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    assert report.load("peers") == {"runs": {}}
    report.save("peers", {"broker": "one"}, RUNS)
    found = report.load("peers")
    assert (found["broker"], found["runs"]) == ("one", RUNS)


def test_a_trial_or_what_no_commit_holds_is_not_kept_as_what_the_document_shows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    assert report.save("peers", {"commit": "abc"}, RUNS).name == "peers.json"
    assert report.save("peers", {"commit": "abc"}, RUNS, trial=True).name == "peers-some.json"
    assert report.save("peers", {"commit": "abc-dirty"}, RUNS).name == "peers-some.json"
    parser = arguments("", rounds=3)
    assert not is_trial(parser, parser.parse_args([]))
    assert is_trial(parser, parser.parse_args(["--rounds", "1"]))
    assert not is_trial(parser, parser.parse_args(["--rounds", "1"]), "rounds")


def test_an_older_file_that_lacks_what_counts_is_shown_with_what_it_has() -> None:
    assert bench.counted(RUNS) == (RATE, CPU)
    assert bench.heads(RATE) == ("checkpoints/s", "CPU s/10,000")
    assert bench.counted({"consumer exactly_once": [{bench.WHOLE_RATE: 1.0}]}) == (bench.WHOLE_RATE, bench.WHOLE_CPU)
    assert bench.heads(bench.WHOLE_RATE)[0] == "checkpoints/s, from the first output"


def test_a_table_replaces_what_stands_between_its_markers() -> None:
    text = publish.filled("a <!-- x -->old\n\\1<!-- /x --> b <!-- y --><!-- /y -->", "x", r"new \1")
    assert text == "a <!-- x -->\nnew \\1\n<!-- /x --> b <!-- y --><!-- /y -->"
    with pytest.raises(ValueError, match="0 places are marked"):
        publish.filled(text, "z", "new")


def test_the_document_has_a_place_for_every_table() -> None:
    text = publish.DOCUMENT.read_text()
    for name in ("goals", *publish.TABLES):
        publish.filled(text, name, "")


def test_the_rounds_run_in_turn_and_a_program_that_fails_is_left_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class One(NamedTuple):
        number: int

    order: list[str] = []

    def once(label: str) -> tuple[One, str]:
        order.append(label)
        if label == "b" and len(order) > 6:
            raise Wrong("it lied")
        return One(len(order)), "said"

    monkeypatch.setattr(lab, "_stolen_percent", lambda before, after: 1.0)
    runs = in_turn(["a", "b", "c"], 3, once)
    numbers = {label: [run["number"] for run in found] for label, found in runs.items()}
    assert numbers == {"a": [4, 9, 10], "c": [6, 7, 11]}
    assert order == ["c", "b", "a", "a", "b", "c", "c", "b", "a", "a", "c"]
    assert "LEFT OUT: b did not do its job: it lied" in capsys.readouterr().err


def test_of_disturbed_runs_the_least_disturbed_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    class One(NamedTuple):
        number: int

    ran = itertools.count()
    stolen = iter([9.0, 9.0, 6.0, 7.0, 4.0])
    monkeypatch.setattr(lab, "_stolen_percent", lambda before, after: next(stolen))
    runs = in_turn(["a"], 2, lambda _: (One(next(ran)), "said"))
    assert runs == {"a": [{"number": 2, "stolen_percent": 6.0}, {"number": 4, "stolen_percent": 4.0}]}
    assert in_turn(["a"], 0, lambda _: (One(0), ""), warm_up=False) == {"a": []}


def test_the_reference_is_what_the_shipped_workers_publish() -> None:
    for number in (0, 3, 98, 99, 100):
        value = generate(number)
        made = SummaryWorker().process_checkpoint(CheckpointHeader.decode(value, POSITION))
        assert jobs.summary(value) == projected.summary(value) == msgspec.to_builtins(made)
        assert projected.summary_of_cut(value) == projected.summary(value)
        records = TransactionWorker().process_checkpoint(Checkpoint.decode(value, POSITION))
        assert jobs.transactions(value) == msgspec.to_builtins(records)
        for work in jobs.WORKS.values():
            assert [work.decode(record) for record in work.encode(value)] == work.outputs(value)


def test_a_frame_of_another_schema_is_refused() -> None:
    record = jobs.SUMMARIES.encode(generate(0))[0]
    with pytest.raises(ValueError, match="the frame is"):
        jobs.TRANSACTIONS.decode(record)


def test_checkpoints_are_numbered_anew(tmp_path: Path) -> None:
    for number in (5, 6):
        (tmp_path / f"{number}.json").write_bytes(generate(number))
    for source in (from_folder(tmp_path), renumbered([generate(5), generate(6)])):
        assert [jobs.summary(source(number))["sequence_number"] for number in range(3)] == [0, 1, 2]
        expected = json.loads(generate(6))
        expected["checkpoint_summary"]["data"]["sequence_number"] = 3
        assert json.loads(source(3)) == expected
    with pytest.raises(ValueError, match=r"holds no \.json file"):
        from_folder(tmp_path / "none")


def test_what_is_expected_of_each_checkpoint() -> None:
    shape = Shape(1000)
    job = Job("", "in", "out", ["a", "b"], shape, shape.generated(), skipped=partial(refused, per_thousand=10))
    assert job.counts().count(0) == 10
    assert sum(job.counts()) == 990 * 2
    kept, skipped = job.counts().index(2), job.counts().index(0)
    assert job.outputs(skipped) == []
    assert job.outputs(kept) == [jobs.summary(generate(kept))] * 2
    assert job._replace(each=[3, 1, 2], skipped=lambda number: number == 1).counts() == [6, 0, 4]


def test_programs_are_told_by_arguments_and_the_consumer_by_its_settings() -> None:
    job = Job("host:1", "in", "out", ["group"], Shape(), generate)
    rust = SYSTEMS["rust"].program(job, EOS)
    assert rust.command[1:] == ("host:1", "in", "out", "group", EOS, "typed")
    environ: Mapping[str, Any] = SYSTEMS["transactions-2"].program(job, ALO).environ
    assert environ["CONSUMER_WORKER"] == "consumer.workers:TransactionWorker"
    assert environ["CONSUMER_DELIVERY"] == ALO
    assert environ["CONSUMER_CONCURRENCY"] == "2"
    assert growth.CURVES["batch"]["10"].system.program(job, EOS).environ["CONSUMER_BATCH__MAX_MESSAGES"] == "10"


def test_a_system_that_cannot_be_built_is_left_out_aloud(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(systems, "BUILT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert systems.without_what_cannot_be_built(["consumer", "rust", "streams", "loop"]) == ["consumer", "loop"]
    said = capsys.readouterr().err
    assert "LEFT OUT: Rust, rdkafka, typed serde: `cargo` is not on the PATH" in said
    assert "LEFT OUT: Kafka Streams, 2 threads, Jackson: `mvn` is not on the PATH" in said


def test_another_commit_is_compared_as_it_was(tmp_path: Path) -> None:
    compare.unpack("HEAD", str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"consumer", "schemas"}
    assert (tmp_path / "consumer" / "__main__.py").is_file()
