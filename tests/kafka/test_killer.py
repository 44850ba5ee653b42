"""A checkpoint that kills whatever process works on it becomes a dead letter, and its neighbours go through."""

from __future__ import annotations

import json
import signal

import pytest

from consumer.core.starts import ALONE_DEATHS, TRIAL_DEATHS
from tests.brokers.find import Broker
from tests.checker import Record, read_topic
from tests.kafka.conftest import PipelineFactory
from tests.kafka.pipelines import DIED, Pipeline, eventually

KILLER = 101
SETTINGS = {
    "WORKER": "tests.workers_for_tests:KilledByOne",
    "WORKER_OPTIONS": json.dumps({"number": KILLER}),
    "STATIC_MEMBERSHIP": "true",  # a member that was killed is replaced at once, and not when its session is over
    "CONCURRENCY": "2",
    "DLQ__MAX_CONSECUTIVE": "1000",
    "DLQ__MAX_RATIO": "1",
}


def judge(one: Pipeline, broker: Broker) -> Record:
    """Everything is accounted for once, and one dead letter says that its process was killed: that of KILLER."""
    report = one.report()
    assert report.ok, str(report)
    assert report.accounted == one.fed
    killed = [
        record
        for record in read_topic(broker.bootstrap, [one.names.dlq])
        if dict(record.headers)["__connect.errors.exception.class.name"] == b"consumer.errors.ProcessKilled"
    ]
    assert [record.key for record in killed] == [str(KILLER).encode()]
    (source,) = [record for record in read_topic(broker.bootstrap, [one.names.input]) if record.key == killed[0].key]
    assert killed[0].value == source.value
    assert dict(killed[0].headers)["__connect.errors.offset"] == str(source.offset).encode()
    return killed[0]


def why(record: Record) -> str:
    return dict(record.headers)["__connect.errors.exception.message"].decode()


@pytest.mark.parametrize("reduced", [False, True], ids=["direct", "reduced"])
def test_a_checkpoint_that_kills_its_process_is_found(pipeline: PipelineFactory, broker: Broker, reduced: bool) -> None:
    one = pipeline("classic", SETTINGS, reduced=reduced)
    one.feed(600)
    run = one.start("one")
    one.wait_until_done(120)  # the supervisor waits longer after every death
    run.stop()

    deaths = run.events(DIED)
    assert len(deaths) >= TRIAL_DEATHS + ALONE_DEATHS
    assert {line["reason"] for line in deaths} == {"SIGSEGV"}
    assert f"{ALONE_DEATHS} of them while it ran alone" in why(judge(one, broker))


def test_another_machine_goes_on_with_the_count(pipeline: PipelineFactory, broker: Broker) -> None:
    one = pipeline("classic", SETTINGS)
    one.feed(600)
    first = one.start("one")
    eventually(lambda: len(first.events(DIED)) >= TRIAL_DEATHS, "the first deaths")
    first.signal(signal.SIGKILL)
    first.wait(10)
    eventually(lambda: not first.left(), "its members end")
    second = one.start("two")
    one.wait_until_done(120)  # the supervisor waits longer after every death
    second.stop()

    assert 1 <= len(second.events(DIED)) < TRIAL_DEATHS + ALONE_DEATHS
    judge(one, broker)
