"""One input record, decoded: `Checkpoint`, the smaller `CheckpointHeader`, or a type of the user's own."""

from consumer.checkpoint.decoder import decoder_for, epoch_of, is_end_of_epoch, numbers_of, sequence_number_of
from consumer.checkpoint.document import Checkpoint, CheckpointHeader, CheckpointTransaction
from consumer.checkpoint.model import GasCostSummary, Position, Summary

__all__ = [
    "Checkpoint",
    "CheckpointHeader",
    "CheckpointTransaction",
    "GasCostSummary",
    "Position",
    "Summary",
    "decoder_for",
    "epoch_of",
    "is_end_of_epoch",
    "numbers_of",
    "sequence_number_of",
]
