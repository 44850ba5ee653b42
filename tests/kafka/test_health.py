"""What orchestrators ask: ready without a partition, alive through rebalances."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import urlopen

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from prometheus_client.parser import text_string_to_metric_families

from consumer.metrics import PREFIX
from tests.brokers.find import Broker
from tests.brokers.settings import free_port
from tests.brokers.topics import TopicFactory
from tests.kafka import commands
from tests.kafka.commands import probe, small
from tests.kafka.conftest import PipelineFactory
from tests.kafka.pipelines import PARTITIONS, eventually


def test_a_member_without_a_partition_is_ready(broker: Broker, topics: TopicFactory) -> None:
    port = free_port()
    pipeline = commands.Pipeline(broker, topics(input=1), concurrency=2, http__port=port)
    group, admin = pipeline.names.group, AdminClient({"bootstrap.servers": broker.bootstrap})
    with pipeline.running() as run:
        run.wait_for('"partitions assigned"')
        run.wait_until(lambda: probe(port, "readyz")[0], "ready")
        members = admin.describe_consumer_groups([group])[group].result(30).members
        assert sorted(len(member.assignment.topic_partitions) for member in members) == [0, 1]
        pipeline.feed(range(5), partitions=1)
        run.wait_until(lambda: len(pipeline.numbers()) == 5, "done")
        assert probe(port, "readyz") == (True, {"reasons": []})
        assert run.stop().code == 0


def test_lag_ends_at_the_end_and_the_committed_offset_is_told(broker: Broker, topics: TopicFactory) -> None:
    """Behind the last record lies the marker of its transaction, which nobody delivers nor needs to."""
    port = free_port()
    pipeline = commands.Pipeline(broker, topics(input=1), http__port=port)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": pipeline.names.group})
    producer.init_transactions(30)
    producer.begin_transaction()
    for number in range(5):
        producer.produce(pipeline.names.input, small(number), str(number), 0)
    producer.commit_transaction(30)

    def told() -> dict[str, float]:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        of = {"group": pipeline.names.group, "topic": pipeline.names.input, "partition": "0"}
        samples = [sample for family in families for sample in family.samples if sample.labels == of]
        return {sample.name.removeprefix(PREFIX): sample.value for sample in samples}

    with pipeline.running() as run:
        run.wait_for('"partitions assigned"')
        run.wait_until(
            lambda: told() == {"lag_records": 0, "next_offset": 5, "next_sequence_number": 5}, "all is told to be done"
        )
        assert run.stop().code == 0


@contextmanager
def asked_all_the_time(port: int) -> Iterator[list[tuple[bool, dict[str, object]]]]:
    """What `/livez` says meanwhile, from the first answer on."""
    answers: list[tuple[bool, dict[str, object]]] = []
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.02):
            answers.append(probe(port, "livez"))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield answers
    finally:
        over.set()
        asking.join()


def test_a_rebalance_never_fails_liveness(pipeline: PipelineFactory) -> None:
    one = pipeline("consumer")
    one.feed(600)
    port = free_port()
    first = one.start("one", settings={"HTTP__PORT": str(port)})
    eventually(lambda: first.owned() == set(range(PARTITIONS)), "it has all")
    with asked_all_the_time(port) as answers:
        others = [one.start(name) for name in ("two", "three")]
        eventually(lambda: all(len(run.owned()) == PARTITIONS // 3 for run in (first, *others)), "each has its share")
        one.feed(600)
        for run in others:
            run.stop()
        one.wait_until_owned(first)
        one.wait_until_done()
    assert len(answers) > 50
    assert [answer for answer in answers if answer != (True, {"reasons": []})] == []
    first.stop()
    one.judge()
