"""`CONSUMER_START`, understood."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Literal, cast

from msgspec import Struct

__all__ = ["Start"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Start(Struct, frozen=True):
    """Where a group with no committed offset at all starts: `fail|earliest|latest|checkpoint:N|timestamp:ISO`.

    `value` is the checkpoint's number, or the time in milliseconds since 1970; 0 where the kind has none.
    """

    kind: Literal["fail", "earliest", "latest", "checkpoint", "timestamp"]
    value: int = 0

    @classmethod
    def parse(cls, text: str) -> Start:
        """Read the setting; a time without an offset is UTC.

        Raises:
            ValueError: says what is accepted.
        """
        kind, colon, argument = text.partition(":")
        if kind in ("fail", "earliest", "latest") and not colon:
            return cls(cast("Literal['fail', 'earliest', 'latest']", kind))
        if kind == "checkpoint" and (number := _number(argument)) is not None:
            return cls("checkpoint", number)
        if kind == "timestamp":
            return cls("timestamp", _milliseconds(argument))
        raise ValueError("must be fail, earliest, latest, checkpoint:N or timestamp:ISO")

    def __str__(self) -> str:
        """The setting's text, which `parse` reads back."""
        if self.kind == "checkpoint":
            return f"checkpoint:{self.value}"
        if self.kind == "timestamp":
            time = _EPOCH + timedelta(milliseconds=self.value)
            return f"timestamp:{time.isoformat(timespec='milliseconds')}"
        return self.kind


def _number(text: str) -> int | None:
    """A sequence number, 0 to 2^64-1."""
    if not re.fullmatch(r"[0-9]{1,20}", text):
        return None
    number = int(text)
    return number if number < 2**64 else None


def _milliseconds(iso: str) -> int:
    try:
        time = datetime.fromisoformat(iso)
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            "must be timestamp: and a time as ISO 8601 writes it, such as timestamp:2026-01-31T00:00:00Z"
        ) from error
    # Kafka gives negative timestamps meanings of their own (-1 is the end, -2 the beginning; ListOffsets).
    if time < _EPOCH:
        raise ValueError("must be a time from 1970 on")
    # In whole numbers: a float does not hold a far time's milliseconds.
    return (time - _EPOCH) // timedelta(milliseconds=1)
