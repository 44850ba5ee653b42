"""Limits to dead letters and the sequence audit: over restarts and rebalances, by the committed metadata."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from consumer.errors import ExitCode
from tests.brokers.find import Broker
from tests.brokers.topics import TopicFactory
from tests.checker import read_topic
from tests.kafka.commands import WORKERS, Done, Pipeline, run_all

LIMIT = 4
RESTARTS = 10
IN_TURN: dict[str, Any] = {"sequence__partitioning": "modulo"}
CAUGHT_UP = "--until-caught-up"


def dead_letters(pipeline: Pipeline) -> Counter[int]:
    """How many there are of each input partition."""
    return Counter(record.partition for record in read_topic(pipeline.bootstrap, [pipeline.names.dlq]))


def anomalies(done: Done) -> list[tuple[Any, ...]]:
    """The partition, offset, kind, number and expected number of each that was told."""
    names = ("partition", "offset", "kind", "number", "expected")
    return sorted(tuple(line[name] for name in names) for line in done.said("sequence anomaly"))


def test_a_broken_deploy_leaves_few_dead_letters_through_ten_restarts(broker: Broker, topics: TopicFactory) -> None:
    broken = {"worker": f"{WORKERS}:BrokenDeploy", "retry__max_attempts": 2, "retry__initial_seconds": 0.01}
    limits = {"dlq__max_consecutive": LIMIT, "dlq__max_ratio": 1}
    both = [
        Pipeline(broker, topics(input=2, dlq=2), reducer=reducer, **limits) for reducer in (None, f"{WORKERS}:KeepOpen")
    ]
    stopped: list[set[int]] = [set(), set()]
    for pipeline in both:
        pipeline.feed(range(60), partitions=2)

    for restarts in range(1 + RESTARTS):
        running = both if restarts < 3 else both[:1]  # the rule is the same for both
        for at, (pipeline, done) in enumerate(zip(running, run_all(running, **broken), strict=True)):
            assert done.code == ExitCode.POLICY, done.stderr
            (where,) = {p for p in range(2) if f"{pipeline.names.input}/{p} offset {LIMIT} failed" in done.stderr}
            for part in ("ValueError: no such column", f"MAX_CONSECUTIVE={LIMIT}", "`dlq list`", "`dlq resume`"):
                assert part in done.stderr
            stopped[at].add(where)

    for pipeline, partitions in zip(both, stopped, strict=True):
        found = dead_letters(pipeline)
        assert all(found[partition] == LIMIT for partition in partitions)
        assert max(found.values()) == LIMIT
        assert pipeline.committed() == {partition: found[partition] for partition in range(2)}

    for done in run_all(both, CAUGHT_UP):  # mended
        assert done.code == ExitCode.DONE, done.stderr
    for pipeline in both:
        assert sum(dead_letters(pipeline).values()) + len(pipeline.numbers()) == 60
        assert pipeline.audit().ok


def test_a_dead_letter_that_cannot_be_written_stops_and_is_not_dropped(broker: Broker, topics: TopicFactory) -> None:
    pipeline = Pipeline(broker, topics(input=2))
    pipeline.feed(range(10), partitions=2)
    with pipeline.running() as run:
        run.wait_until(lambda: len(pipeline.numbers()) == 10, "what is well")
        topics.configure(pipeline.names.dlq, "max.message.bytes", "100")
        producer = Producer({"bootstrap.servers": broker.bootstrap})
        producer.produce(pipeline.names.input, b"damaged", b"10", 0)
        assert producer.flush(30) == 0
        pipeline.feed(range(11, 20), partitions=2)
        done = run.wait()
    assert done.code == ExitCode.POLICY, done.stderr
    told = f"the broker refuses the dead letter of {pipeline.names.input}/0 offsets 5-5: "
    assert told in done.stderr
    assert "raise the limits of the dead-letter topic and start again; nothing was skipped" in done.stderr
    assert pipeline.committed()[0] == 5
    assert dead_letters(pipeline) == Counter()

    topics.configure(pipeline.names.dlq, "max.message.bytes", "1048588")
    assert pipeline.run(CAUGHT_UP).code == ExitCode.DONE
    assert dead_letters(pipeline) == Counter({0: 1})
    assert pipeline.numbers() == [*range(10), *range(11, 20)]
    assert pipeline.audit().ok


def test_a_sink_that_keeps_its_own_progress_says_where_its_partitions_start(
    broker: Broker, topics: TopicFactory, tmp_path: Path
) -> None:
    options = {"folder": str(tmp_path)}
    pipeline = Pipeline(broker, topics(input=2), reducer=f"{WORKERS}:KeepsItsOwn", reducer_options=options)
    pipeline.feed(range(20), partitions=2)
    (tmp_path / "next-1").write_text("4")  # ahead of the group, which has nothing committed
    assert pipeline.run(CAUGHT_UP).code == ExitCode.DONE
    assert given(tmp_path, 0) == list(range(0, 20, 2))
    assert given(tmp_path, 1) == list(range(9, 20, 2))

    (tmp_path / "next-0").write_text("7")  # behind it, as after a restore from a backup
    assert pipeline.run(CAUGHT_UP).code == ExitCode.DONE
    assert given(tmp_path, 0) == [*range(0, 20, 2), 14, 16, 18]
    assert given(tmp_path, 1) == list(range(9, 20, 2))
    assert pipeline.committed() == {0: 10, 1: 10}


def given(folder: Path, partition: int) -> list[int]:
    """The numbers that the sink was given, in order."""
    return [int(line) for line in (folder / f"numbers-{partition}").read_text().split()]


def test_anomalies_are_told_over_restarts_and_rebalances(broker: Broker, topics: TopicFactory) -> None:
    pipeline = Pipeline(broker, topics(input=3), **IN_TURN)
    pipeline.feed(range(9), partitions=3)
    assert anomalies(pipeline.run(CAUGHT_UP)) == []
    pipeline.feed([12, 7, 2], partitions=3)
    told = [(0, 3, "gap", 12, 9), (1, 3, "repeat", 7, 10), (2, 3, "regression", 2, 11)]
    assert anomalies(pipeline.run(CAUGHT_UP, concurrency=2)) == told

    with ExitStack() as stack:
        pipeline.feed([10, 11, 15], partitions=3)
        one = stack.enter_context(pipeline.running(instance_id="one"))
        one.wait_until(lambda: len(pipeline.numbers()) == 15, "what was there")
        two = stack.enter_context(pipeline.running(instance_id="two"))
        two.wait_until(lambda: re.search(r'assigned".*"partitions": \[\d', two.stderr()), "its share")
        pipeline.feed([13, 14, 18, 13], partitions=3)
        one.wait_until(lambda: len(pipeline.numbers()) == 19, "what came after")
        ended = [one.stop(), two.stop()]
    assert sorted(anomalies(ended[0]) + anomalies(ended[1])) == [(1, 6, "repeat", 13, 16)]
    assert pipeline.audit().ok


def test_what_each_policy_does_with_the_same_input(broker: Broker, topics: TopicFactory) -> None:
    """Everything is fed twice, the second time after the first was committed, with a gap at the end."""
    policies = ("ignore", "report", "skip_repeats")
    made = [Pipeline(broker, topics(input=3), **IN_TURN, sequence__policy=policy) for policy in policies]
    for pipeline in made:
        pipeline.feed(range(9), partitions=3)
    run_all(made, CAUGHT_UP)
    for pipeline in made:
        pipeline.feed([*range(9), *range(12, 15)], partitions=3)
    ignored, reported, skipped = run_all(made, CAUGHT_UP)

    once, twice = [*range(9), *range(12, 15)], sorted([*range(9), *range(9), *range(12, 15)])
    assert [pipeline.numbers() for pipeline in made] == [twice, twice, once]
    assert all(pipeline.committed() == dict.fromkeys(range(3), 7) for pipeline in made)
    assert anomalies(ignored) == []
    assert {kind for _, _, kind, _, _ in anomalies(reported)} == {"regression", "repeat", "gap"}
    assert {kind for _, _, kind, _, _ in anomalies(skipped)} == {"repeat", "gap"}, "they are known over the restart"


def test_stop_ends_at_the_anomaly_and_again_until_told_to_go_on(broker: Broker, topics: TopicFactory) -> None:
    pipeline = Pipeline(broker, topics(input=3), **IN_TURN, sequence__policy="stop")
    pipeline.feed([0, 1, 2, 4, 5, 6, 9], partitions=3)
    for _ in range(2):
        done = pipeline.run()
        assert done.code == ExitCode.POLICY, done.stderr
        for part in (f"{pipeline.names.input}/0 offset 1 ", "checkpoint 6", "a gap", "expected was 3"):
            assert part in done.stderr
        assert pipeline.committed()[0] == 1
    assert pipeline.numbers() == [0, 1, 2, 4, 5]

    assert pipeline.run(CAUGHT_UP, sequence__policy="report").code == ExitCode.DONE
    assert pipeline.numbers() == [0, 1, 2, 4, 5, 6, 9]
