"""`CONSUMER_START`: where a group without any offset begins, for every partition, written before anyone joins."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from tests.brokers.find import Broker
from tests.brokers.topics import TopicFactory
from tests.kafka.commands import Pipeline, run_all, small

T0 = 1_700_000_000_000


def feed_at(pipeline: Pipeline, numbers: range, run: int) -> None:
    """Checkpoint n with the record timestamp T0 + n seconds, `range:RUN`."""
    producer = Producer({"bootstrap.servers": pipeline.bootstrap})
    for n in numbers:
        producer.produce(pipeline.names.input, small(n), partition=n // run, timestamp=T0 + 1000 * n)
    assert producer.flush(30) == 0


def iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()


def test_every_start_writes_every_partitions_offset(broker: Broker, topics: TopicFactory) -> None:
    """Four partitions of 12, 12, 12 and 0 records; what is written is also the whole story of the quiet one."""
    names = topics(input=4)
    starts: dict[str, tuple[dict[int, int], dict[str, Any]]] = {
        "earliest": ({0: 0, 1: 0, 2: 0, 3: 0}, {}),
        "latest": ({0: 12, 1: 12, 2: 12, 3: 0}, {}),
        "checkpoint:16": ({0: 12, 1: 4, 2: 0, 3: 0}, {"sequence__partitioning": "range:12"}),
        "checkpoint:999": ({0: 12, 1: 12, 2: 12, 3: 0}, {"sequence__partitioning": "range:12"}),
        f"timestamp:{iso(T0 + 16_500)}": ({0: 12, 1: 5, 2: 0, 3: 0}, {}),
        f"timestamp:{iso(T0 + 16_000)}": ({0: 12, 1: 4, 2: 0, 3: 0}, {}),
        "timestamp:2200-01-01": ({0: 12, 1: 12, 2: 12, 3: 0}, {}),
    }
    pipelines = [
        Pipeline(broker, topics(input=0)._replace(input=names.input), start=start, concurrency=2, **settings)
        for start, (_, settings) in starts.items()
    ]
    feed_at(pipelines[0], range(36), run=12)

    done = run_all(pipelines, "--until-caught-up")

    for one, pipeline, (start, (offsets, _)) in zip(done, pipelines, starts.items(), strict=True):
        assert (one.code, one.loud) == (0, []), start
        begun = one.said("group starts")
        assert begun[0]["offsets"] == {str(partition): offset for partition, offset in offsets.items()}, start
        assert pipeline.numbers() == [n for n in range(36) if n % 12 >= offsets[n // 12]], start
        assert pipeline.committed() == {0: 12, 1: 12, 2: 12, 3: 0}, start


def test_a_group_with_an_offset_ignores_it(broker: Broker, topics: TopicFactory) -> None:
    """One offset of one partition is enough: the others are new and start at their beginning."""
    pipeline = Pipeline(broker, topics(input=3), start="latest")
    pipeline.feed(range(12), partitions=3)
    commit(pipeline, {1: 2})

    done = pipeline.run("--until-caught-up")

    assert (done.code, done.loud, done.said("group starts")) == (0, [], [])
    assert pipeline.numbers() == [n for n in range(12) if n % 3 != 1 or n // 3 >= 2]


def commit(pipeline: Pipeline, offsets: dict[int, int]) -> None:
    from confluent_kafka import ConsumerGroupTopicPartitions

    wanted = [TopicPartition(pipeline.names.input, partition, offset) for partition, offset in offsets.items()]
    request = [ConsumerGroupTopicPartitions(pipeline.names.group, wanted)]
    admin = AdminClient({"bootstrap.servers": pipeline.bootstrap})
    for future in admin.alter_consumer_group_offsets(request).values():
        future.result()


def test_what_comes_after_latest_is_processed_also_on_a_partition_that_was_quiet(
    broker: Broker, topics: TopicFactory
) -> None:
    """Also where it comes while the members are away: the offset of a partition without records was written too."""
    pipeline = Pipeline(broker, topics(input=2), start="latest")
    pipeline.feed(range(0, 10, 2), partitions=2)
    with pipeline.running() as run:
        run.wait_for("partitions assigned")
        assert run.stop().code == 0
    pipeline.feed([10, 11, 12, 13], partitions=2)
    assert pipeline.run("--until-caught-up").code == 0
    assert pipeline.numbers() == [10, 11, 12, 13]


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_a_partition_added_to_a_running_group_starts_at_its_beginning(
    broker: Broker, topics: TopicFactory, protocol: str
) -> None:
    """With `latest`, which holds for the partitions that were there when the group began."""
    pipeline = Pipeline(
        broker,
        topics(input=1),
        start="latest",
        kafka__group_protocol=protocol,
        kafka__options={"topic.metadata.refresh.interval.ms": "500"},
    )
    pipeline.feed(range(5), partitions=1)
    with pipeline.running() as run:
        run.wait_for("partitions assigned")
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        for future in admin.create_partitions([NewPartitions(pipeline.names.input, 2)]).values():
            future.result()
        producer = Producer({"bootstrap.servers": broker.bootstrap, "topic.metadata.propagation.max.ms": 10_000})
        for number in range(100, 105):  # before the group knows the partition
            producer.produce(pipeline.names.input, small(number), partition=1)
        assert producer.flush(30) == 0
        run.wait_until(partial(has_all, pipeline, list(range(100, 105))), "the new partition's records")
        done = run.stop()
    assert done.code == 0
    assert pipeline.committed() == {0: 5, 1: 5}


def has_all(pipeline: Pipeline, numbers: list[int]) -> bool:
    return pipeline.numbers() == numbers


def test_a_checkpoint_is_found_between_markers_aborted_records_and_what_is_none(
    broker: Broker, topics: TopicFactory
) -> None:
    """Numbers 0 to 29, each in a transaction of its own, between them an aborted one and one that is no checkpoint."""
    names = topics(input=1)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": names.group})
    producer.init_transactions(30)
    for number in range(30):
        for value, finish in (
            (small(number), producer.commit_transaction),
            (small(5000 + number), producer.abort_transaction),
            (b"no checkpoint", producer.commit_transaction),
        ):
            producer.begin_transaction()
            producer.produce(names.input, value, partition=0)
            assert producer.flush(30) == 0
            finish(30)
    numbers = [0, 1, 17, 29, 30]
    pipelines = [
        Pipeline(
            broker,
            topics(input=0)._replace(input=names.input),
            start=f"checkpoint:{number}",
            dlq__max_ratio=1,
            sequence__partitioning="modulo",
        )
        for number in numbers
    ]
    done = run_all(pipelines, "--until-caught-up")
    for one, pipeline, number in zip(done, pipelines, numbers, strict=True):
        assert one.code == 0, one.stderr
        assert pipeline.numbers() == list(range(number, 30))
