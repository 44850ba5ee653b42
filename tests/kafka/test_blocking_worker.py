"""A worker that blocks for longer than `max.poll.interval.ms` is not evicted, and its output appears once."""

from __future__ import annotations

import json

from tests.kafka.conftest import PipelineFactory
from tests.kafka.pipelines import PARTITIONS, Pipeline, eventually, together

BLOCKS_SECONDS = 15
BLOCKS_AT = 100
OPTIONS = {"max.poll.interval.ms": "6000", "session.timeout.ms": "6000", "heartbeat.interval.ms": "1000"}


def test_a_worker_may_block_for_longer_than_the_poll_interval(pipeline: PipelineFactory) -> None:
    together(blocked, [pipeline(protocol) for protocol in ("consumer", "classic")])


def blocked(one: Pipeline) -> None:
    mark = one.folder / "calls"
    options = {"number": BLOCKS_AT, "seconds": BLOCKS_SECONDS, "mark": str(mark)}
    one.feed(600)
    settings = {
        "WORKER": "tests.workers_for_tests:BlockingWorker",
        "WORKER_OPTIONS": json.dumps(options),
        "KAFKA__OPTIONS": json.dumps(OPTIONS),
    }
    run = one.start("blocking", settings=settings)
    eventually(mark.exists, "the worker blocks")
    one.feed(600)
    one.wait_until_done(BLOCKS_SECONDS + 30)
    run.stop()

    assert len(mark.read_text().splitlines()) == 1, "the worker was called again"
    assert [sorted(line["partitions"]) for line in run.events("partitions assigned")] == [list(range(PARTITIONS))]
    assert len(run.members()) == 1
    assert not run.events("partitions lost")
    one.judge()
