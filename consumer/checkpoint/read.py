"""From the JSON's types (`wire`) to what it says (`model`): spellings unified, every number checked."""

from __future__ import annotations

import codecs
import re
from typing import TypeVar

import msgspec

from consumer.checkpoint import wire
from consumer.checkpoint.model import GasCostSummary, Summary
from consumer.errors import DecodeError

__all__ = ["contents", "digest", "effects", "either", "gas", "kind_name", "listed", "parse", "status", "summary"]

Value = TypeVar("Value")

_SLICE = 1 << 16
_OUTCOME = msgspec.json.Decoder(bool | str | None)

# iota-sdk-types renamed two kinds; the names that the nodes write are kept.
_KINDS = {"Programmable": "ProgrammableTransaction", "EndOfEpoch": "EndOfEpochTransaction"}

# The keys that nodes write, at hand: to find the capitals of each takes longer than all the rest of a header.
_END_OF_EPOCH = {
    "nextEpochCommittee": "next_epoch_committee",
    "nextEpochProtocolVersion": "next_epoch_protocol_version",
    "epochCommitments": "epoch_commitments",
    "epochSupplyChange": "epoch_supply_change",
}
_STATUS = {"true": "success", "success": "success", "false": "failure", "failure": "failure"}


def parse(decoder: msgspec.json.Decoder[Value], data: bytes | msgspec.Raw) -> Value:
    """`decoder.decode`, with DecodeError as its only exception and none of the payload in its text."""
    try:
        if not isinstance(data, msgspec.Raw) and not data.isascii():
            _check_utf8(data)  # msgspec does not look into the texts that it skips
        return decoder.decode(data)
    except RecursionError:
        raise DecodeError("the JSON is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise DecodeError(f"the JSON is not valid UTF-8 ({error.reason})") from None
    except msgspec.DecodeError as error:
        # "Invalid enum value 'x'", of a user's own type
        raise DecodeError(re.sub("(?s)^Invalid .*?'.*'", "Unexpected value", str(error))) from None


def _check_utf8(data: bytes) -> None:
    """In slices: one emoji makes Python take four bytes for every character of a text."""
    decode = codecs.getincrementaldecoder("utf-8")().decode
    for at in range(0, len(data), _SLICE):
        decode(data[at : at + _SLICE])
    decode(b"", final=True)


def either(name: str, *spellings: Value | None) -> Value:
    """The first of the spellings that is there; DecodeError names the field where none is."""
    for value in spellings:
        if value is not None:
            return value
    raise DecodeError(f"{name} is missing")


def number(name: str, value: wire.Number, other: wire.Number = None) -> int:
    """A 64-bit number in the first spelling that is there: an integer or a string of digits, 0 to 2^64-1."""
    if value is None:
        value = other
    if type(value) is str and len(value) <= 20 and value.isdigit() and value.isascii():
        value = int(value)
    if type(value) is int and 0 <= value < 2**64:
        return value
    got = "nothing" if value is None else "another value"
    raise DecodeError(f"{name}: expected an integer from 0 to 2^64-1 or a string of its digits, got {got}")


def gas(data: wire.Gas) -> GasCostSummary:
    """The gas summary of a checkpoint or of a transaction's effects."""
    told = data.computation_cost_burned is not None or data.computationCostBurned is not None
    return GasCostSummary(
        number("computation_cost", data.computationCost, data.computation_cost),
        number("computation_cost_burned", data.computationCostBurned, data.computation_cost_burned) if told else None,
        number("storage_cost", data.storageCost, data.storage_cost),
        number("storage_rebate", data.storageRebate, data.storage_rebate),
        number("non_refundable_storage_fee", data.nonRefundableStorageFee, data.non_refundable_storage_fee),
    )


def summary(signed: wire.SignedSummary) -> Summary:
    """The summary under either of its two envelopes."""
    data = signed.data or either("checkpoint_summary.data", signed.checkpoint)
    end = data.end_of_epoch_data or data.endOfEpochData
    return Summary(
        number("epoch", data.epoch),
        number("sequence_number", data.sequence_number, data.sequenceNumber),
        number("network_total_transactions", data.network_total_transactions, data.networkTotalTransactions),
        data.content_digest
        or either("content_digest", data.content_digest, data.contents_digest, data.contentDigest, data.contentsDigest),
        data.previous_digest or data.previousDigest,
        gas(
            data.epoch_rolling_gas_cost_summary
            or either("epoch_rolling_gas_cost_summary", data.epochRollingGasCostSummary)
        ),
        number("timestamp_ms", data.timestamp_ms, data.timestampMs),
        end and {_END_OF_EPOCH.get(key) or _snake(key): value for key, value in end.items()},
    )


def _snake(key: str) -> str:
    return re.sub("([A-Z])", r"_\1", key).lower()


def contents(header: wire.HeaderDocument[wire.Entry]) -> list[wire.Entry]:
    """The entries of the contents, one for every transaction."""
    found = header.checkpoint_contents
    if isinstance(found, list):
        return found
    return (found.V1 or either("checkpoint_contents.V1", found.V2)).transactions


def listed(entry: wire.Listed) -> str | None:
    """The digest of the transaction that this entry of the contents stands for."""
    return entry.transaction if entry.digest is None else entry.digest.transaction


def effects(versioned: wire.Effects) -> wire.EffectsData:
    """A transaction's effects, whatever their version."""
    return versioned.V1 or versioned.V2 or versioned


def digest(data: wire.EffectsData) -> str:
    """The transaction's own digest."""
    return either("transaction_digest", data.transaction_digest, data.transactionDigest)


def kind_name(kind: dict[str, msgspec.Raw] | wire.Text) -> str:
    """The variant's name as the nodes write it: `ProgrammableTransaction`, `ConsensusCommitPrologueV1`, ..."""
    if isinstance(kind, dict) and "kind" in kind:
        words = parse(msgspec.json.Decoder(str), kind["kind"]).split("_")
        kind = "".join(word[:1].upper() + word[1:] for word in words)
    elif isinstance(kind, dict):
        kind = next(iter(kind), None)
    kind = either("kind", kind)
    return _KINDS.get(kind, kind)


def status(data: wire.EffectsData) -> str:
    """`"success"` or `"failure"`."""
    outcome = data.status if data.success is None else data.success
    if isinstance(outcome, dict):
        told = outcome.get("success", outcome.get("status"))
        outcome = next(iter(outcome), None) if told is None else parse(_OUTCOME, told)
    found = _STATUS.get(str(outcome).lower())
    if found is None:
        raise DecodeError("status: expected success or failure, got another value")
    return found
