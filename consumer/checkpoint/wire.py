"""The JSON of a checkpoint, all dialects in one set of types, and what each part of it means.

Three dialects are known (names of the Rust crates that write them): IOTA 2024 (`iota-types`), Sui (`sui-types`),
and `iota-sdk-types`. They differ in:

=====================  =========================================  ==========================================
part                   IOTA 2024, Sui                             iota-sdk-types
=====================  =========================================  ==========================================
summary                `{data, auth_signature}`                   `{checkpoint, signature}`
64-bit numbers         integers; strings in gas and end of epoch  strings
gas, end of epoch      camelCase                                  snake_case
contents               `{"V1": {"transactions": [...]}}`          `[{transaction, effects, signatures}]`
signed transaction     `{"data": [{intent_message: ...}]}`        `{transaction, signatures}`
version of a part      `{"V1": {...}}`                            the same, or `{"version": "1", ...}`
kind                   `{"Genesis": {...}}` or `"Genesis"`        the same, or `{"kind": "genesis", ...}`
status                 `"Success"`, `{"Failure": {...}}`          `{success, status?}`, or both in the effects
events                 null or `{"data": [...]}`                  null or `[...]`
=====================  =========================================  ==========================================

So every part is read in every form, and a key in both spellings, whatever the rest looks like; unknown keys are
skipped. A key that comes twice counts as its last occurrence, as everywhere in JSON.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

Number: TypeAlias = int | str | UnsetType
Text: TypeAlias = str | UnsetType


class Gas(msgspec.Struct, gc=False):
    computationCost: Number = UNSET
    computationCostBurned: Number | None = UNSET
    storageCost: Number = UNSET
    storageRebate: Number = UNSET
    nonRefundableStorageFee: Number = UNSET
    computation_cost: Number = UNSET
    computation_cost_burned: Number | None = UNSET
    storage_cost: Number = UNSET
    storage_rebate: Number = UNSET
    non_refundable_storage_fee: Number = UNSET


class Member(msgspec.Struct, gc=False):
    public_key: Text = UNSET
    publicKey: Text = UNSET
    stake: Number = UNSET


class EndOfEpoch(msgspec.Struct, gc=False):
    nextEpochCommittee: list[tuple[str, int | str] | Member] | UnsetType = UNSET
    nextEpochProtocolVersion: Number = UNSET
    epochCommitments: list[Any] | UnsetType = UNSET
    epochSupplyChange: Number | None = UNSET
    next_epoch_committee: list[tuple[str, int | str] | Member] | UnsetType = UNSET
    next_epoch_protocol_version: Number = UNSET
    epoch_commitments: list[Any] | UnsetType = UNSET
    epoch_supply_change: Number | None = UNSET


class SummaryData(msgspec.Struct, gc=False):
    epoch: Number = UNSET
    sequence_number: Number = UNSET
    network_total_transactions: Number = UNSET
    content_digest: Text = UNSET
    previous_digest: Text | None = UNSET
    epoch_rolling_gas_cost_summary: Gas | UnsetType = UNSET
    timestamp_ms: Number = UNSET
    end_of_epoch_data: EndOfEpoch | UnsetType | None = UNSET
    contents_digest: Text = UNSET
    sequenceNumber: Number = UNSET
    networkTotalTransactions: Number = UNSET
    contentDigest: Text = UNSET
    contentsDigest: Text = UNSET
    previousDigest: Text | None = UNSET
    epochRollingGasCostSummary: Gas | UnsetType = UNSET
    timestampMs: Number = UNSET
    endOfEpochData: EndOfEpoch | UnsetType | None = UNSET


class SignedSummary(msgspec.Struct, gc=False):
    data: SummaryData | UnsetType = UNSET
    checkpoint: SummaryData | UnsetType = UNSET


class Anything(msgspec.Struct, gc=False):
    """An object of which only the presence counts."""


class Contents(msgspec.Struct, gc=False):
    transactions: list[Anything]


class VersionedContents(msgspec.Struct, gc=False):
    V1: Contents | UnsetType = UNSET
    V2: Contents | UnsetType = UNSET


class TransactionData(msgspec.Struct, gc=False):
    kind: dict[str, msgspec.Raw] | Text = UNSET
    sender: Text = UNSET


class VersionedTransaction(TransactionData, gc=False):
    """Its fields stand under `V1`, or beside a `version`."""

    V1: TransactionData | UnsetType = UNSET


class IntentMessage(msgspec.Struct, gc=False):
    value: VersionedTransaction


class SignedIntent(msgspec.Struct, gc=False):
    intent_message: IntentMessage


class SignedTransaction(msgspec.Struct, gc=False):
    data: list[SignedIntent] | UnsetType = UNSET
    transaction: VersionedTransaction | UnsetType = UNSET


class EffectsData(msgspec.Struct, gc=False):
    status: str | dict[str, Any] | UnsetType | None = UNSET
    success: bool | UnsetType = UNSET
    gas_used: Gas | UnsetType = UNSET
    gasUsed: Gas | UnsetType = UNSET
    gas_cost_summary: Gas | UnsetType = UNSET
    transaction_digest: Text = UNSET
    transactionDigest: Text = UNSET


class Effects(EffectsData, gc=False):
    """Its fields stand under `V1` or `V2`, or beside a `version`."""

    V1: EffectsData | UnsetType = UNSET
    V2: EffectsData | UnsetType = UNSET


class TransactionDocument(msgspec.Struct, gc=False):
    transaction: SignedTransaction
    effects: Effects
    events: msgspec.Raw = msgspec.Raw(b"null")


class HeaderDocument(msgspec.Struct, gc=False):
    """What stands before the transactions."""

    checkpoint_summary: SignedSummary
    checkpoint_contents: list[Anything] | VersionedContents


class Document(msgspec.Struct, gc=False):
    """The whole of a checkpoint; objects and signatures are skipped."""

    checkpoint_summary: SignedSummary
    transactions: list[TransactionDocument]
