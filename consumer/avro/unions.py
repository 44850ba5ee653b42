"""The writer of Avro unions: the branch is chosen by the value's own type, never by converting the value.

A value goes to the first branch of its kind that takes it whole. Exceptions: `double` before `float` (no rounding
where both are offered); an int goes to `double` or `float` only in a union with neither `int` nor `long`; a Struct
or dataclass goes to the record of its class's name first.
"""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

from consumer.avro.primitives import Buffer, Refused, Write, shown, write_length
from consumer.avro.records import field_names

__all__ = ["Branch", "union_writer"]

_LOGICAL = (datetime.date, datetime.time, decimal.Decimal, uuid.UUID)


class Branch(NamedTuple):
    """One branch of a union: its Avro type, its full name if it has one, whether it has a logical type."""

    type: str
    name: str | None
    logical: bool
    write: Write


def union_writer(branches: list[Branch]) -> Write:
    """The branches that a type may go to are decided once per type."""
    prefixes = []
    for position in range(len(branches)):
        prefix = Buffer()
        write_length(prefix, position)
        prefixes.append(bytes(prefix))
    chosen: dict[type, list[tuple[bytes, Write]]] = {}

    def write_union(buffer: Buffer, value: Any) -> None:
        candidates = chosen.get(type(value))
        if candidates is None:
            order = _candidates(type(value), branches)
            candidates = chosen[type(value)] = [(prefixes[at], branches[at].write) for at in order]
        if len(candidates) == 1:
            prefix, write = candidates[0]
            buffer += prefix
            write(buffer, value)
        else:
            _write_first(buffer, value, candidates, branches)

    return write_union


def _write_first(
    buffer: Buffer,
    value: Any,
    candidates: list[tuple[bytes, Write]],
    branches: list[Branch],
) -> None:
    start = len(buffer)
    for prefix, write in candidates:
        buffer += prefix
        try:
            write(buffer, value)
        except Refused:
            del buffer[start:]
        else:
            return
    names = ", ".join(branch.name or branch.type for branch in branches)
    raise Refused(f"{shown(value)} fits no branch of the union [{names}]")


def _candidates(value_type: type, branches: list[Branch]) -> list[int]:
    """The positions of the branches that a value of this type may go to, in the order to try."""
    types = _avro_types(value_type, branches)
    positions = [at for at, branch in enumerate(branches) if branch.type in types]
    if issubclass(value_type, _LOGICAL):
        positions = [at for at, branch in enumerate(branches) if branch.logical]
    positions.sort(key=lambda at: branches[at].type == "float")
    if "record" in types:
        positions.sort(key=lambda at: (branches[at].name or "").rpartition(".")[2] != value_type.__name__)
    return positions


def _avro_types(value_type: type, branches: list[Branch]) -> tuple[str, ...]:
    """The Avro types that hold a value of this Python type as it is."""
    if issubclass(value_type, bool):
        return ("boolean",)
    if issubclass(value_type, int):
        whole = any(branch.type in ("int", "long") for branch in branches)
        return ("int", "long") if whole else ("double", "float")
    if issubclass(value_type, Mapping):
        return ("map", "record")
    if field_names(value_type) is not None:
        return ("record",)
    for python_type, types in _KINDS:
        if issubclass(value_type, python_type):
            return types
    return ()


_KINDS: tuple[tuple[type | tuple[type, ...], tuple[str, ...]], ...] = (
    (type(None), ("null",)),
    (float, ("double", "float")),
    (str, ("string", "enum")),
    (Enum, ("enum",)),
    ((bytes, bytearray), ("bytes", "fixed")),
    ((list, tuple), ("array",)),
)
