"""`Checkpoint` and `CheckpointHeader`: one record's value, read as far as it is needed."""

from __future__ import annotations

from typing import Any

import msgspec

from consumer.checkpoint import wire
from consumer.checkpoint.cut import read_document, read_header
from consumer.checkpoint.model import GasCostSummary, Position, Summary
from consumer.checkpoint.read import contents, digest, effects, either, gas, kind_name, parse, status, summary
from consumer.errors import DecodeError

__all__ = ["Checkpoint", "CheckpointHeader", "CheckpointTransaction"]

# msgspec and not orjson: 15 % slower, but an integer from 2^64 up stays one where orjson makes it a float.
_ANY = msgspec.json.Decoder()
_COUNTED = msgspec.json.Decoder(wire.Events | list[msgspec.Raw] | None)


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

        The summary and the contents stand before the big `transactions` array in what nodes write; what stands behind
        them then is not looked at: damage there is not noticed, nor is a second summary. Otherwise the whole document
        is read.

        Raises:
            DecodeError: what is read is not JSON, or not a checkpoint of a known dialect.
        """
        document = read_header(data)
        return cls(summary(document.checkpoint_summary), len(contents(document)), position)


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
        done = effects(document.effects)
        self.kind: str = kind_name(transaction.kind)
        self.sender: str = either("sender", transaction.sender)
        self.digest: str = digest(done)
        self.status: str = status(done)
        self.gas_used: GasCostSummary = gas(either("gas_used", done.gas_used, done.gas_cost_summary, done.gasUsed))

    @property
    def event_count(self) -> int:
        """How many events there are; they are not parsed for it."""
        if isinstance(self._events, msgspec.Raw):
            try:
                events = parse(_COUNTED, self._events)
            except DecodeError:
                pass  # `events` says what is wrong
            else:
                return len((events.data if isinstance(events, wire.Events) else events) or ())
        return len(self.events)

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
        """The transaction's JSON, objects included: its part of `Checkpoint.data`, and DecodeError as there."""
        try:
            raw: dict[str, Any] = self._json.data["transactions"][self._index]
        except (LookupError, TypeError):  # what was not read before says something else
            raise DecodeError("transactions: another list follows the one that was read") from None
        return raw


class Checkpoint:
    """One whole checkpoint; what is not named here is in `data`.

    Decoding reads the summary and of every transaction what `CheckpointTransaction` names. The objects, most of the
    bytes, are not looked at before `data` or `raw` is asked for, nor is what stands behind them, where the document is
    written as nodes write it: damage there is noticed only then.
    """

    __slots__ = ("_json", "position", "summary", "transactions")

    def __init__(self, data: bytes, position: Position) -> None:
        """Read `data`; raises DecodeError where what is read is not JSON, or not a checkpoint of a known dialect."""
        document = read_document(data)
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
            DecodeError: a number is too large even for a float, or what was not read before is not JSON.
        """
        return self._json.data
