"""What a worker depends on is away for a while: nothing is lost, nothing becomes a dead letter."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.kafka.conftest import PipelineFactory
from tests.kafka.pipelines import eventually

OUTAGE_SECONDS = float(os.environ.get("OUTAGE_SECONDS", "8"))


@pytest.mark.parametrize("in_flight", ["1", "16"])
def test_an_outage_loses_nothing_and_buries_nothing(pipeline: PipelineFactory, in_flight: str, tmp_path: Path) -> None:
    away = tmp_path / "away"
    one = pipeline(
        "consumer",
        {
            "WORKER": "tests.workers_for_tests:NeedsDatabase",
            "WORKER_OPTIONS": json.dumps({"away": str(away)}),
            "MAX_IN_FLIGHT": in_flight,
            "RETRY__MAX_ATTEMPTS": "2",  # does not count for what is transient
            "RETRY__MAX_SECONDS": "1",
        },
    )
    one.feed(600)
    run = one.start("one")
    eventually(lambda: sum(one.committed().values()) > 100, "the work has begun")
    away.touch()
    one.feed(600)
    eventually(lambda: run.events("checkpoint failed", kind="transient"), "the outage is noticed")
    since, before = time.monotonic(), one.committed()
    eventually(lambda: time.monotonic() - since > OUTAGE_SECONDS, "the outage is over", OUTAGE_SECONDS + 10)
    assert sum(one.committed().values()) - sum(before.values()) < 600, "the database was not needed"
    away.unlink()
    one.wait_until_done()
    run.stop()
    one.judge()  # the only dead letters are of what cannot be decoded
