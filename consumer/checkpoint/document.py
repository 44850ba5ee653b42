"""`Checkpoint` and `CheckpointHeader`: one record's value, read as far as it is needed."""

from __future__ import annotations

from typing import Any

import msgspec

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
        contents = document.checkpoint_contents
        if isinstance(contents, wire.VersionedContents):
            contents = either("checkpoint_contents.V1", contents.V1, contents.V2).transactions
        return cls(summary(document.checkpoint_summary), len(contents), position)


def _read_header(data: bytes) -> wire.HeaderDocument:
    """The document up to its transactions; bounded work whatever the bytes."""
    at = data.find(b"," + _KEY)  # as nodes write it: no space, and not the first key of its object
    if at > 0:
        try:
            return parse(_HEADER, data[:at] + b"}")
        except DecodeError:
            pass
    at = -1
    for _ in range(_MAX_KEYS):
        at = data.find(_KEY, at + 1)
        before = data[: max(at, 0)].rstrip()
        if before.endswith(b","):  # not the first key of its object, as that of the contents is
            try:
                return parse(_HEADER, before[:-1] + b"}")
            except DecodeError:
                pass  # a key further inside: the next one, in the end the whole document
    return parse(_HEADER, data)


class _Json:
    """A checkpoint's text, which the checkpoint and its transactions share.

    Were it the checkpoint's, a cycle of references would keep tens of megabytes until the garbage collector comes by.
    """

    __slots__ = ("_data", "_text")

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._data: dict[str, Any] | None = None

    @property
    def data(self) -> dict[str, Any]:
        """Parsed on first access."""
        if self._data is None:
            data: dict[str, Any] = parse(_ANY, self._text)
            self._data = data
        return self._data


class CheckpointTransaction:
    """One transaction of a checkpoint, with its effects.

    `kind` is the variant's name (`ProgrammableTransaction`, `ConsensusCommitPrologueV1`, `EndOfEpochTransaction`,
    ...), `sender` an address (`0x` and 64 hex digits), `status` is `"success"` or `"failure"`.
    """

    __slots__ = ("_events", "_index", "_json", "digest", "gas_used", "kind", "sender", "status")

    def __init__(self, json: _Json, index: int, document: wire.TransactionDocument) -> None:
        self._json = json
        self._index = index
        self._events: msgspec.Raw | list[Any] = document.events
        signed = document.transaction
        inner = either("transaction", signed.data[0].intent_message.value if signed.data else None, signed.transaction)
        transaction = inner.V1 or inner
        effects: wire.EffectsData = document.effects.V1 or document.effects.V2 or document.effects
        self.kind: str = kind_name(transaction.kind)
        self.sender: str = either("sender", transaction.sender)
        self.digest: str = either("transaction_digest", effects.transaction_digest, effects.transactionDigest)
        self.status: str = status(effects)
        self.gas_used: GasCostSummary = gas(
            either("gas_used", effects.gas_used, effects.gas_cost_summary, effects.gasUsed)
        )

    @property
    def events(self) -> list[Any]:
        """The events' JSON objects, in order; parsed on first access."""
        if isinstance(self._events, msgspec.Raw):
            events = parse(_ANY, self._events)
            events = (events.get("data") if isinstance(events, dict) else events) or []
            if not isinstance(events, list):
                raise DecodeError("events: expected null, an array, or an object with an array `data`")
            self._events = events
        return self._events

    @property
    def raw(self) -> dict[str, Any]:
        """The transaction's JSON, objects included: its part of `Checkpoint.data`."""
        raw: dict[str, Any] = self._json.data["transactions"][self._index]
        return raw


class Checkpoint:
    """One whole checkpoint; what is not named here is in `data`.

    Decoding reads the summary and of every transaction what `CheckpointTransaction` names; the objects are checked
    for syntax only.
    """

    __slots__ = ("_json", "position", "summary", "transactions")

    def __init__(self, data: bytes, position: Position) -> None:
        """Read `data`; raises DecodeError where it is not JSON, or not a checkpoint of a known dialect."""
        document = parse(_DOCUMENT, data)
        self._json = _Json(data)
        self.position: Position = position
        self.summary: Summary = summary(document.checkpoint_summary)
        self.transactions: tuple[CheckpointTransaction, ...] = tuple(
            CheckpointTransaction(self._json, index, transaction)
            for index, transaction in enumerate(document.transactions)
        )

    @classmethod
    def decode(cls, data: bytes, position: Position) -> Checkpoint:
        """The same as the constructor, by the name that every decodable type has."""
        return cls(data, position)

    @property
    def data(self) -> dict[str, Any]:
        """The whole JSON, parsed on first access; integers of any size stay integers.

        Raises:
            DecodeError: a number is too large even for a float, or a text that was not read is not UTF-8.
        """
        return self._json.data
