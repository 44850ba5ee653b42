"""Where a record belongs: Java's murmur2 for keys, and how checkpoint numbers lie in the partitions of a topic."""

from __future__ import annotations

import struct
from dataclasses import dataclass

__all__ = ["Partitioning", "murmur2", "partition_for_key"]

_SEED = 0x9747B28C
_MULTIPLIER = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """The 32-bit murmur2 of `data`, unsigned, as `org.apache.kafka.common.utils.Utils.murmur2` computes it."""
    length = len(data)
    hashed = _SEED ^ length
    for (word,) in struct.iter_unpack("<I", data[: length & ~3]):
        mixed = word * _MULTIPLIER & _MASK
        mixed = (mixed ^ mixed >> 24) * _MULTIPLIER & _MASK
        hashed = hashed * _MULTIPLIER & _MASK ^ mixed
    if length & 3:
        hashed = (hashed ^ int.from_bytes(data[length & ~3 :], "little")) * _MULTIPLIER & _MASK
    hashed = (hashed ^ hashed >> 13) * _MULTIPLIER & _MASK
    return hashed ^ hashed >> 15


def partition_for_key(key: bytes, partitions: int) -> int:
    """The partition that the Java client's default partitioner chooses for `key`: librdkafka's default is another."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


@dataclass(frozen=True, slots=True)
class Partitioning:
    """How checkpoint numbers lie in partitions: runs of `run` consecutive numbers, dealt to the partitions in turn.

    `modulo` is a run of 1, `range:N` a run of N, `unknown` no rule at all: `run` is None and every method raises
    ValueError, so ask `known` first. Partition numbers are 0 to `partitions` - 1.
    """

    run: int | None

    @classmethod
    def parse(cls, text: str) -> Partitioning:
        """Read `unknown`, `modulo` or `range:N` with N >= 1; raises ValueError that says what is allowed."""
        if text == "unknown":
            return cls(None)
        if text == "modulo":
            return cls(1)
        kind, _, size = text.partition(":")
        if kind == "range" and size.isascii() and size.isdigit() and int(size) > 0:
            return cls(int(size))
        raise ValueError(f"{text!r} is no partitioning: use modulo, range:N (N at least 1) or unknown")

    def __str__(self) -> str:
        if self.run is None:
            return "unknown"
        return "modulo" if self.run == 1 else f"range:{self.run}"

    @property
    def known(self) -> bool:
        """Whether a number's partition can be told."""
        return self.run is not None

    def partition_of(self, number: int, partitions: int) -> int:
        """The partition that holds `number`."""
        return number // self._known_run() % partitions

    def first_number(self, partition: int, partitions: int, at_or_above: int = 0) -> int:
        """The lowest number in `partition` that is at least `at_or_above` (and at least 0)."""
        run = self._known_run()
        start = max(at_or_above, 0)
        runs_ahead = (partition - start // run) % partitions
        return start if runs_ahead == 0 else (start // run + runs_ahead) * run

    def next_number(self, number: int, partition: int, partitions: int) -> int:
        """The number that follows `number` in `partition`; `number` itself may lie in another one."""
        return self.first_number(partition, partitions, number + 1)

    def last_number_at_or_below(self, limit: int, partition: int, partitions: int) -> int | None:
        """The highest number in `partition` that is at most `limit`; None where it has none."""
        run = self._known_run()
        runs_back = (limit // run - partition) % partitions
        last = limit if runs_back == 0 else (limit // run - runs_back + 1) * run - 1
        return last if last >= 0 else None

    def _known_run(self) -> int:
        if self.run is None:
            raise ValueError("the partitioning is unknown: set CONSUMER_SEQUENCE__PARTITIONING to modulo or range:N")
        return self.run
