"""What a checkpoint says, as plain immutable values: the same whatever dialect it came in."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["GasCostSummary", "Position", "Summary"]


class Position(msgspec.Struct, frozen=True, gc=False):
    """Where a record lies in the input, and what came with it."""

    topic: str
    partition: int
    offset: int
    timestamp: int = -1
    """Milliseconds since 1970; -1 where the record has none."""
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class GasCostSummary(msgspec.Struct, frozen=True, gc=False):
    """Gas in the chain's smallest unit, each 0 to 2^64-1; `computation_cost_burned` is None where it is not told."""

    computation_cost: int
    computation_cost_burned: int | None
    storage_cost: int
    storage_rebate: int
    non_refundable_storage_fee: int


class Summary(msgspec.Struct, frozen=True, gc=False):
    """The signed summary of a checkpoint; each number is 0 to 2^64-1.

    `gas` and `network_total_transactions` are running totals, of the epoch and since genesis, this checkpoint
    included. `timestamp_ms` never falls from one checkpoint to the next, but may stay. `previous_digest` is None in
    the genesis checkpoint only. `end_of_epoch` is None in all checkpoints but the last of an epoch; what it holds is
    JSON as it came, under keys in snake_case.
    """

    epoch: int
    sequence_number: int
    network_total_transactions: int
    content_digest: str
    previous_digest: str | None
    gas: GasCostSummary
    timestamp_ms: int
    end_of_epoch: dict[str, Any] | None
