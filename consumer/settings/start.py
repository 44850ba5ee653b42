"""`CONSUMER_START`, understood."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from msgspec import Struct

__all__ = ["Start"]


class Start(Struct, frozen=True):
    """Where a group with no committed offset at all starts: `fail|earliest|latest|checkpoint:N|timestamp:ISO`.

    `value` is the checkpoint's number, or the time in milliseconds since 1970; 0 where the kind has none.
    """

    kind: str
    value: int = 0

    @classmethod
    def parse(cls, text: str) -> Start:
        """Read the setting; a time without an offset is UTC, one before 1970 is refused: Kafka's -1 is the end.

        Raises:
            ValueError: it is written in another way.
        """
        if text in ("fail", "earliest", "latest"):
            return cls(text)
        kind, _, argument = text.partition(":")
        if kind == "checkpoint" and argument.isascii() and argument.isdigit():
            return cls("checkpoint", int(argument))
        if kind == "timestamp":
            time = datetime.fromisoformat(argument)
            seconds = time.replace(tzinfo=time.tzinfo or UTC).timestamp()
            if seconds >= 0:
                return cls("timestamp", round(seconds * 1000))
        raise ValueError(f"{text!r} is no start")

    def __str__(self) -> str:
        """The setting's text, which `parse` reads back."""
        if self.kind == "checkpoint":
            return f"checkpoint:{self.value}"
        if self.kind == "timestamp":
            time = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=self.value)
            return f"timestamp:{time.isoformat(timespec='milliseconds')}"
        return self.kind
