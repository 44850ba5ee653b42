"""Where the log lines of librdkafka go: to our log, connection troubles as warnings, and none over and over.

librdkafka reports every failed attempt to connect, which while it is asked for metadata is 20 a second.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

__all__ = ["ClientLog"]

_REPEAT_SECONDS = 60.0
_CONNECTION_TROUBLES = frozenset({"FAIL", "ERROR"})
_CHANGING = re.compile(r"\d+ms|\(after .*\)|\d+ identical error\(s\) suppressed")
_MOST_TEXTS = 1000


class ClientLog:
    """What confluent_kafka takes as `logger`. Equal lines, but for durations, come at most once a minute."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._said: dict[tuple[str, str], float] = {}

    def log(self, level: int, template: str, facility: str, client: str, text: str) -> None:
        """Called by confluent_kafka, with librdkafka's facility, the client's name and the text."""
        now = self._clock()
        key = facility, _CHANGING.sub("", text)
        if now - self._said.get(key, -_REPEAT_SECONDS) < _REPEAT_SECONDS:
            return
        if len(self._said) >= _MOST_TEXTS:
            self._said.clear()
        self._said[key] = now
        if facility in _CONNECTION_TROUBLES:
            level = min(level, logging.WARNING)  # the client goes on trying; what that means is not its to say
        if text.endswith("retrying"):
            level = min(level, logging.INFO)  # a coordinator that still loads, at every cold start
        elif facility == "FATAL":
            level = logging.DEBUG  # raised to us as well, and what it means is said there: it may be no trouble at all
        self._logger.log(level, template, facility, client, text)
