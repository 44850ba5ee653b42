"""The parts of a document that are read, cut out of its bytes before anything is parsed.

Most of a checkpoint is its objects, which nothing here reads: to skip them as JSON takes longer than all the rest. In
valid JSON a comma, a quote, a name, a quote and a colon are a key of an object wherever they stand, since a quote
inside a text is escaped; only how deep it stands is not known. So what is cut off is closed as if the key stood where
nodes write it, and where that does not parse, or does not add up, the whole document is read.

What stands behind a cut is not looked at: damage there is not noticed, nor a key that comes there a second time.
"""

from __future__ import annotations

import msgspec

from consumer.checkpoint import wire
from consumer.checkpoint.read import contents, digest, effects, listed, parse
from consumer.errors import DecodeError

__all__ = ["read_document", "read_header"]

_HEADER = msgspec.json.Decoder(wire.HeaderDocument[wire.Anything])
_LISTED = msgspec.json.Decoder(wire.HeaderDocument[wire.Listed])
_PIECE = msgspec.json.Decoder(wire.TransactionPiece)
_DOCUMENT = msgspec.json.Decoder(wire.Document)

_KEY = b'"transactions"'
_NEXT = b"," + _KEY
_MAX_KEYS = 8
_LIST = b',"transactions":['
_TRANSACTION = b'{"transaction":{'
_OBJECTS = b',"input_objects":'
_END = b"]}]}"  # of the last object list, and of all that is around it


def read_header(data: bytes) -> wire.HeaderDocument[wire.Anything]:
    """The document up to its transactions; bounded work whatever the bytes."""
    at = data.find(_NEXT)  # as nodes write it: no space, and not the first key of its object
    if at > 0:
        try:
            return parse(_HEADER, data[:at] + b"}")
        except DecodeError:
            pass
    at = -1
    for _ in range(_MAX_KEYS):
        at = data.find(_KEY, at + 1)
        if at < 0:
            break
        before = data[:at].rstrip()
        if before.endswith(b","):  # not the first key of its object, as that of the contents is
            try:
                return parse(_HEADER, before[:-1] + b"}")
            except DecodeError:
                pass  # a key further inside: the next one, in the end the whole document
    return parse(_HEADER, data)


def read_document(data: bytes) -> wire.Document:
    """The summary and the transactions; their objects stay unread where all stands as nodes write it."""
    try:
        found = _read_pieces(data)
    except DecodeError:
        found = None
    return found or parse(_DOCUMENT, data)


def _read_pieces(data: bytes) -> wire.Document | None:
    """Every transaction up to its objects; None or DecodeError: the whole must be read.

    The contents list the digests of the transactions: each piece must have the next one, and no piece be left over.
    Something among the objects that looks like a transaction is found besides all real ones, and is one too many (so
    long as all of them are there: who leaves transactions out must leave them out of the contents as well).
    """
    top = data.find(_LIST + _TRANSACTION)
    if top < 0 or not data.endswith(_END):
        return None
    header = parse(_LISTED, data[:top] + b"}")
    transactions = []
    at = top + len(_LIST)
    for entry in contents(header):
        end = data.find(_OBJECTS, at)
        if not at or end < 0:
            return None
        transaction = parse(_PIECE, data[at:end] + b"}")
        if digest(effects(transaction.effects)) != listed(entry):
            return None
        transactions.append(transaction)
        at = data.find(b"," + _TRANSACTION, end) + 1  # 0: there is no other
    return None if at else wire.Document(header.checkpoint_summary, transactions)
