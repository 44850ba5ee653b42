"""Admin clients, which live as long as their process."""

from __future__ import annotations

import logging

from confluent_kafka.admin import AdminClient

from consumer.kafka.conf import admin_conf, make_client
from consumer.settings import Settings

_kept: list[AdminClient] = []


def make_admin(settings: Settings, logger: logging.Logger) -> AdminClient:
    """An admin client that is never destroyed: a process makes one or two.

    The last reference to one may be dropped by librdkafka's own thread, whose callbacks run Python and with it the
    garbage collector: that ends the process with SIGABRT (librdkafka 2.16, measured).
    """
    client: AdminClient = make_client(AdminClient, admin_conf(settings), logger)
    _kept.append(client)
    return client
