"""From the JSON's types (`wire`) to what it says (`model`): spellings unified, every number checked."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from consumer.checkpoint import wire
from consumer.checkpoint.model import CommitteeMember, EndOfEpochData, GasCostSummary, Summary
from consumer.errors import DecodeError

__all__ = ["either", "gas", "kind_name", "parse", "status", "summary"]

U64_MAX = 2**64 - 1
I64_MAX = 2**63 - 1

Value = TypeVar("Value")

# iota-sdk-types renamed two kinds; the names that the nodes write are kept.
_KINDS = {"Programmable": "ProgrammableTransaction", "EndOfEpoch": "EndOfEpochTransaction"}


_TEXT = msgspec.json.Decoder(str)


def parse(decoder: msgspec.json.Decoder[Value], data: bytes | msgspec.Raw) -> Value:
    """`decoder.decode`, with DecodeError as its only exception and none of the payload in its text."""
    try:
        return decoder.decode(data)
    except RecursionError:
        raise DecodeError("the JSON is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise DecodeError(f"the JSON is not valid UTF-8 (byte {error.start})") from None
    except msgspec.DecodeError as error:
        what, at, path = str(error).partition(" - at ")
        if what.startswith("Invalid "):  # "Invalid enum value 'x'", "Invalid value 'x'": of a user's own type
            what = "Unexpected value"
        raise DecodeError(what + at + path) from None


def either(name: str, value: Value | UnsetType, *others: Value | UnsetType) -> Value:
    """The first of the spellings that is there; DecodeError names the field where none is."""
    if value is not UNSET:
        return value
    for other in others:
        if other is not UNSET:
            return other
    raise DecodeError(f"{name} is missing")


def unsigned(name: str, value: wire.Number | None, other: wire.Number | None) -> int:
    """A 64-bit number in the first spelling that is there: an integer or a string of digits, 0 to 2^64-1."""
    if value is UNSET:
        value = other
    if type(value) is int:
        if 0 <= value <= U64_MAX:
            return value
        raise DecodeError(f"{name}: expected an integer from 0 to 2^64-1, got one outside of it")
    if type(value) is str:
        if value.isascii() and value.isdigit() and len(value) <= 20 and (number := int(value)) <= U64_MAX:
            return number
        raise DecodeError(f"{name}: expected the digits of a number from 0 to 2^64-1, got another string")
    raise DecodeError(f"{name} is missing")


def _signed(name: str, value: wire.Number | None, other: wire.Number | None) -> int | None:
    """A signed 64-bit number, None where it is absent or null."""
    if value is UNSET:
        value = other
    if value is None or isinstance(value, UnsetType):
        return None
    if isinstance(value, str):
        digits = value.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 19):
            raise DecodeError(f"{name}: expected the digits of a signed 64-bit number, got another string")
        value = int(value)
    if not -I64_MAX - 1 <= value <= I64_MAX:
        raise DecodeError(f"{name}: expected a signed 64-bit number, got one outside of it")
    return value


def gas(data: wire.Gas) -> GasCostSummary:
    """The gas summary of a checkpoint or of a transaction's effects."""
    burned = data.computation_cost_burned if data.computationCostBurned is UNSET else data.computationCostBurned
    return GasCostSummary(
        unsigned("computation_cost", data.computationCost, data.computation_cost),
        None if burned is None or burned is UNSET else unsigned("computation_cost_burned", burned, UNSET),
        unsigned("storage_cost", data.storageCost, data.storage_cost),
        unsigned("storage_rebate", data.storageRebate, data.storage_rebate),
        unsigned("non_refundable_storage_fee", data.nonRefundableStorageFee, data.non_refundable_storage_fee),
    )


def _member(member: wire.Member) -> CommitteeMember:
    key = either("public_key", member.public_key, member.publicKey)
    return CommitteeMember(key, unsigned("stake", member.stake, UNSET))


def _end_of_epoch(data: wire.EndOfEpoch) -> EndOfEpochData:
    committee = either("next_epoch_committee", data.nextEpochCommittee, data.next_epoch_committee)
    return EndOfEpochData(
        tuple(
            [
                CommitteeMember(member[0], unsigned("stake", member[1], UNSET))
                if isinstance(member, tuple)
                else _member(member)
                for member in committee
            ]
        ),
        unsigned("next_epoch_protocol_version", data.nextEpochProtocolVersion, data.next_epoch_protocol_version),
        tuple(either("epoch_commitments", data.epochCommitments, data.epoch_commitments, [])),
        _signed("epoch_supply_change", data.epochSupplyChange, data.epoch_supply_change),
    )


def summary(signed: wire.SignedSummary) -> Summary:
    """The summary under either of its two envelopes."""
    data = signed.checkpoint if isinstance(signed.data, UnsetType) else signed.data
    if isinstance(data, UnsetType):
        raise DecodeError("checkpoint_summary has neither `data` nor `checkpoint`")
    end = either("end_of_epoch_data", data.end_of_epoch_data, data.endOfEpochData, None)
    return Summary(
        unsigned("epoch", data.epoch, UNSET),
        unsigned("sequence_number", data.sequence_number, data.sequenceNumber),
        unsigned("network_total_transactions", data.network_total_transactions, data.networkTotalTransactions),
        either("content_digest", data.content_digest, data.contents_digest, data.contentDigest, data.contentsDigest),
        either("previous_digest", data.previous_digest, data.previousDigest, None),
        gas(
            either(
                "epoch_rolling_gas_cost_summary", data.epoch_rolling_gas_cost_summary, data.epochRollingGasCostSummary
            )
        ),
        unsigned("timestamp_ms", data.timestamp_ms, data.timestampMs),
        None if end is None else _end_of_epoch(end),
    )


def kind_name(kind: dict[str, msgspec.Raw] | wire.Text) -> str:
    """The variant's name as the nodes write it: `ProgrammableTransaction`, `ConsensusCommitPrologueV1`, ..."""
    if isinstance(kind, dict):
        if "kind" in kind:
            kind = "".join(word[:1].upper() + word[1:] for word in parse(_TEXT, kind["kind"]).split("_"))
        elif len(kind) == 1:
            kind = next(iter(kind))
        else:
            raise DecodeError(f"kind: expected an object with one key, got {len(kind)}")
    if kind is UNSET:
        raise DecodeError("kind is missing")
    return _KINDS.get(kind, kind)


def status(effects: wire.EffectsData) -> tuple[str, Any]:
    """`"success"` or `"failure"`, and what the effects say about a failure (JSON) or None."""
    detail: Any = effects.status
    outcome: Any = effects.success
    if outcome is UNSET and isinstance(detail, dict):
        if "success" in detail:
            outcome, detail = detail["success"], detail.get("status")
        elif "status" in detail:
            outcome = detail["status"]
        else:
            outcome = next((name for name in ("Failure", "Success") if name in detail), None)
            detail = detail.get("Failure")
    elif outcome is UNSET:
        outcome, detail = detail, None
    if outcome is True or outcome in ("Success", "success"):
        return "success", None
    if outcome is False or outcome in ("Failure", "failure"):
        return "failure", None if detail is UNSET else detail
    raise DecodeError("status: expected success or failure, got another value")
