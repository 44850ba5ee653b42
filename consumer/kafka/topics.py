"""Questions about a topic before work begins, and who to blame when they have no answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource

from consumer.errors import ConfigError
from consumer.settings import Settings

__all__ = ["Topic", "largest_record", "partition_count"]

_NOTICE_SECONDS = 5.0
"""After so long without an answer one line says who does not answer; so long the brokers may deny a topic."""
_GIVE_UP_SECONDS = 30.0


class _Client(Protocol):
    """What producers, consumers and admin clients have in common."""

    def list_topics(self, topic: str = ..., timeout: float = ...) -> Any: ...
    def poll(self, timeout: float = ...) -> Any: ...


class Topic(NamedTuple):
    """A topic and the setting that names it, for errors."""

    name: str
    setting: str


def partition_count(
    client: _Client,
    settings: Settings,
    topic: Topic,
    logger: logging.Logger,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """How many partitions `topic` has; asked until the brokers answer.

    Brokers that do not answer within 5 s are named by one warning.

    Raises:
        ConfigError: no broker answered for 30 s, the brokers have denied the topic for 5 s, or they forbid asking.
    """
    brokers = f"the brokers at {settings.kafka.bootstrap_servers} (CONSUMER_KAFKA__BOOTSTRAP_SERVERS)"
    silent_since = denied_since = clock()
    said = False
    while True:
        try:
            metadata = client.list_topics(topic.name, timeout=1.0).topics[topic.name]
        except KafkaException as error:
            denied_since = clock()
            if denied_since - silent_since >= _GIVE_UP_SECONDS:
                reason = error.args[0].str()
                raise ConfigError(f"{brokers} do not answer: {reason}; check address, network and options") from None
            if denied_since - silent_since >= _NOTICE_SECONDS and not said:
                logger.warning("%s do not answer yet; trying for %d s in all", brokers, _GIVE_UP_SECONDS)
                said = True
        else:
            if metadata.error is None:
                return len(metadata.partitions)
            silent_since = clock()
            _refuse(metadata.error, topic, silent_since - denied_since)
        client.poll(0.2)


def largest_record(admin: AdminClient, topic: str, timeout: float = 3.0) -> int | None:
    """The topic's `max.message.bytes`; None where it cannot be read, as without the right to describe its config."""
    try:
        asked = admin.describe_configs([ConfigResource("TOPIC", topic)], request_timeout=timeout)
        return int(next(iter(asked.values())).result()["max.message.bytes"].value)
    except KafkaException:
        return None


def _refuse(error: KafkaError, topic: Topic, denied_seconds: float) -> None:
    if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        raise ConfigError(f"{topic.setting}: no right to describe topic {topic.name}: allow this user to describe it")
    if denied_seconds >= _NOTICE_SECONDS:
        raise ConfigError(
            f"{topic.setting}: topic {topic.name} does not exist ({error.str()}): create it, or correct the name"
        )
