"""The broker that the other tests rely on: exactly-once building blocks, and what the fixture promises."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.brokers.find import Broker
from tests.brokers.topics import TopicFactory, Topics


def consumer(broker: Broker, names: Topics, topic: str) -> Consumer:
    settings = {
        "bootstrap.servers": broker.bootstrap,
        "group.id": names.group,
        "group.protocol": "consumer",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
    }
    made = Consumer(settings)
    made.subscribe([topic])
    return made


def read(source: Consumer, count: int) -> list[bytes | None]:
    values: list[bytes | None] = []
    while len(values) < count:
        message = source.poll(10)
        assert message is not None, f"only {len(values)} of {count} records came"
        assert message.error() is None
        values.append(message.value())
    return values


def test_a_transaction_publishes_records_and_offsets_together(broker: Broker, topics: TopicFactory) -> None:
    names = topics(input=1, output=1, dlq=0)
    feeder = Producer({"bootstrap.servers": broker.bootstrap})
    feeder.produce(names.input, b"in")
    assert feeder.flush(10) == 0
    source = consumer(broker, names, names.input)
    assert read(source, 1) == [b"in"]
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": names.group})
    producer.init_transactions(30)

    for value, finish in ((b"aborted", producer.abort_transaction), (b"committed", producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(names.output, value)
        offsets = [TopicPartition(names.input, 0, 1)]
        producer.send_offsets_to_transaction(offsets, source.consumer_group_metadata(), 30)
        finish(30)

    assert [tp.offset for tp in source.committed([TopicPartition(names.input, 0)], 10)] == [1]
    source.close()
    output = consumer(broker, names._replace(group=f"{names.group}-reader"), names.output)
    assert read(output, 1) == [b"committed"]
    output.close()


@pytest.mark.owns_broker
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_restart_keeps_the_data(broker: Broker, topics: TopicFactory, end: str) -> None:
    names = topics(input=1, output=0, dlq=0)
    feeder = Producer({"bootstrap.servers": broker.bootstrap, "acks": "all", "log_level": 0})
    feeder.produce(names.input, b"kept")
    assert feeder.flush(10) == 0

    getattr(broker, end)()
    assert not broker.running
    broker.start()

    source = consumer(broker, names, names.input)
    assert read(source, 1) == [b"kept"]
    source.close()


@pytest.mark.owns_broker
def test_a_frozen_broker_answers_nothing_until_it_is_thawed(broker: Broker) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": "0"})
    broker.freeze()
    with pytest.raises(KafkaException):
        admin.list_topics(timeout=0.5)
    broker.thaw()
    assert admin.list_topics(timeout=10).brokers
