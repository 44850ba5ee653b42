"""The plain values that cross between threads: input as it was fetched, output as it will be produced."""

from __future__ import annotations

from typing import NamedTuple, Protocol

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


def headers_of(record: Record) -> Headers:
    """The record's headers; to be asked for once.

    Of a name that is not UTF-8 the client makes a SystemError, and what it returns to whoever asks again crashes the
    process (confluent-kafka 2.16.1, measured).

    Raises:
        DecodeError: a header's name is not UTF-8.
    """
    try:
        return record.headers() or []
    except SystemError:
        raise DecodeError("the headers cannot be read: a name is not valid UTF-8") from None


class OutRecord(NamedTuple):
    """One record to produce; `partition` is already chosen."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers
