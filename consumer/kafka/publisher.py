"""Publishes records outside any transaction: idempotently, in bounded memory, with every delivery checked."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from consumer.errors import ConfigError
from consumer.kafka.conf import feeder_conf, make_client
from consumer.kafka.topics import Topic
from consumer.settings import Settings

__all__ = ["Publisher"]

_FAULT_OF_THE_RECORD = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD})
_AUTHORIZATION = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED})
_SECONDS_TO_FORGET = 5.0


class Publisher:
    """Publishes to one topic and counts what the brokers have acknowledged. Not thread-safe.

    No more is under way than librdkafka's queue holds: `publish` waits for room in it. A record that fails is
    told to `on_failure`, by its label and the reason, from within `publish` and `drain`.

    Args:
        largest_record: the most bytes that the topic takes; None: the client's own limit.

    Raises:
        ConfigError: from its methods, where the brokers forbid writing.
    """

    def __init__(
        self,
        settings: Settings,
        topic: Topic,
        on_failure: Callable[[str, str], None],
        logger: logging.Logger,
        *,
        largest_record: int | None = None,
    ) -> None:
        self.delivered: list[int] = [0] * topic.partitions
        """Acknowledged records per partition."""
        self.delivered_bytes = 0
        self.broken = False
        """Whether going on is pointless: a record failed for a reason that is not its own."""
        self._topic, self._on_failure = topic, on_failure
        self._failures: list[tuple[KafkaError, str]] = []
        self._producer = make_client(Producer, feeder_conf(settings, largest_record=largest_record), logger)

    def publish(self, partition: int, key: bytes, value: bytes, label: str) -> None:
        """Hand one record over, waiting for room; nothing is sent once the publisher is `broken`."""

        def on_delivery(error: KafkaError | None, _: Message) -> None:
            # An exception in here would get lost in librdkafka: only note what happened.
            if error is None:
                self.delivered[partition] += 1
                self.delivered_bytes += len(value)
            else:
                self._failures.append((error, label))

        accepted = False
        while not accepted and not self.broken:
            try:
                self._producer.produce(self._topic.name, value, key, partition, on_delivery=on_delivery)
                accepted = True
            except BufferError:
                self._poll(0.1)
            except KafkaException as error:
                self._failures.append((error.args[0], label))
                accepted = True
        self._poll(0)

    def drain(self, give_up: Callable[[], bool]) -> None:
        """Wait until everything is delivered or has failed, or `give_up` says so; the rest then fails."""
        while len(self._producer) and not give_up():
            self._poll(0.1)
        self._producer.purge()
        deadline = time.monotonic() + _SECONDS_TO_FORGET
        while len(self._producer) and time.monotonic() < deadline:
            self._poll(0.1)

    def _poll(self, timeout: float) -> None:
        try:
            self._producer.poll(timeout)
        except KafkaException as fatal:
            self._failures.append((fatal.args[0], "the producer"))
        topic, failures, self._failures = self._topic, self._failures, []
        for error, label in failures:
            if error.code() in _AUTHORIZATION:
                raise ConfigError(f"{topic.setting}: no right to write to topic {topic.name}: allow this user to write")
            self.broken |= error.code() not in _FAULT_OF_THE_RECORD
            self._on_failure(label, error.str())
