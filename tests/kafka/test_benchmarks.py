"""The benchmark's programs do their job, and its measuring notices one that does not."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from benchmarks import latency
from benchmarks.growth import CURVES
from benchmarks.lab import Lab
from benchmarks.measure import Wrong
from benchmarks.source import Shape
from benchmarks.systems import ALO, EOS, SYSTEMS, System
from tests.brokers.find import Broker

SHAPE = Shape(records=6_000)
LIAR = """
from benchmarks import bare, jobs
true = jobs.summary
jobs.summary = lambda value: {name: 1 if name == "epoch" else found for name, found in true(value).items()}
bare.main()
"""
FORGETFUL = "from benchmarks import bare; bare.Loop._commit = lambda self: self._producer.flush() and None; bare.main()"
SCATTERED = """
from benchmarks import bare
publish, held = bare.Loop._publish, {}
def late(self, message):
    before = held.pop(message.partition(), None)
    if before is None and message.offset() == 700:
        held[message.partition()] = message
    else:
        publish(self, message)
        before and publish(self, before)
bare.Loop._publish = late
bare.main()
"""
TWICE = """
from benchmarks import bare
publish = bare.Loop._publish
def twice(self, message):
    publish(self, message)
    message.offset() == 700 and publish(self, message)
bare.Loop._publish = twice
bare.main()
"""


@pytest.fixture(scope="module")
def lab(broker: Broker) -> Iterator[Lab]:
    found = Lab(broker, compression="zstd")
    yield found
    found.close()


@pytest.mark.parametrize(
    ("name", "delivery"),
    [
        ("consumer", EOS),
        ("consumer", ALO),
        ("loop", EOS),
        ("loop", ALO),
        ("loop-typed", EOS),
        ("fetch-only", EOS),
        ("transactions", EOS),
        ("loop-transactions", EOS),
    ],
)
def test_the_programs_do_the_job(lab: Lab, name: str, delivery: str) -> None:
    result = lab.run(SYSTEMS[name], delivery, SHAPE)
    assert result.duplicates == 0
    assert result.first_seconds < result.wall_seconds
    assert result.cpu_seconds_per_10000 > 0
    assert 0 < result.largest_bytes <= result.peak_bytes


@pytest.mark.parametrize(("curve", "label"), [("dead-letters", "10 %"), ("pools", "2"), ("start", "existing group")])
def test_the_growth_curves_run_what_they_say(lab: Lab, curve: str, label: str) -> None:
    point = CURVES[curve][label]
    result = lab.run(point.system, EOS, SHAPE, pools=point.pools, skipped=point.skipped, existing=point.existing)
    assert result.duplicates == 0


@pytest.mark.parametrize(
    ("program", "complaint"),
    [
        (LIAR, "was published as"),
        (FORGETFUL, "0 of 6,000"),
        (SCATTERED, "4 output records came before one that precedes them"),
        ("raise SystemExit(1)", "6,000 output records are missing"),
    ],
)
def test_a_program_that_does_not_do_the_job_is_refused(lab: Lab, program: str, complaint: str) -> None:
    with pytest.raises(Wrong, match=complaint):
        lab.run(System("a bad one", (sys.executable, "-c", program)), ALO, SHAPE)


def test_what_is_published_twice_is_counted_or_refused(lab: Lab) -> None:
    system = System("a bad one", (sys.executable, "-c", TWICE))
    assert lab.run(system, ALO, SHAPE).duplicates == 4
    with pytest.raises(Wrong, match="4 output records came twice"):
        lab.run(system, EOS, SHAPE)


def test_latency_is_that_of_every_record(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "WARM_SECONDS", 1.0)
    found = latency.measure(lab, SYSTEMS["consumer"], 100, 2.0)
    assert 0 < found.p50_ms <= found.p99_ms <= found.max_ms
    assert found.sent_per_second > 0
    assert 0 < found.seen_percent <= 100
