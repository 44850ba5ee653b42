"""Logs: one line per event on stderr, JSON or for people; data goes to stdout and never through here.

Values may come from outside (topic names, keys, texts of exceptions): control characters are escaped, so none can
forge a line or drive a terminal. No payload is ever logged.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from typing import Any, TextIO

from consumer.settings.model import LogSettings

__all__ = ["Logger", "RateLimited", "configure", "get_logger", "printable"]

_LONGEST_TEXT = 2_000
"""Characters of one value; more is cut, so that no log line becomes a payload."""

_MOST_KEYS = 1_000

_COLOURS = {"INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "31"}


class Logger:
    """A standard logger that takes fields by keyword: `log.info("partition assigned", topic="in", partition=3)`.

    The field `exception` takes an exception and becomes its traceback.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def debug(self, event: str, /, **fields: Any) -> None:
        """For whoever looks for a fault."""
        self._log(logging.DEBUG, event, **fields)

    def info(self, event: str, /, **fields: Any) -> None:
        """Something that happens in normal work."""
        self._log(logging.INFO, event, **fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        """Something that an operator should know; the work goes on."""
        self._log(logging.WARNING, event, **fields)

    def error(self, event: str, /, **fields: Any) -> None:
        """Something that ends a member or loses its work of now."""
        self._log(logging.ERROR, event, **fields)

    def _log(self, level: int, event: str, /, exception: BaseException | None = None, **fields: Any) -> None:
        self._logger.log(level, event, exc_info=exception, extra={"fields": fields})


class RateLimited:
    """Warnings that would repeat: the first at once, then at most one per `seconds`, with how many were left out."""

    def __init__(self, logger: Logger, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._seconds = seconds
        self._clock = clock
        self._said: dict[Hashable, tuple[float, int]] = {}

    def warning(self, event: str, /, *, key: Hashable = None, **fields: Any) -> None:
        """Warn, or count; `key` sets apart what repeats by itself, such as the partitions."""
        now = self._clock()
        said_at, left_out = self._said.get((event, key), (-math.inf, 0))
        if now - said_at < self._seconds:
            self._said[event, key] = (said_at, left_out + 1)
            return
        if len(self._said) >= _MOST_KEYS:  # keys may hold texts of exceptions, each another one
            self._said.clear()
        self._said[event, key] = (now, 0)
        self._logger.warning(event, **fields, **({"left_out": left_out} if left_out else {}))


def get_logger(name: str) -> Logger:
    """The logger of a module: `log = get_logger(__name__)`."""
    return Logger(logging.getLogger(name))


def configure(settings: LogSettings, *, stream: TextIO | None = None, **context: Any) -> None:
    """Send all logs of this process, those of user code included, to `stream`, by default stderr.

    Args:
        settings: `CONSUMER_LOG__LEVEL` and `CONSUMER_LOG__FORMAT`.
        stream: a text file.
        context: fields of every line, such as the group and the member.
    """
    handler = logging.StreamHandler(stream)
    terminal = handler.stream.isatty()
    console = settings.format == "console" or (settings.format == "auto" and terminal)
    handler.setFormatter(
        _Console(context, coloured=terminal and not os.environ.get("NO_COLOR")) if console else _Json(context)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    logging.captureWarnings(True)


class _Json(logging.Formatter):
    def __init__(self, context: dict[str, Any]) -> None:
        super().__init__()
        self._context = context

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        fields = {**self._context, **getattr(record, "fields", {})}
        return {name: _plain(value) for name, value in fields.items()}

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **self.fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _Console(_Json):
    def __init__(self, context: dict[str, Any], *, coloured: bool) -> None:
        super().__init__(context)
        self._coloured = coloured

    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        level = f"{record.levelname:<8}"
        if self._coloured:
            level = f"\x1b[{_COLOURS.get(record.levelname, '0')}m{level}\x1b[0m"
        fields = " ".join(f"{name}={_word(value)}" for name, value in self.fields(record).items())
        line = f"{clock} {level} {record.name:<20} {printable(record.getMessage()):<32} {fields}".rstrip()
        traceback = self.formatException(record.exc_info).splitlines() if record.exc_info else []
        return "\n".join([line, *(f"    {printable(text)}" for text in traceback)])


def _plain(value: Any) -> Any:
    """What JSON has a form for stays as it is; everything else is text, and none is longer than `_LONGEST_TEXT`."""
    return (
        value
        if isinstance(value, (bool, int, float, list, tuple, dict)) or value is None
        else str(value)[:_LONGEST_TEXT]
    )


def printable(text: str) -> str:
    """The text with its control characters escaped: it can neither end a line nor drive a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _word(value: Any) -> str:
    """Text that would not read as one word is quoted; the texts inside of a list or an object are anyway."""
    ambiguous = isinstance(value, str) and (not value or not value.isprintable() or set(value) & set(' "='))
    return json.dumps(value) if ambiguous else str(value)
