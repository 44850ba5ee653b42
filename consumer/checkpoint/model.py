"""What a checkpoint is to the rest of the package: plain immutable values, the same whatever dialect they came in."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["EndOfEpochData", "GasCostSummary", "Position", "Summary"]


class Position(msgspec.Struct, frozen=True):
    """Where a record lies in the input."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int = -1
    """Milliseconds since 1970; -1 where the record has none."""
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    @property
    def timestamp(self) -> int:
        """The same as `timestamp_ms`."""
        return self.timestamp_ms

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


class GasCostSummary(msgspec.Struct, frozen=True):
    """Gas in the chain's smallest unit; each number is 0 to 2^64-1."""

    computation_cost: int
    computation_cost_burned: int | None
    storage_cost: int
    storage_rebate: int
    non_refundable_storage_fee: int


class EndOfEpochData(msgspec.Struct, frozen=True):
    """What the last checkpoint of an epoch says about the next one."""

    next_epoch_committee: list[Any]
    next_epoch_protocol_version: int
    epoch_commitments: list[Any]
    epoch_supply_change: int | None


class Summary(msgspec.Struct, frozen=True):
    """The signed summary of a checkpoint; each number is 0 to 2^64-1."""

    epoch: int
    sequence_number: int
    network_total_transactions: int
    content_digest: str
    previous_digest: str | None
    gas: GasCostSummary
    timestamp_ms: int
    end_of_epoch: EndOfEpochData | None
