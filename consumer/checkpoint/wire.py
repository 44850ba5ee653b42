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
skipped, and null is the same as absent. A key that comes twice counts as its last occurrence, as everywhere in JSON
(among what is read: see `cut`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec

Number: TypeAlias = int | str | None
Text: TypeAlias = str | None


class Gas(msgspec.Struct, gc=False):
    computationCost: Number = None
    computationCostBurned: Number = None
    storageCost: Number = None
    storageRebate: Number = None
    nonRefundableStorageFee: Number = None
    computation_cost: Number = None
    computation_cost_burned: Number = None
    storage_cost: Number = None
    storage_rebate: Number = None
    non_refundable_storage_fee: Number = None


class SummaryData(msgspec.Struct, gc=False):
    epoch: Number = None
    sequence_number: Number = None
    network_total_transactions: Number = None
    content_digest: Text = None
    previous_digest: Text = None
    epoch_rolling_gas_cost_summary: Gas | None = None
    timestamp_ms: Number = None
    end_of_epoch_data: dict[str, Any] | None = None
    contents_digest: Text = None
    sequenceNumber: Number = None
    networkTotalTransactions: Number = None
    contentDigest: Text = None
    contentsDigest: Text = None
    previousDigest: Text = None
    epochRollingGasCostSummary: Gas | None = None
    timestampMs: Number = None
    endOfEpochData: dict[str, Any] | None = None


class SignedSummary(msgspec.Struct, gc=False):
    data: SummaryData | None = None
    checkpoint: SummaryData | None = None


class Anything(msgspec.Struct, gc=False):
    """An object of which only the presence counts."""


class Digests(msgspec.Struct, gc=False):
    transaction: str


class Listed(msgspec.Struct, gc=False):
    """An entry of the contents; from V2 on its digests stand one level deeper."""

    transaction: Text = None
    digest: Digests | None = None


Entry = TypeVar("Entry", Anything, Listed)


class Contents(msgspec.Struct, Generic[Entry], gc=False):
    transactions: list[Entry]


class VersionedContents(msgspec.Struct, Generic[Entry], gc=False):
    V1: Contents[Entry] | None = None
    V2: Contents[Entry] | None = None


class TransactionData(msgspec.Struct, gc=False):
    kind: dict[str, msgspec.Raw] | str | None = None
    sender: Text = None


class VersionedTransaction(TransactionData, gc=False):
    """Its fields stand under `V1`, or beside a `version`."""

    V1: TransactionData | None = None


class IntentMessage(msgspec.Struct, gc=False):
    value: VersionedTransaction


class SignedIntent(msgspec.Struct, gc=False):
    intent_message: IntentMessage


class SignedTransaction(msgspec.Struct, gc=False):
    data: tuple[SignedIntent] | None = None
    transaction: VersionedTransaction | None = None


class EffectsData(msgspec.Struct, gc=False):
    status: str | dict[str, msgspec.Raw] | None = None
    success: bool | None = None
    gas_used: Gas | None = None
    gasUsed: Gas | None = None
    gas_cost_summary: Gas | None = None
    transaction_digest: Text = None
    transactionDigest: Text = None


class Effects(EffectsData, gc=False):
    """Its fields stand under `V1` or `V2`, or beside a `version`."""

    V1: EffectsData | None = None
    V2: EffectsData | None = None


class Events(msgspec.Struct, gc=False):
    data: list[msgspec.Raw] | None = None


class TransactionDocument(msgspec.Struct, gc=False):
    transaction: SignedTransaction
    effects: Effects
    events: msgspec.Raw = msgspec.Raw(b"null")


class TransactionPiece(TransactionDocument, gc=False):
    """A transaction up to its objects; all three parts stand before them."""

    events: msgspec.Raw


class HeaderDocument(msgspec.Struct, Generic[Entry], gc=False):
    """What stands before the transactions."""

    checkpoint_summary: SignedSummary
    checkpoint_contents: list[Entry] | VersionedContents[Entry]


class Document(msgspec.Struct, gc=False):
    """What is read of a checkpoint; objects and signatures are skipped."""

    checkpoint_summary: SignedSummary
    transactions: Sequence[TransactionDocument]
