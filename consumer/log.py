"""Logs: one line per event on stderr, JSON or for people; data goes to stdout and never through here.

A line is written by one `os.write`, so the lines of several processes do not mix. Values may come from outside
(topic names, keys, texts of exceptions): control characters are escaped, so none can forge a line or drive a terminal.
No payload is ever logged.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Hashable, Mapping
from datetime import UTC, datetime
from typing import Any

from consumer.settings.model import LogSettings

__all__ = ["Logger", "RateLimited", "configure", "get_logger"]

_LONGEST_VALUE = 2_000
"""Characters of one value; more is cut, so that no log line becomes a payload."""
_LONGEST_TRACEBACK = 20_000

_COLOURS = {"DEBUG": "2", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "31"}


class Logger:
    """A standard logger that takes fields by keyword: `log.info("partition assigned", topic="in", partition=3)`.

    The field `exception` takes an exception and becomes its traceback.
    """

    __slots__ = ("_logger",)

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def debug(self, event: str, /, **fields: Any) -> None:
        """For whoever looks for a fault."""
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: Any) -> None:
        """Something that happens in normal work."""
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        """Something that an operator should know; the work goes on."""
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, /, **fields: Any) -> None:
        """Something that ends a member or loses its work of now."""
        self._log(logging.ERROR, event, fields)

    def _log(self, level: int, event: str, fields: dict[str, Any]) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(
                level, event, exc_info=fields.pop("exception", None), extra={"fields": fields}, stacklevel=3
            )


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
            self._said[(event, key)] = (said_at, left_out + 1)
            return
        self._said[(event, key)] = (now, 0)
        self._logger.warning(event, **fields, **({"left_out": left_out} if left_out else {}))


def get_logger(name: str) -> Logger:
    """The logger of a module: `log = get_logger(__name__)`."""
    return Logger(logging.getLogger(name))


def configure(settings: LogSettings, *, fd: int = 2, **context: Any) -> None:
    """Send all logs of this process, those of user code included, to `fd`.

    Args:
        settings: `CONSUMER_LOG__LEVEL` and `CONSUMER_LOG__FORMAT`.
        fd: the file descriptor, stderr unless told otherwise.
        context: fields of every line, such as the group and the member.
    """
    terminal = _is_terminal(fd)
    formatter: logging.Formatter
    if settings.format == "json" or (settings.format == "auto" and not terminal):
        formatter = _JsonFormatter(context)
    else:
        formatter = _ConsoleFormatter(context, colours=terminal and not os.environ.get("NO_COLOR"))
    handler = _LineHandler(fd)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    logging.captureWarnings(True)


class _LineHandler(logging.Handler):
    """Writes each record by one call. A line that cannot be written is lost, is counted, and stops nothing."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - user code's arguments or `__str__` may raise anything
            self.handleError(record)
            return
        if self._lost:
            lost = logging.LogRecord(__name__, logging.WARNING, "", 0, "log lines lost", None, None)
            lost.fields = {"count": self._lost}
            line = f"{self.format(lost)}\n{line}"
        try:
            os.write(self._fd, f"{line}\n".encode())
            self._lost = 0
        except OSError:  # a full disk, a closed pipe: there is no place left to say so until a line gets through
            self._lost += 1


class _Formatter(logging.Formatter):
    def __init__(self, context: Mapping[str, Any]) -> None:
        super().__init__()
        self._context = dict(context)

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        fields = {**self._context, **getattr(record, "fields", {})}
        return {name: _plain(value) for name, value in fields.items()}

    def traceback(self, record: logging.LogRecord) -> str:
        return self.formatException(record.exc_info)[-_LONGEST_TRACEBACK:] if record.exc_info else ""


class _JsonFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        for name, value in self.fields(record).items():
            line[f"{name}_" if name in line else name] = value
        if traceback := self.traceback(record):
            line["exception"] = traceback
        # ASCII only: escapes every control character, and a lone surrogate cannot make the write fail.
        return json.dumps(line)


class _ConsoleFormatter(_Formatter):
    def __init__(self, context: Mapping[str, Any], *, colours: bool) -> None:
        super().__init__(context)
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
        level = self._coloured(f"{record.levelname:<8}", _COLOURS.get(record.levelname, "0"))
        fields = " ".join(f"{self._coloured(name, '36')}={_word(value)}" for name, value in self.fields(record).items())
        line = f"{clock} {level} {record.name:<20} {_printable(record.getMessage()):<32} {fields}".rstrip()
        indented = [f"    {_printable(text)}" for text in self.traceback(record).splitlines()]
        return "\n".join([line, *indented])

    def _coloured(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours else text


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it, no text longer than `_LONGEST_VALUE`."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(entry) for entry in value]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    elif isinstance(value, BaseException):
        value = f"{type(value).__name__}: {value}"
    text = str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}... ({len(text)} characters)"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _word(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return json.dumps(text) if not text.isprintable() or not text or set(text) & set(' "=') else text


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False
