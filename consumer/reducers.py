"""The shipped reducer: totals per epoch and partition."""

from __future__ import annotations

import msgspec

from consumer.reducer import Batch, Reducer
from consumer.workers import CheckpointSummary

__all__ = ["EpochReducer", "EpochTotals"]


class EpochTotals(msgspec.Struct, frozen=True, gc=False):
    """Some checkpoints of one epoch and partition, from `first_` to `last_sequence_number`.

    An epoch of more than `max_checkpoints` gives several: `checkpoints` and `transactions` are sums to be added up.
    The gas fields and `network_total_transactions` are what the last checkpoint says, running totals of the whole
    network: of several records the highest `last_sequence_number` counts.
    """

    epoch: int
    partition: int
    first_sequence_number: int
    last_sequence_number: int
    first_timestamp_ms: int
    last_timestamp_ms: int
    checkpoints: int
    transactions: int
    network_total_transactions: int
    computation_cost: int
    storage_cost: int
    storage_rebate: int
    non_refundable_storage_fee: int


class EpochReducer(Reducer[CheckpointSummary, EpochTotals]):
    """Takes `SummaryWorker`'s messages together by epoch.

    A batch ends before the first message of another epoch and after `max_checkpoints`; never because nothing more has
    come or a limit of `CONSUMER_BATCH__*` is reached. So what is open at a shutdown is dropped and worked again by
    the partition's next owner, `max_checkpoints` records at most.
    """

    schema = "epoch-totals/v1.avsc"

    def __init__(self, max_checkpoints: int = 1000) -> None:
        """Raises ValueError where `max_checkpoints` is not a positive integer."""
        if type(max_checkpoints) is not int or max_checkpoints < 1:
            raise ValueError(f"max_checkpoints of EpochReducer must be an integer from 1 up, got {max_checkpoints!r}")
        self.max_checkpoints = max_checkpoints

    def should_close_batch(self, batch: Batch[CheckpointSummary], next_message: CheckpointSummary | None) -> bool:
        """Whether the batch is full or the next message is of another epoch."""
        if len(batch) >= self.max_checkpoints:
            return True
        return next_message is not None and next_message.epoch != batch[-1].epoch

    def commit(self, batch: Batch[CheckpointSummary]) -> list[EpochTotals]:
        """One record for the batch."""
        first, last = batch[0], batch[-1]
        return [
            EpochTotals(
                last.epoch,
                batch.partition,
                first.sequence_number,
                last.sequence_number,
                first.timestamp_ms,
                last.timestamp_ms,
                len(batch),
                sum(message.transaction_count for message in batch),
                last.network_total_transactions,
                last.computation_cost,
                last.storage_cost,
                last.storage_rebate,
                last.non_refundable_storage_fee,
            )
        ]
