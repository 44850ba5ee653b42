"""A member that ends by a failure leaves the group at once: the others need not wait until its session is over."""

from __future__ import annotations

from confluent_kafka.admin import AdminClient

from tests.brokers.find import Broker
from tests.brokers.topics import TopicFactory
from tests.kafka.commands import WORKERS, Pipeline


def test_who_stops_by_a_policy_is_no_member_any_more(broker: Broker, topics: TopicFactory) -> None:
    pipeline = Pipeline(broker, topics(input=2, output=2, dlq=2), worker=f"{WORKERS}:DatabaseDown")
    pipeline.feed(range(10), partitions=2)

    done = pipeline.run(retry__max_elapsed_seconds=0.1, retry__initial_seconds=0.05, retry__max_seconds=0.1)

    assert done.code == 3
    assert "CONSUMER_RETRY__MAX_ELAPSED_SECONDS" in done.lines[-1]
    group = pipeline.names.group
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    assert admin.describe_consumer_groups([group])[group].result(30).members == []
    assert pipeline.outputs() == []
    assert pipeline.committed() == dict.fromkeys(range(2), 0)
