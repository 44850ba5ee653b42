"""One input record, decoded: `Checkpoint`, the smaller `CheckpointHeader`, or a type of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from consumer.checkpoint.model import EndOfEpochData, GasCostSummary, Position, Summary

__all__ = [
    "Checkpoint",
    "CheckpointHeader",
    "EndOfEpochData",
    "GasCostSummary",
    "Position",
    "Summary",
    "decoder_for",
    "epoch_of",
    "is_end_of_epoch",
    "sequence_number_of",
]


class CheckpointHeader:
    """The part of a checkpoint that stands before its transactions."""

    __slots__ = ("position", "summary", "transaction_count")

    summary: Summary
    transaction_count: int
    position: Position


class Checkpoint:
    """One whole checkpoint."""

    __slots__ = ("position", "summary")

    summary: Summary
    position: Position


def decoder_for(checkpoint_type: type) -> Callable[[bytes, Position], Any]:
    """The function that turns a record's value into `checkpoint_type`.

    Raises:
        TypeError: no decoder is known for the type.
    """
    raise TypeError(f"{checkpoint_type!r} cannot be decoded")


def sequence_number_of(checkpoint: Any) -> int | None:
    """The checkpoint's sequence number, None where a type of the user's own does not tell."""
    summary = getattr(checkpoint, "summary", None)
    value = getattr(summary, "sequence_number", None)
    return value if isinstance(value, int) else None


def epoch_of(checkpoint: Any) -> int | None:
    """The checkpoint's epoch, None where a type of the user's own does not tell."""
    summary = getattr(checkpoint, "summary", None)
    value = getattr(summary, "epoch", None)
    return value if isinstance(value, int) else None


def is_end_of_epoch(checkpoint: Any) -> bool:
    """Whether this is known to be the last checkpoint of its epoch."""
    summary = getattr(checkpoint, "summary", None)
    return getattr(summary, "end_of_epoch", None) is not None
