"""`Checkpoint` and `CheckpointHeader`: one record's value, read as far as it is needed."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UnsetType

from consumer.checkpoint import wire
from consumer.checkpoint.model import GasCostSummary, Position, Summary
from consumer.checkpoint.read import either, gas, kind_name, parse, status, summary
from consumer.errors import DecodeError

__all__ = ["Checkpoint", "CheckpointHeader", "CheckpointTransaction"]

_HEADER = msgspec.json.Decoder(wire.HeaderDocument)
_DOCUMENT = msgspec.json.Decoder(wire.Document)
# msgspec and not orjson: 15 % slower, but an integer from 2^64 up stays one where orjson makes it a float.
_ANY = msgspec.json.Decoder()

_KEY = b'"transactions"'
_MAX_KEYS = 8
_BLANKS = b" \n\r\t"
_MAX_BLANKS = 64


class CheckpointHeader(msgspec.Struct, frozen=True):
    """What stands before a checkpoint's transactions; the rest is neither read nor checked.

    `transaction_count` is that of the checkpoint's contents, the list of digests that the summary commits to.
    """

    summary: Summary
    transaction_count: int
    position: Position

    @classmethod
    def decode(cls, data: bytes, position: Position) -> CheckpointHeader:
        """Read the header of `data`.

        The summary and the contents stand before the big `transactions` array in what nodes write. So the document
        is cut before a key of that name and closed; a key further inside, which cannot be closed by one brace, does
        not parse then, and in the end the whole document is read. Only what stands before the cut counts: damage
        behind it is not noticed, nor is a second summary.

        Raises:
            DecodeError: what is read is not JSON, or not a checkpoint of a known dialect.
        """
        document = _read_header(data)
        return cls(summary(document.checkpoint_summary), _count(document.checkpoint_contents), position)


def _count(contents: list[wire.Anything] | wire.VersionedContents) -> int:
    if isinstance(contents, wire.VersionedContents):
        contents = either("checkpoint_contents.V1", contents.V1, contents.V2).transactions
    return len(contents)


def _read_header(data: bytes) -> wire.HeaderDocument:
    """The document up to its transactions; bounded work whatever the bytes."""
    at = data.find(_KEY)
    for _ in range(_MAX_KEYS):
        if at < 0:
            break
        before = data[max(0, at - _MAX_BLANKS) : at].rstrip(_BLANKS)
        if before.endswith(b","):  # a key, and not the first of its object
            try:
                return _HEADER.decode(data[: at - min(at, _MAX_BLANKS) + len(before) - 1] + b"}")
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass  # a key further inside: the next one, in the end the whole document
        at = data.find(_KEY, at + len(_KEY))
    return parse(_HEADER, data)


class CheckpointTransaction:
    """One transaction of a checkpoint, with its effects.

    `kind` is the variant's name (`ProgrammableTransaction`, `ConsensusCommitPrologueV1`, `EndOfEpochTransaction`,
    ...), `sender` an address (`0x` and 64 hex digits), `status` is `"success"` or `"failure"`; `error` is what the
    effects say about a failure, as it came, None after a success or where nothing is said.
    """

    __slots__ = ("_checkpoint", "_events", "_index", "digest", "error", "gas_used", "kind", "sender", "status")

    digest: str
    kind: str
    sender: str
    status: str
    error: Any
    gas_used: GasCostSummary

    def __init__(self, checkpoint: Checkpoint, index: int, document: wire.TransactionDocument) -> None:
        self._checkpoint = checkpoint
        self._index = index
        self._events: msgspec.Raw | list[Any] = document.events
        transaction = _transaction_data(document.transaction)
        self.kind = kind_name(transaction.kind)
        self.sender = either("sender", transaction.sender)
        effects = either("effects", document.effects.V1, document.effects.V2, document.effects)
        self.digest = either("transaction_digest", effects.transaction_digest, effects.transactionDigest)
        self.status, self.error = status(effects)
        self.gas_used = gas(either("gas_used", effects.gas_used, effects.gas_cost_summary, effects.gasUsed))

    @property
    def events(self) -> list[Any]:
        """The events' JSON objects, in order; parsed on first access."""
        if isinstance(self._events, msgspec.Raw):
            self._events = _event_list(parse(_ANY, self._events))
        return self._events

    @property
    def raw(self) -> dict[str, Any]:
        """The transaction's JSON, objects included: its part of `Checkpoint.data`."""
        raw: dict[str, Any] = self._checkpoint.data["transactions"][self._index]
        return raw

    def __repr__(self) -> str:
        return f"<CheckpointTransaction {self.digest}: {self.kind}, {self.status}>"


def _transaction_data(signed: wire.SignedTransaction) -> wire.TransactionData:
    transaction = signed.transaction
    if not isinstance(signed.data, UnsetType):
        if len(signed.data) != 1:
            raise DecodeError(f"transaction.data: expected an array of one element, got {len(signed.data)}")
        transaction = signed.data[0].intent_message.value
    if isinstance(transaction, UnsetType):
        raise DecodeError("a transaction has neither `data` nor `transaction`")
    return either("transaction", transaction.V1, transaction)


def _event_list(events: Any) -> list[Any]:
    if isinstance(events, dict):
        events = events.get("data")
    if events is None:
        return []
    if isinstance(events, list):
        return events
    raise DecodeError("events: expected null, an array, or an object with an array `data`, got another value")


class Checkpoint:
    """One whole checkpoint; what is not named here is in `data`.

    Decoding reads the summary and of every transaction what `CheckpointTransaction` names; the objects are checked
    for syntax only.
    """

    __slots__ = ("_bytes", "_data", "position", "summary", "transactions")

    summary: Summary
    transactions: tuple[CheckpointTransaction, ...]
    position: Position

    def __init__(self, data: bytes, position: Position) -> None:
        """Read `data`; raises DecodeError where it is not JSON, or not a checkpoint of a known dialect."""
        if not data.isascii():
            _check_utf8(data)
        document = parse(_DOCUMENT, data)
        self._bytes = data
        self._data: dict[str, Any] | None = None
        self.position = position
        self.summary = summary(document.checkpoint_summary)
        self.transactions = tuple(
            CheckpointTransaction(self, index, transaction) for index, transaction in enumerate(document.transactions)
        )

    @classmethod
    def decode(cls, data: bytes, position: Position) -> Checkpoint:
        """The same as the constructor, by the name that every decodable type has."""
        return cls(data, position)

    @property
    def data(self) -> dict[str, Any]:
        """The whole JSON, parsed on first access; integers of any size stay integers.

        Raises:
            DecodeError: a number is too large even for a float.
        """
        if self._data is None:
            data: dict[str, Any] = parse(_ANY, self._bytes)
            self._data = data
        return self._data

    def __repr__(self) -> str:
        return f"<Checkpoint {self.summary.sequence_number}: {len(self.transactions)} transactions>"


def _check_utf8(data: bytes) -> None:
    """msgspec does not look into the strings that it skips."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"the JSON is not valid UTF-8 (byte {error.start})") from None
