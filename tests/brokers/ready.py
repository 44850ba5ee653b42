"""Waiting for a broker that is coming up."""

from __future__ import annotations

import time
from collections.abc import Callable

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

START_SECONDS = 60.0


def wait_until_ready(
    bootstrap: str, alive: Callable[[], bool], log: Callable[[], str], seconds: float = START_SECONDS
) -> None:
    """Return when the broker answers a metadata request with itself in it.

    `alive` ends the wait early for a broker that died, `log` says what it logged. Raises RuntimeError.
    """
    deadline = time.monotonic() + seconds
    # The client's own log would fill the terminal with refused connections.
    client = AdminClient({"bootstrap.servers": bootstrap, "reconnect.backoff.max.ms": "200", "log_level": "0"})
    while alive() and time.monotonic() < deadline:
        try:
            if client.list_topics(timeout=1).brokers:
                return
        except KafkaException:
            continue  # list_topics itself waits for its timeout
    state = f"did not answer within {seconds:.0f} s" if alive() else "ended while starting"
    raise RuntimeError(f"the broker at {bootstrap} {state}; {log()}")
