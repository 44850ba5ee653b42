"""From a type to the function that decodes a record's value to it, and what the loop asks of any decoded value."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import msgspec

from consumer.checkpoint.document import Checkpoint, CheckpointHeader
from consumer.checkpoint.model import Position
from consumer.checkpoint.read import parse
from consumer.errors import ConsumerError, DecodeError

__all__ = ["decoder_for", "epoch_of", "is_end_of_epoch", "numbers_of", "sequence_number_of"]

Decode = Callable[[bytes | None, Position], Any]

# Where a type of the user's own may have its summary: as ours do, or as the JSON does.
_SUMMARIES = [attrgetter(path) for path in ("summary", "checkpoint_summary.data", "checkpoint_summary.checkpoint")]


def decoder_for(checkpoint_type: Any) -> Decode:
    """The function that turns a record's value and position into `checkpoint_type`.

    The type is a class with `decode(data, position)`, as `Checkpoint` and `CheckpointHeader` are, or a
    `msgspec.Struct` that mirrors the parts of the JSON that it wants. The function raises DecodeError for every value
    that the type cannot be made of, a null or empty one among them, and nothing else but what a `decode` of the
    user's own says with a `ConsumerError`.

    Raises:
        TypeError: the type is neither.
    """
    decode = getattr(checkpoint_type, "decode", None)
    if isinstance(checkpoint_type, type) and callable(decode):
        return _guarded(checkpoint_type, decode)
    if isinstance(checkpoint_type, type) and issubclass(checkpoint_type, msgspec.Struct):
        decoder = msgspec.json.Decoder(checkpoint_type)
        return _guarded(checkpoint_type, lambda data, _: parse(decoder, data))
    raise TypeError(
        f"checkpoint_type {checkpoint_type!r} cannot be decoded to: use Checkpoint, CheckpointHeader, "
        "a msgspec.Struct that mirrors the JSON, or give the class a classmethod decode(data: bytes, position)"
    )


def _guarded(checkpoint_type: type, decode: Callable[[bytes, Position], Any]) -> Decode:
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
    return _number(getattr(_summary(checkpoint), "sequence_number", None))


def epoch_of(checkpoint: Any) -> int | None:
    """The checkpoint's epoch; None where a type of the user's own does not tell."""
    return _number(getattr(_summary(checkpoint), "epoch", None))


def is_end_of_epoch(checkpoint: Any) -> bool:
    """Whether the checkpoint is known to be the last of its epoch."""
    summary = _summary(checkpoint)
    end = getattr(summary, "end_of_epoch", None) or getattr(summary, "end_of_epoch_data", None)
    return end is not None and end is not msgspec.UNSET


def numbers_of(checkpoint: Any) -> tuple[int | None, int | None]:
    """The sequence number, and the epoch where the checkpoint is the last of it; None where it does not tell."""
    if type(checkpoint) is CheckpointHeader or isinstance(checkpoint, (Checkpoint, CheckpointHeader)):
        summary = checkpoint.summary
        return summary.sequence_number, None if summary.end_of_epoch is None else summary.epoch
    return sequence_number_of(checkpoint), epoch_of(checkpoint) if is_end_of_epoch(checkpoint) else None


def _summary(checkpoint: Any) -> Any:
    """What holds a checkpoint's numbers: in a type of the user's own perhaps the checkpoint itself."""
    if isinstance(checkpoint, (Checkpoint, CheckpointHeader)):
        return checkpoint.summary
    for summary_of in _SUMMARIES:
        try:
            return summary_of(checkpoint)
        except AttributeError:
            continue
    return checkpoint


def _number(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:
        value = int(value)
    return value if type(value) is int and 0 <= value < 2**64 else None
