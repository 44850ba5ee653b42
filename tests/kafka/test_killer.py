"""A checkpoint that kills whatever process works on it becomes a dead letter, and its neighbours go through."""

from __future__ import annotations

import json

import pytest

from consumer.core.starts import TRIAL_DEATHS, TRIAL_STARTS
from tests.brokers.find import Broker
from tests.checker import read_topic
from tests.kafka.conftest import PipelineFactory
from tests.kafka.pipelines import DIED

KILLER = 101


@pytest.mark.parametrize("reduced", [False, True], ids=["direct", "reduced"])
def test_a_checkpoint_that_kills_its_process_is_found(pipeline: PipelineFactory, broker: Broker, reduced: bool) -> None:
    options = json.dumps({"number": KILLER})
    # Static members: a member that was killed is replaced at once, and not only when its session is over.
    one = pipeline(
        "classic",
        {
            "WORKER": "tests.workers_for_tests:KilledByOne",
            "WORKER_OPTIONS": options,
            "STATIC_MEMBERSHIP": "true",
            "DLQ__MAX_CONSECUTIVE": "1000",
            "DLQ__MAX_RATIO": "1",
        },
        reduced=reduced,
    )
    one.feed(600)
    run = one.start("one")
    one.wait_until_done()
    run.stop()

    deaths = run.events(DIED)
    assert len(deaths) >= TRIAL_STARTS + TRIAL_DEATHS
    assert {line["reason"] for line in deaths} == {"SIGKILL"}
    report = one.report()
    assert report.ok, str(report)
    assert report.accounted == one.fed
    killed = [
        record
        for record in read_topic(broker.bootstrap, [one.names.dlq])
        if dict(record.headers)["__connect.errors.exception.class.name"] == b"consumer.errors.ProcessKilled"
    ]
    assert [record.key for record in killed] == [str(KILLER).encode()]
    assert (
        f"{TRIAL_STARTS + TRIAL_DEATHS} processes"
        in dict(killed[0].headers)["__connect.errors.exception.message"].decode()
    )
