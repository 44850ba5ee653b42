"""Makes a member's sink: the way outputs and offsets become durable under its delivery guarantee."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import Producer

from consumer.kafka.at_least_once import AtLeastOnce
from consumer.kafka.conf import make_client, producer_conf
from consumer.kafka.preflight import Topic
from consumer.kafka.source import Source
from consumer.kafka.transactor import Sink, Transactor
from consumer.settings import Settings

LARGEST_RECORD_BYTES = 1_000_000_000
"""The most that librdkafka takes for `message.max.bytes`."""


def make_sink(
    settings: Settings, member: int, topics: Iterable[Topic], source: Callable[[], Source], wake: Callable[[], None]
) -> Sink:
    """A transactor, or its at-least-once counterpart; `source` gives the consumer that is in use at the moment.

    `wake` is called, on another thread, when a step is worth while.

    The client's own size limit follows the topics': a record that a topic takes is never refused here.
    """
    transactional = settings.delivery == "exactly_once"
    conf = producer_conf(settings, member=member, transactional=transactional)
    largest = max(topic.max_bytes for topic in topics)
    conf["message.max.bytes"] = min(max(largest, int(conf.get("message.max.bytes", 0))), LARGEST_RECORD_BYTES)
    timeout = settings.kafka.transaction_timeout_ms / 1000

    def make_producer(delivered: Any) -> Producer:
        client: Producer = make_client(Producer, conf, logging.getLogger("librdkafka"), on_delivery=delivered)
        return client

    if transactional:
        return Transactor(make_producer, settings.input_topic, lambda: source().group_metadata(), timeout, wake)
    return AtLeastOnce(make_producer, settings.input_topic, lambda offsets: source().commit(offsets), timeout)
