"""What a checkpoint says, as plain immutable values: the same whatever dialect it came in."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["CommitteeMember", "EndOfEpochData", "GasCostSummary", "Position", "Summary"]


class Position(msgspec.Struct, frozen=True, gc=False):
    """Where a record lies in the input, and what came with it."""

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


class GasCostSummary(msgspec.Struct, frozen=True, gc=False):
    """Gas in the chain's smallest unit, each 0 to 2^64-1; `computation_cost_burned` is None where it is not told."""

    computation_cost: int
    computation_cost_burned: int | None
    storage_cost: int
    storage_rebate: int
    non_refundable_storage_fee: int


class CommitteeMember(msgspec.Struct, frozen=True, gc=False):
    """A validator (public key in base64) and its share of the votes, 0 to 2^64-1."""

    public_key: str
    stake: int


class EndOfEpochData(msgspec.Struct, frozen=True, gc=False):
    """What the last checkpoint of an epoch says about the next one.

    `epoch_commitments` are the JSON objects as they came; `epoch_supply_change` is signed, None where it is not told.
    """

    next_epoch_committee: tuple[CommitteeMember, ...]
    next_epoch_protocol_version: int
    epoch_commitments: tuple[Any, ...]
    epoch_supply_change: int | None


class Summary(msgspec.Struct, frozen=True, gc=False):
    """The signed summary of a checkpoint; each number is 0 to 2^64-1.

    `gas` and `network_total_transactions` are running totals, of the epoch and since genesis, this checkpoint
    included. `timestamp_ms` never falls from one checkpoint to the next, but may stay. `previous_digest` is None in
    the genesis checkpoint only. `end_of_epoch` is None in all checkpoints but the last of an epoch.
    """

    epoch: int
    sequence_number: int
    network_total_transactions: int
    content_digest: str
    previous_digest: str | None
    gas: GasCostSummary
    timestamp_ms: int
    end_of_epoch: EndOfEpochData | None
