"""The shipped workers: one message per checkpoint, and one per transaction."""

from __future__ import annotations

import msgspec

from consumer.checkpoint import Checkpoint, CheckpointHeader
from consumer.worker import Worker

__all__ = ["CheckpointSummary", "SummaryWorker", "TransactionRecord", "TransactionWorker"]


class CheckpointSummary(msgspec.Struct, frozen=True, gc=False):
    """One checkpoint; the gas fields are the epoch's running totals up to and including it."""

    sequence_number: int
    epoch: int
    timestamp_ms: int
    content_digest: str
    previous_digest: str | None
    network_total_transactions: int
    transaction_count: int
    computation_cost: int
    storage_cost: int
    storage_rebate: int
    non_refundable_storage_fee: int


class SummaryWorker(Worker[CheckpointSummary]):
    """One `CheckpointSummary` per checkpoint; reads the header only."""

    checkpoint_type = CheckpointHeader
    schema = "checkpoint-summary/v1.avsc"

    def process_checkpoint(self, checkpoint: CheckpointHeader) -> CheckpointSummary:
        """The checkpoint's summary."""
        summary = checkpoint.summary
        gas = summary.gas
        return CheckpointSummary(
            summary.sequence_number,
            summary.epoch,
            summary.timestamp_ms,
            summary.content_digest,
            summary.previous_digest,
            summary.network_total_transactions,
            checkpoint.transaction_count,
            gas.computation_cost,
            gas.storage_cost,
            gas.storage_rebate,
            gas.non_refundable_storage_fee,
        )


class TransactionRecord(msgspec.Struct, frozen=True, gc=False):
    """One transaction: `index` counts from 0 within its checkpoint, the gas fields are its own."""

    sequence_number: int
    epoch: int
    timestamp_ms: int
    index: int
    digest: str
    kind: str
    sender: str
    status: str
    event_count: int
    computation_cost: int
    computation_cost_burned: int | None
    storage_cost: int
    storage_rebate: int
    non_refundable_storage_fee: int


class TransactionWorker(Worker[TransactionRecord]):
    """One `TransactionRecord` per transaction of a checkpoint, in the checkpoint's order."""

    checkpoint_type = Checkpoint
    schema = "checkpoint-transaction/v1.avsc"

    def process_checkpoint(self, checkpoint: Checkpoint) -> list[TransactionRecord]:
        """The checkpoint's transactions; none where it has none."""
        summary = checkpoint.summary
        return [
            TransactionRecord(
                summary.sequence_number,
                summary.epoch,
                summary.timestamp_ms,
                index,
                transaction.digest,
                transaction.kind,
                transaction.sender,
                transaction.status,
                transaction.event_count,
                *msgspec.structs.astuple(transaction.gas_used),
            )
            for index, transaction in enumerate(checkpoint.transactions)
        ]
