"""The benchmark's programs do their job, and its measuring notices one that does not."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from benchmarks import bench
from benchmarks.measure import Job, Wrong, measure
from benchmarks.report import Variant, table
from benchmarks.source import PARTITIONS, fill, generated
from tests.brokers.find import Broker
from tests.brokers.topics import TopicFactory, Topics

RECORDS = 6_000
LIAR = """
import sys
from benchmarks import bare
true = bare.summary
bare.summary = lambda value: {name: 1 if name == "epoch" else found for name, found in true(value).items()}
bare.main()
"""
FORGETFUL = "from benchmarks import bare; bare.Loop._commit = lambda self: self._producer.flush() and None; bare.main()"


@pytest.fixture(scope="module")
def inputs(broker: Broker) -> Iterator[Topics]:
    factory = TopicFactory(broker)
    names = factory(input=PARTITIONS, output=0, dlq=0)
    fill(broker.bootstrap, names.input, generated, RECORDS, "zstd")
    yield names
    factory.close()


@pytest.fixture
def job(broker: Broker, inputs: Topics, topics: TopicFactory) -> Job:
    own = topics(input=0, output=PARTITIONS, dlq=PARTITIONS)
    return Job(broker.bootstrap, inputs.input, own.output, own.group, RECORDS, generated)


@pytest.mark.parametrize("delivery", bench.DELIVERIES)
@pytest.mark.parametrize("members", [0, 1])
def test_both_programs_do_the_job(job: Job, delivery: str, members: int) -> None:
    variant = Variant(delivery, members)
    settings = {**bench._settings(job, variant), "CONSUMER_DLQ_TOPIC": job.output.replace(".output", ".dlq")}
    result = measure(job, bench._command(job, variant), settings)
    assert result.duplicates == 0
    assert result.first_seconds < result.wall_seconds
    assert result.cpu_seconds_per_10000 > 0
    assert table({Variant(delivery, 0): [result]}).count(delivery) == 1


@pytest.mark.parametrize(("program", "complaint"), [(LIAR, "was published as"), (FORGETFUL, "0 of 6,000")])
def test_a_program_that_does_not_do_the_job_is_refused(job: Job, program: str, complaint: str) -> None:
    arguments = [job.bootstrap, job.input, job.output, job.group, "at_least_once"]
    with pytest.raises(Wrong, match=complaint):
        measure(job, [sys.executable, "-c", program, *arguments], {})
