"""The plain values that cross between threads: input as it was fetched, output as it will be produced."""

from __future__ import annotations

from collections.abc import Callable
from operator import methodcaller
from typing import Protocol

import msgspec

from consumer.errors import DecodeError

__all__ = ["Headers", "OutRecord", "Record", "headers_of"]

Headers = list[tuple[str, bytes]]


class Record(Protocol):
    """One fetched input record. `confluent_kafka.Message` satisfies it, so nothing is copied on the way in."""

    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> Headers | None: ...
    def timestamp(self) -> tuple[int, int]: ...


_ask: Callable[[Record], Headers | None] = methodcaller("headers")


def headers_of(record: Record) -> Headers:
    """The record's headers; to be asked for once.

    Where a name is not UTF-8, the client returns a tuple with a NULL in it and leaves an exception behind
    (confluent-kafka 2.16.1, measured): touching either later crashes the process. Only a call out of C sees the
    exception at once; Python's specialised bytecode does not look.

    Raises:
        DecodeError: a header's name is not UTF-8.
    """
    try:
        return _ask(record) or []
    except SystemError:
        raise DecodeError("the headers cannot be read: a name is not valid UTF-8") from None


class OutRecord(msgspec.Struct, frozen=True, gc=False):
    """One record to produce; `partition` is already chosen."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    size_bytes: int
    """What it takes in a record batch, rounded up."""
