"""From a type to the function that decodes a record's value to it, and what the loop asks of any decoded value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from consumer.checkpoint.document import Checkpoint, CheckpointHeader
from consumer.checkpoint.model import Position
from consumer.checkpoint.read import U64_MAX, parse
from consumer.errors import ConsumerError, DecodeError

__all__ = ["decoder_for", "epoch_of", "is_end_of_epoch", "sequence_number_of"]

# Where a summary lies: in our types, then in a Struct that mirrors the JSON, then in the checkpoint itself.
_SUMMARIES = (("summary",), ("checkpoint_summary", "data"), ("checkpoint_summary", "checkpoint"), ())


def decoder_for(checkpoint_type: type) -> Callable[[bytes | None, Position], Any]:
    """The function that turns a record's value and position into `checkpoint_type`.

    The type is a class with `decode(data, position)`, as `Checkpoint` and `CheckpointHeader` are, or a
    `msgspec.Struct` that mirrors the parts of the JSON that it wants. The function raises DecodeError for every value
    that the type cannot be made of, a null or empty one among them, and nothing else but what a `decode` of the
    user's own says with a `ConsumerError`.

    Raises:
        TypeError: the type is neither.
    """
    if not isinstance(checkpoint_type, type):
        raise TypeError(f"checkpoint_type must be a class, got {checkpoint_type!r}")
    decode = getattr(checkpoint_type, "decode", None)
    if callable(decode):
        return _guarded(checkpoint_type, decode)
    if issubclass(checkpoint_type, msgspec.Struct):
        decoder = msgspec.json.Decoder(checkpoint_type)
        return _guarded(checkpoint_type, lambda data, _: parse(decoder, data))
    raise TypeError(
        f"checkpoint_type {checkpoint_type.__qualname__} cannot be decoded to: use Checkpoint, CheckpointHeader, "
        "a msgspec.Struct that mirrors the JSON, or give the class a classmethod decode(data: bytes, position)"
    )


def _guarded(
    checkpoint_type: type, decode: Callable[[bytes, Position], Any]
) -> Callable[[bytes | None, Position], Any]:
    def guarded(data: bytes | None, position: Position) -> Any:
        if not data:
            raise DecodeError("the record's value is " + ("null" if data is None else "empty"))
        try:
            return decode(data, position)
        except (ConsumerError, MemoryError):  # of these the data is innocent, or it has said already what is wrong
            raise
        except Exception as error:
            raise DecodeError(f"{checkpoint_type.__qualname__}.decode raised {type(error).__name__}") from error

    return guarded


def sequence_number_of(checkpoint: Any) -> int | None:
    """The checkpoint's sequence number; None where a type of the user's own does not tell."""
    if isinstance(checkpoint, Checkpoint | CheckpointHeader):
        return checkpoint.summary.sequence_number
    return _number(checkpoint, "sequence_number")


def epoch_of(checkpoint: Any) -> int | None:
    """The checkpoint's epoch; None where a type of the user's own does not tell."""
    if isinstance(checkpoint, Checkpoint | CheckpointHeader):
        return checkpoint.summary.epoch
    return _number(checkpoint, "epoch")


def is_end_of_epoch(checkpoint: Any) -> bool:
    """Whether the checkpoint is known to be the last of its epoch."""
    if isinstance(checkpoint, Checkpoint | CheckpointHeader):
        return checkpoint.summary.end_of_epoch is not None
    ends = (_look_up(checkpoint, *path, name) for path in _SUMMARIES for name in ("end_of_epoch", "end_of_epoch_data"))
    return any(end not in (None, False, msgspec.UNSET) for end in ends)


def _number(checkpoint: Any, name: str) -> int | None:
    for path in _SUMMARIES:
        value = _look_up(checkpoint, *path, name)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:
            value = int(value)
        if type(value) is int and 0 <= value <= U64_MAX:
            return value
    return None


def _look_up(value: Any, *path: str) -> Any:
    for name in path:
        value = getattr(value, name, None)
    return value
