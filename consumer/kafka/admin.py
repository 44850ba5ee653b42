"""Admin clients, which live as long as their process."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import TopicCollection, Uuid
from confluent_kafka.admin import AdminClient

from consumer.kafka.conf import admin_conf, make_client
from consumer.settings import Settings

_NO_ID = str(Uuid(0, 0))
_kept: list[AdminClient] = []


def make_admin(settings: Settings, logger: logging.Logger) -> AdminClient:
    """An admin client that is never destroyed: a process makes one or two.

    The last reference to one may be dropped by librdkafka's own thread, whose callbacks run Python and with it the
    garbage collector: that ends the process with SIGABRT (librdkafka 2.16, measured).
    """
    client: AdminClient = make_client(AdminClient, admin_conf(settings), logger)
    _kept.append(client)
    return client


def describe(admin: AdminClient, topics: Sequence[str], seconds: float) -> dict[str, Future[Any]]:
    """By topic its description, whose id `topic_id` tells."""
    found: dict[str, Future[Any]] = admin.describe_topics(TopicCollection(list(topics)), request_timeout=seconds)
    return found


def topic_id(description: Any) -> str:
    """A topic's id; empty where the brokers have none (the zero UUID, KIP-516)."""
    found = str(description.topic_id)
    return "" if found == _NO_ID else found
