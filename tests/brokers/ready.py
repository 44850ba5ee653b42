"""Waiting for a broker that is coming up."""

from __future__ import annotations

import time
from collections.abc import Callable

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

START_SECONDS = 60.0


def wait_until_ready(bootstrap: str, alive: Callable[[], bool], log: Callable[[], str]) -> None:
    """Return when the broker answers a metadata request with itself in it.

    `alive` ends the wait early for a broker that died, `log` gives what it said. Raises RuntimeError.
    """
    deadline = time.monotonic() + START_SECONDS
    # The client's own log would fill the terminal with refused connections.
    client = AdminClient({"bootstrap.servers": bootstrap, "reconnect.backoff.max.ms": "200", "log_level": "0"})
    while alive() and time.monotonic() < deadline:
        try:
            if client.list_topics(timeout=1).brokers:
                return
        except KafkaException:
            continue  # list_topics itself waits for its timeout
    state = "did not answer" if alive() else "ended"
    raise RuntimeError(f"the broker at {bootstrap} {state} while starting; the end of its log:\n{log()}")
