"""The plain values that cross between threads: input as it was fetched, output as it will be produced."""

from __future__ import annotations

from typing import NamedTuple, Protocol

__all__ = ["Headers", "OutRecord", "Record"]

Headers = list[tuple[str, bytes]]


class Record(Protocol):
    """One fetched input record. `confluent_kafka.Message` satisfies it, so nothing is copied on the way in."""

    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> Headers | None: ...
    def timestamp(self) -> tuple[int, int]: ...


class OutRecord(NamedTuple):
    """One record to produce; `partition` is already chosen."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers
