"""Questions about a topic before work begins, and who to blame when they have no answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource

from consumer.errors import ConfigError
from consumer.kafka.conf import admin_conf, make_client
from consumer.settings import Settings

__all__ = ["Topic", "find_topic", "largest_record"]

_NOTICE_SECONDS = 3.5
"""After so long without an answer one line says who does not answer; it is noticed up to 1.2 s later."""
_DENIED_SECONDS = 5.0
"""So long the brokers may deny a topic: one that was just made is not known to all of them at once."""
_GIVE_UP_SECONDS = 30.0


class Topic(NamedTuple):
    """A topic that is there, and the setting that names it, for errors."""

    name: str
    setting: str
    partitions: int


def find_topic(
    settings: Settings, name: str, setting: str, logger: logging.Logger, clock: Callable[[], float] = time.monotonic
) -> Topic:
    """The topic `name`; asked for until the brokers answer.

    Brokers that do not answer within 5 s are named by one warning.

    Raises:
        ConfigError: no broker answered for 30 s, the brokers have denied the topic for 5 s, or they forbid asking.
    """
    admin = make_client(AdminClient, admin_conf(settings), logger)
    brokers = f"the brokers at {settings.kafka.bootstrap_servers} (CONSUMER_KAFKA__BOOTSTRAP_SERVERS)"
    silent_since = denied_since = clock()
    said = False
    while True:
        try:
            metadata = admin.list_topics(name, timeout=1.0).topics[name]
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
                return Topic(name, setting, len(metadata.partitions))
            silent_since = clock()
            _refuse(metadata.error, name, setting, silent_since - denied_since)
        admin.poll(0.2)


def largest_record(settings: Settings, topic: str, logger: logging.Logger, timeout: float = 3.0) -> int | None:
    """The topic's `max.message.bytes`; None where it cannot be read, as without the right to describe its config."""
    admin = make_client(AdminClient, admin_conf(settings), logger)
    try:
        asked = admin.describe_configs([ConfigResource("TOPIC", topic)], request_timeout=timeout)
        return int(next(iter(asked.values())).result()["max.message.bytes"].value)
    except KafkaException as error:
        logger.info("the limit max.message.bytes of topic %s cannot be read: %s", topic, error.args[0].str())
        return None


def _refuse(error: KafkaError, name: str, setting: str, denied_seconds: float) -> None:
    if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        raise ConfigError(f"{setting}: no right to describe topic {name}: allow this user to describe it")
    if denied_seconds >= _DENIED_SECONDS:
        raise ConfigError(f"{setting}: topic {name} does not exist ({error.str()}): create it, or correct the name")
