"""The plain values that cross between threads: input as it was fetched, output as it will be produced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

__all__ = ["Headers", "Item", "OutRecord", "Record"]

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


class Item(NamedTuple):
    """Finished work that is published and committed as a whole: one checkpoint, or one closed batch.

    It accounts for every delivered input offset from `first` to `last`, both included; what produced nothing has
    no `outs` and still moves the offset. `records` is the number of input records
    behind it, `timestamp_ms` the oldest one's timestamp (-1: it has none).
    """

    first: int
    last: int
    records: int
    outs: Sequence[OutRecord]
    size_bytes: int
    sequence_number: int | None = None
    ended_epoch: int | None = None
    dead: bool = False
    timestamp_ms: int = -1
