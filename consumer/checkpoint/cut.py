"""The parts of a document that are read, cut out of its bytes before anything is parsed.

Most of a checkpoint are its objects, which nothing here reads: skipping them as JSON takes four times as long as all
the rest. In valid JSON a comma, a quote, a name, a quote and a colon are a key of an object wherever they stand, since
a quote inside a text is escaped; only how deep it stands is not known. So what is cut off is closed as if the key
stood where nodes write it, and if that does not parse, or does not add up, the whole document is read.
"""

from __future__ import annotations

import msgspec

from consumer.checkpoint import wire
from consumer.checkpoint.read import contents, digest, effects, parse
from consumer.errors import DecodeError

__all__ = ["read_document", "read_header"]

_HEADER = msgspec.json.Decoder(wire.HeaderDocument[wire.Anything])
_DIGESTS = msgspec.json.Decoder(wire.HeaderDocument[wire.Digests])
_PIECES = msgspec.json.Decoder(list[wire.TransactionPiece])
_DOCUMENT = msgspec.json.Decoder(wire.Document)

_KEY = b'"transactions"'
_MAX_KEYS = 8
_TRANSACTION = b'{"transaction":{'
_TRANSACTIONS = b',"transactions":['
_OBJECTS = b',"input_objects":'
_END = b"]}]}"  # of the last one's objects, and of all that is around them: what is cut short ends otherwise


def read_header(data: bytes) -> wire.HeaderDocument[wire.Anything]:
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


def read_document(data: bytes) -> wire.Document:
    """The summary and the transactions; their objects stay unread where all stands as nodes write it."""
    return _read_pieces(data) or parse(_DOCUMENT, data)


def _read_pieces(data: bytes) -> wire.Document | None:
    """Every transaction up to its objects; None: the whole must be read.

    The contents list the digests of the transactions: one that the cuts missed, or that was found in the middle of
    another one's objects, does not agree with them.
    """
    top = data.find(_TRANSACTIONS + _TRANSACTION)
    if top < 0 or not data.endswith(_END):
        return None
    pieces = []
    at = top + len(_TRANSACTIONS)
    while at >= 0:
        end = data.find(_OBJECTS, at)
        if end < 0:
            return None
        pieces.append(data[at:end])
        at = data.find(_TRANSACTION, end)
    try:
        header = parse(_DIGESTS, data[:top] + b"}")
        transactions = parse(_PIECES, b"[" + b"},".join(pieces) + b"}]")
        listed = [entry.transaction for entry in contents(header)]
        if listed != [digest(effects(transaction.effects)) for transaction in transactions]:
            return None
    except DecodeError:
        return None
    return wire.Document(header.checkpoint_summary, transactions)
