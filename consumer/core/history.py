"""What a group knows of one partition's past: it travels in the metadata of the committed offset."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta
from msgspec.structs import replace

__all__ = ["RATIO_RECORDS", "SEEN_NUMBERS", "DeadLetterLimits", "History", "Mark", "mark"]

RATIO_RECORDS = 1_000
"""The records that `CONSUMER_DLQ__MAX_RATIO` looks back on."""
SEEN_NUMBERS = 8_192
"""A number this far below the highest, or farther, is not known as seen."""

_RATIO_MASK = (1 << RATIO_RECORDS) - 1
_SEEN_MASK = (1 << SEEN_NUMBERS) - 1
_Whole = Annotated[int, Meta(ge=0)]


class Mark(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who works on a partition that has not moved since, and who died there; see `core/starts.py`."""

    deaths: _Whole = 0
    """Processes that died here since the last commit."""
    alone: dict[_Whole, _Whole] = {}
    """By offset: how many of them died while this record ran alone."""
    process: _Whole = 0
    """The one that is at work; 0: none."""
    suspect: _Whole | None = None
    """The offset of the record that it runs alone."""


_NO_MARK = Mark()


class _DeadWire(msgspec.Struct):
    run: _Whole
    last: Annotated[str, Meta(pattern="^[0-9a-f]{1,250}$")]


class _Wire(msgspec.Struct, omit_defaults=True):
    """The metadata's JSON, below 3,000 bytes whatever it holds. Keys of later versions of `v` 1 are not read."""

    v: Literal[1]
    seq: _Whole | None = None
    epoch: _Whole | None = None
    dead: _DeadWire | None = None
    seen: Annotated[bytes, Meta(max_length=SEEN_NUMBERS // 8)] = b""
    mark: Mark | None = None
    topic: str = ""


_decoder = msgspec.json.Decoder(_Wire)


class History(msgspec.Struct, frozen=True, gc=False):
    """One partition's past as of one finished record; the empty one knows nothing. Made for each: a Struct, in C."""

    sequence_number: int | None = None
    """The highest one read."""
    ended_epoch: int | None = None
    """The highest epoch whose last checkpoint was read."""
    dead_run: int = 0
    """Consecutive dead letters up to here."""
    dead_window: int = 0
    """Bit i: the record i records ago became a dead letter."""
    seen: int = 0
    """Bit i: `sequence_number` - i was read; 0 where this is not kept (only `skip_repeats` needs it)."""
    mark: Mark = _NO_MARK
    topic_id: str = ""
    """Whose offset it is: a topic that is made anew has another id (KIP-516). Empty: not known."""

    def after(self, number: int | None, ended_epoch: int | None, dead: bool) -> History:
        """The history once one more record is finished; runs once per record."""
        highest, epoch, window, seen = self.sequence_number, self.ended_epoch, self.dead_window, self.seen
        if window or dead:
            window = (window << 1 | dead) & _RATIO_MASK
        if number is None:
            number = highest
        elif highest is not None:
            if seen:
                seen = mark(seen, number - highest)
            number = max(number, highest)
        if ended_epoch is None or (epoch is not None and epoch > ended_epoch):
            ended_epoch = epoch
        return History(number, ended_epoch, self.dead_run + 1 if dead else 0, window, seen, _NO_MARK, self.topic_id)

    def marked(self, mark: Mark) -> History:
        """The same with another mark."""
        return self if self.mark == mark else replace(self, mark=mark)

    def of_topic(self, topic_id: str) -> tuple[History, bool]:
        """The same as of this topic, and whether it can be: not where it is another's."""
        if topic_id and self.topic_id not in ("", topic_id):
            return self, False
        return replace(self, topic_id=topic_id), True

    def keeping_seen(self, keep: bool) -> History:
        """The same, from here on with or without the numbers that were seen."""
        return replace(self, seen=(self.seen or 1) if keep else 0)

    def afresh(self) -> History:
        """For a start elsewhere than at the committed offset: what comes is neither a repeat nor behind a gap."""
        return replace(self, sequence_number=None, seen=0)

    def encode(self) -> str:
        """As the committed offset's metadata."""
        dead = _DeadWire(self.dead_run, f"{self.dead_window:x}") if self.dead_window else None
        seen = self.seen if self.sequence_number is not None else 0
        numbers = seen.to_bytes((seen.bit_length() + 7) // 8, "big")
        mark = self.mark if self.mark != _NO_MARK else None
        wire = _Wire(1, self.sequence_number, self.ended_epoch, dead, numbers, mark, self.topic_id)
        return msgspec.json.encode(wire).decode()

    @classmethod
    def decode(cls, metadata: str) -> History:
        """From a committed offset's metadata; missing, foreign or damaged metadata knows nothing."""
        try:
            wire = _decoder.decode(metadata)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return cls()
        dead = wire.dead or _DeadWire(0, "0")
        seen = int.from_bytes(wire.seen, "big")
        return cls(wire.seq, wire.epoch, dead.run, int(dead.last, 16), seen, wire.mark or _NO_MARK, wire.topic)


class DeadLetterLimits(NamedTuple):
    """`CONSUMER_DLQ__MAX_CONSECUTIVE` and `MAX_RATIO`; 0 allows none, a ratio of 1 is no limit."""

    max_consecutive: int = 10
    max_ratio: float = 0.01

    def refuses(self, history: History) -> bool:
        """Whether the dead letter that this history ends with is one too many."""
        dead = history.dead_window.bit_count()
        return history.dead_run > self.max_consecutive or dead > round(self.max_ratio * RATIO_RECORDS, 6)


def mark(seen: int, distance: int) -> int:
    """`seen` with one more number, `distance` above (or not above) the highest so far; bit 0 is the new highest."""
    if distance > 0:
        return (seen << min(distance, SEEN_NUMBERS) | 1) & _SEEN_MASK
    return seen | 1 << -distance if -distance < SEEN_NUMBERS else seen
