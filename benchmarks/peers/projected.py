"""The summary by a typed decoder that keeps only what it needs: the fastest that people write by hand."""

from __future__ import annotations

from typing import Any

import msgspec


class Gas(msgspec.Struct, rename="camel"):
    """The gas summary; the numbers are strings."""

    computation_cost: int
    storage_cost: int
    storage_rebate: int
    non_refundable_storage_fee: int


class Data(msgspec.Struct):
    """The summary."""

    sequence_number: int
    epoch: int
    timestamp_ms: int
    content_digest: str
    network_total_transactions: int
    epoch_rolling_gas_cost_summary: Gas
    previous_digest: str | None = None


class Signed(msgspec.Struct):
    """The summary in its envelope."""

    data: Data


class Skipped(msgspec.Struct):
    """A transaction: it is only counted."""


class Document(msgspec.Struct):
    """The parts of a checkpoint that the summary needs."""

    checkpoint_summary: Signed
    transactions: list[Skipped]


class Contents(msgspec.Struct):
    """A digest for each transaction: counted."""

    transactions: list[Skipped]


class Versioned(msgspec.Struct):
    """The contents in their envelope."""

    V1: Contents


class Header(msgspec.Struct):
    """What stands before the transactions."""

    checkpoint_summary: Signed
    checkpoint_contents: Versioned


DECODER = msgspec.json.Decoder(Document, strict=False)
HEADER = msgspec.json.Decoder(Header, strict=False)


def summary(value: bytes) -> dict[str, Any]:
    """The same as `benchmarks.jobs.summary`."""
    document = DECODER.decode(value)
    return _record(document.checkpoint_summary.data, len(document.transactions))


def summary_of_cut(value: bytes) -> dict[str, Any]:
    """The same of a document that is written as the nodes of 2024 do: what stands behind is not even skipped."""
    header = HEADER.decode(value[: value.index(b',"transactions"')] + b"}")
    return _record(header.checkpoint_summary.data, len(header.checkpoint_contents.V1.transactions))


def _record(data: Data, transactions: int) -> dict[str, Any]:
    gas = data.epoch_rolling_gas_cost_summary
    return {
        "sequence_number": data.sequence_number,
        "epoch": data.epoch,
        "timestamp_ms": data.timestamp_ms,
        "content_digest": data.content_digest,
        "previous_digest": data.previous_digest,
        "network_total_transactions": data.network_total_transactions,
        "transaction_count": transactions,
        "computation_cost": gas.computation_cost,
        "storage_cost": gas.storage_cost,
        "storage_rebate": gas.storage_rebate,
        "non_refundable_storage_fee": gas.non_refundable_storage_fee,
    }
