"""Bounded runs: they end by themselves with exit 0, everything up to the limit is published once, nothing past it.

Each in direct mode and with a reducer that never closes a batch by itself, side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from consumer.errors import ConfigError
from consumer.kafka import preflight
from consumer.kafka.preflight import Preflight
from consumer.patience import Patience
from consumer.settings import load_settings
from tests.brokers.find import Broker
from tests.brokers.topics import TopicFactory
from tests.kafka.commands import WORKERS, Done, Pipeline, run_all, small

LAYOUTS: dict[str, Callable[[int], int]] = {
    "modulo": lambda number: number % 6,
    "range:10": lambda number: number // 10 % 6,
    "unknown": lambda number: number % 6,
}
Make = Callable[..., list[Pipeline]]


@pytest.fixture
def pipelines(broker: Broker, topics: TopicFactory, tmp_path: Path) -> Make:
    """Makes a direct and a reducing pipeline with `input` partitions, whose workers note what they are given."""

    def make(input: int = 6, seconds: float = 0.0, members: int = 1, **settings: Any) -> list[Pipeline]:
        made = []
        for form, reducer in (("direct", None), ("reduced", f"{WORKERS}:KeepOpen")):
            options = {"path": str(tmp_path / form), "seconds": seconds, "members": members}
            noting = {"worker": f"{WORKERS}:Noting", "worker_options": options}
            made.append(Pipeline(broker, topics(input=input), reducer=reducer, **noting, **settings))
        return made

    return make


def processed(pipeline: Pipeline) -> list[int]:
    """What its worker was given, each once: when a partition moves, work under way is done again."""
    path = Path(pipeline.settings["worker_options"]["path"])
    return sorted(set(map(int, path.read_text().split()))) if path.exists() else []


def has_published(pipeline: Pipeline, count: int) -> bool:
    return len(pipeline.outputs()) == count


def has_processed(pipeline: Pipeline, count: int) -> bool:
    return len(processed(pipeline)) == count


def assert_quiet(done: Iterable[Done]) -> None:
    for one in done:
        assert (one.code, one.loud, one.lines) == (0, [], [])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_until_checkpoint_over_six_partitions_and_three_members(pipelines: Make, layout: str) -> None:
    both = pipelines(concurrency=3, members=3, seconds=0.04, sequence__partitioning=layout)
    for pipeline in both:
        pipeline.feed(range(150), partition=LAYOUTS[layout])

    done = run_all(both, "--until-checkpoint", "74")

    assert_quiet(done)
    for one in done:  # it was slow enough for the others to take their share
        assert {line["member"] for line in one.said("partitions assigned") if line["partitions"]} == {0, 1, 2}
    within = {partition: sum(LAYOUTS[layout](n) == partition for n in range(75)) for partition in range(6)}
    for pipeline in both:
        assert pipeline.numbers() == processed(pipeline) == list(range(75))
        assert pipeline.committed() == within
        assert pipeline.audit().ok
    if layout == "unknown":  # again: it ends at once and publishes nothing
        assert_quiet(run_all(both, "--until-checkpoint", "74"))
        for pipeline in both:
            assert pipeline.numbers() == processed(pipeline) == list(range(75))


def test_until_epoch(pipelines: Make) -> None:
    both = pipelines(concurrency=2)
    for pipeline in both:
        pipeline.feed(range(120), epoch_length=40)
    assert_quiet(run_all(both, "--until-epoch", "1"))
    for pipeline in both:
        assert pipeline.numbers() == processed(pipeline) == list(range(80))
        assert sum(pipeline.committed().values()) == 80
        assert pipeline.audit().ok


@pytest.mark.parametrize(
    "limit", [["--until-checkpoint", "23"], ["--until-epoch", "3"], ["--until-caught-up"]], ids=lambda limit: limit[0]
)
def test_nothing_needs_to_come_after_the_limit(pipelines: Make, limit: list[str]) -> None:
    """The limit is the last record there is; two of the partitions are empty, and nobody says which."""
    both = pipelines()
    for pipeline in both:
        pipeline.feed(range(24), partitions=4, epoch_length=6)
    assert_quiet(run_all(both, *limit))
    for pipeline in both:
        assert pipeline.numbers() == list(range(24))
        assert {p: offset for p, offset in pipeline.committed().items() if offset} == dict.fromkeys(range(4), 6)


def test_partitions_without_a_number_within_the_limit_end_at_once(pipelines: Make) -> None:
    both = pipelines(sequence__partitioning="modulo")
    for pipeline in both:
        pipeline.feed(range(12))
    assert_quiet(run_all(both, "--until-checkpoint", "2"))
    for pipeline in both:
        assert pipeline.numbers() == [0, 1, 2]
        assert pipeline.committed() == {0: 1, 1: 1, 2: 1, 3: 0, 4: 0, 5: 0}


def test_the_run_waits_for_a_limit_that_is_still_to_come(broker: Broker, topics: TopicFactory) -> None:
    layouts = ["unknown", "modulo"]
    both = [Pipeline(broker, topics(), concurrency=2, sequence__partitioning=layout) for layout in layouts]
    with ExitStack() as stack:
        runs = [stack.enter_context(pipeline.running("--until-checkpoint", "20")) for pipeline in both]
        for pipeline in both:
            pipeline.feed(range(10))
        for pipeline, run in zip(both, runs, strict=True):
            run.wait_until(partial(has_published, pipeline, 10), "what was there")
            pipeline.feed(range(10, 30))
        assert_quiet([run.wait() for run in runs])
    for pipeline in both:
        assert pipeline.numbers() == list(range(21))


def test_caught_up_means_the_ends_at_the_start(pipelines: Make) -> None:
    both = pipelines(concurrency=3, seconds=0.05)
    with ExitStack() as stack:
        for pipeline in both:
            pipeline.feed(range(60))
        runs = [stack.enter_context(pipeline.running("--until-caught-up")) for pipeline in both]
        for pipeline, run in zip(both, runs, strict=True):
            run.wait_until(partial(processed, pipeline), "the first of them")
            pipeline.feed(range(60, 120))
        assert_quiet([run.wait() for run in runs])
    for pipeline in both:
        assert pipeline.numbers() == processed(pipeline) == list(range(60))


def test_partitions_that_end_in_markers(pipelines: Make) -> None:
    """Behind the last record a commit marker, an aborted record and its marker; one partition holds only those."""
    limits = [["--until-checkpoint", "11"], ["--until-caught-up"]]
    chosen = [(limit, pipelines(input=4)) for limit in limits]
    for pipeline in (one for _, both in chosen for one in both):
        producer = transactional(pipeline)
        for numbers, partitions, finish in (
            (range(12), 3, producer.commit_transaction),
            (range(12, 20), 4, producer.abort_transaction),
        ):
            producer.begin_transaction()
            for number in numbers:
                producer.produce(pipeline.names.input, small(number), partition=number % partitions)
            assert producer.flush(30) == 0
            finish(30)
    for limit, both in chosen:
        assert_quiet(run_all(both, *limit))
        assert_quiet(run_all(both[:1], *limit))  # again
        for pipeline in both:
            assert pipeline.numbers() == processed(pipeline) == list(range(12))
            assert pipeline.audit().ok


def transactional(pipeline: Pipeline) -> Producer:
    producer = Producer({"bootstrap.servers": pipeline.bootstrap, "transactional.id": pipeline.names.group})
    producer.init_transactions(30)
    return producer


def test_caught_up_does_not_wait_for_a_transaction_that_was_open_at_the_start(pipelines: Make) -> None:
    pipeline = pipelines(input=1)[0]
    pipeline.feed(range(5), partitions=1)
    producer = transactional(pipeline)
    producer.begin_transaction()
    producer.produce(pipeline.names.input, small(5), partition=0)
    assert producer.flush(30) == 0

    assert_quiet([pipeline.run("--until-caught-up")])

    assert pipeline.numbers() == list(range(5))
    producer.abort_transaction(30)


def test_a_member_killed_in_the_middle_of_a_bounded_run(pipelines: Make, tmp_path: Path) -> None:
    limits = [["--until-checkpoint", "449"], ["--until-caught-up"]]
    chosen: list[tuple[Pipeline, list[str], Path]] = []
    for limit in limits:
        for pipeline in pipelines(concurrency=3, batch__max_messages=10):
            fired = tmp_path / f"fired-{len(chosen)}"
            fired.mkdir()
            pipeline.feed(range(450))
            chosen.append((pipeline, limit, fired))
    with ExitStack() as stack:
        runs = [
            stack.enter_context(
                pipeline.running(
                    *limit,
                    env={"CHECKPOINT_FAILPOINTS": "after-flush=kill", "CHECKPOINT_FAILPOINTS_FIRED": str(fired)},
                    worker="consumer.workers:SummaryWorker",
                    worker_options=None,
                )
            )
            for pipeline, limit, fired in chosen
        ]
        done = [run.wait() for run in runs]
    for (pipeline, _, fired), one in zip(chosen, done, strict=True):
        assert one.code == 0, one.stderr
        assert [line["reason"] for line in one.said("member died, it is started again")] == ["SIGKILL"], one.stderr
        assert [file.name for file in fired.iterdir()] == ["after-flush"]
        assert pipeline.numbers() == list(range(450))
        assert pipeline.audit().ok


def test_a_stop_before_the_limit_is_a_failure_where_that_is_asked_for(pipelines: Make) -> None:
    """A Kubernetes Job takes exit code 0 for the whole of it."""
    limit = ["--until-checkpoint", "50", "--fail-when-stopped"]
    both = pipelines()
    with ExitStack() as stack:
        runs = [stack.enter_context(pipeline.running(*limit)) for pipeline in both]
        for pipeline, run in zip(both, runs, strict=True):
            pipeline.feed(range(20))
            run.wait_until(partial(has_processed, pipeline, 20), "what was there")
        for done in [run.stop() for run in runs]:
            assert done.code == 1
            assert "stopped before its limit: run it again" in done.stderr
    for pipeline in both:
        pipeline.feed(range(20, 60))
    assert_quiet(run_all(both, *limit))
    for pipeline in both:
        assert pipeline.numbers() == list(range(51))
        assert pipeline.audit().ok


def test_a_run_without_a_limit_cannot_be_stopped_before_it(pipelines: Make) -> None:
    done = pipelines()[0].run("--fail-when-stopped")
    assert done.code == 2
    assert "--fail-when-stopped needs a limit" in done.stderr


# ------------------------------------------------------------------------------------------- the group for itself


def test_a_bounded_run_refuses_a_group_with_another_live_member(
    pipelines: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the same host and the same instance id, which only its process tells from this run's own members."""
    pipeline = pipelines()[0]
    pipeline.feed(range(6))
    with pipeline.running() as other:
        other.wait_until(lambda: len(pipeline.outputs()) == 6, "its work")
        settings = load_settings(pipeline.environment())
        monkeypatch.setattr(preflight, "ALONE_SECONDS", 1.0)
        with pytest.raises(ConfigError) as refused:
            Preflight(settings, Patience(endless=False, stopping=lambda: False)).wait_until_alone()
        member = f"{pipeline.names.group}-{settings.instance_id}-0"
        assert f"group {pipeline.names.group} for itself, but it has other members: {member} on" in str(refused.value)
        assert str(refused.value).endswith("stop them, or use another CONSUMER_GROUP_ID")
        assert other.stop().code == 0


def test_a_bounded_run_waits_for_members_that_are_gone(pipelines: Make) -> None:
    pipeline = pipelines(concurrency=2)[0]
    pipeline.feed(range(6))
    with pipeline.running() as gone:
        gone.wait_until(lambda: len(pipeline.outputs()) == 6, "its work")
    pipeline.feed(range(6, 12))  # `with` has killed it and its members, which did not say goodbye

    done = pipeline.run("--until-caught-up")

    assert done.code == 0
    assert len(done.said("a bounded run wants the group for itself, waiting for its members to leave")) == 1
    assert pipeline.numbers() == list(range(12))
