"""Topics of a test's own, usable when they are handed out."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from tests.brokers.find import Broker

USABLE_SECONDS = 30.0
NOT_YET = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._NOENT,  # no leader among what the client knows
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.UNKNOWN_LEADER_EPOCH,
}


class Topics(NamedTuple):
    """The names of one workflow: its three topics, and a group nobody has used."""

    input: str
    output: str
    dlq: str
    group: str


class TopicFactory:
    """The fixture `topics`. A count of 0 gives a name and makes no topic."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": "0"})
        self._made: list[str] = []

    def __call__(
        self, *, input: int = 6, output: int = 6, dlq: int = 6, config: Mapping[str, str] | None = None
    ) -> Topics:
        """Make the topics with that many partitions and those topic settings, and wait until each partition answers."""
        group = f"test-{uuid.uuid4().hex[:12]}"
        names = Topics(f"{group}.input", f"{group}.output", f"{group}.dlq", group)
        wanted = {name: count for name, count in zip(names, (input, output, dlq), strict=False) if count}
        new = [
            NewTopic(name, num_partitions=count, replication_factor=1, config=dict(config or {}))
            for name, count in wanted.items()
        ]
        self._wait_for_a_controller()
        for future in self._admin.create_topics(new).values():
            future.result()
        self._made += wanted
        self._wait_until_usable([TopicPartition(name, i) for name, count in wanted.items() for i in range(count)])
        return names

    def _wait_for_a_controller(self) -> None:
        """A broker that was frozen or killed is none for a moment, and the client would not ask again for a minute."""
        deadline = time.monotonic() + USABLE_SECONDS
        while self._admin.list_topics(timeout=10).controller_id < 0:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the brokers have no controller after {USABLE_SECONDS:.0f} s")
            time.sleep(0.02)

    def delete(self, name: str) -> None:
        """Delete one of them, and return when the broker says so."""
        self._admin.delete_topics([name])[name].result()
        self._made.remove(name)
        deadline = time.monotonic() + USABLE_SECONDS
        while name in self._admin.list_topics(timeout=10).topics:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} is still there after {USABLE_SECONDS:.0f} s")
            time.sleep(0.02)

    def make(self, name: str, count: int) -> None:
        """Make one with a name of its own, or that of a deleted one."""
        self._admin.create_topics([NewTopic(name, num_partitions=count, replication_factor=1)])[name].result()
        self._made.append(name)
        self._wait_until_usable([TopicPartition(name, number) for number in range(count)])

    def grow(self, name: str, count: int) -> None:
        """Add partitions to one of them, up to so many."""
        self._admin.create_partitions([NewPartitions(name, count)])[name].result()

    def configure(self, name: str, setting: str, value: str) -> None:
        """Change one of a topic's settings."""
        entry = ConfigEntry(setting, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
        self._admin.incremental_alter_configs([resource])[resource].result()

    def trim(self, name: str, partition: int, offset: int) -> None:
        """Delete the records below `offset`, as retention does."""
        at = TopicPartition(name, partition, offset)
        self._admin.delete_records([at])[at].result()

    def close(self) -> None:
        """Delete them, for which the broker must run: it is started where the test left it stopped."""
        restore(self._broker)
        if self._made:
            for future in self._admin.delete_topics(self._made).values():
                future.result()

    def _wait_until_usable(self, partitions: list[TopicPartition]) -> None:
        deadline = time.monotonic() + USABLE_SECONDS
        for topic in {partition.topic for partition in partitions}:
            # Asked for offsets before there is a leader, a client goes on saying that there is none (30 s, measured).
            while not self._has_leaders(topic, sum(partition.topic == topic for partition in partitions)):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{topic} has no leaders after {USABLE_SECONDS:.0f} s")
                time.sleep(0.02)
        while True:
            try:
                for future in self._admin.list_offsets({tp: OffsetSpec.latest() for tp in partitions}).values():
                    future.result()
            except KafkaException as error:
                if error.args[0].code() not in NOT_YET or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def _has_leaders(self, topic: str, count: int) -> bool:
        found = self._admin.list_topics(topic, timeout=10).topics[topic]
        return len(found.partitions) == count and all(partition.leader >= 0 for partition in found.partitions.values())


def restore(broker: Broker) -> None:
    """Undo what a test did to the broker."""
    broker.thaw()
    broker.start()
