"""Writers of Avro's primitive types: each appends one checked value to a buffer.

A writer never changes a value to make it fit: what the type would not give back as it came is `Refused`. The one
rounding allowed is that of a Python float in a 32-bit `float`, which is what that type is for.
Source of the encoding: Avro specification 1.12, "Binary encoding".
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from enum import Enum
from typing import Any

__all__ = [
    "PRIMITIVES",
    "Buffer",
    "Refused",
    "Write",
    "enum_writer",
    "fixed_writer",
    "shown",
    "write_length",
]


class Buffer(bytearray):
    """What a value is written to; `depth`: how deep it nests so far in records that contain themselves."""

    depth = 0


Write = Callable[[Buffer, Any], None]

_INT_MIN, _INT_MAX = -(1 << 31), (1 << 31) - 1
_LONG_MIN, _LONG_MAX = -(1 << 63), (1 << 63) - 1

# Two groups of seven bits at a time, looked up: twice as fast as a loop over single bytes.
_MORE = [bytes((n & 127 | 128, n >> 7 | 128)) for n in range(1 << 14)]
_LAST = [bytes((n,)) if n < 128 else bytes((n & 127 | 128, n >> 7)) for n in range(1 << 14)]
_pack_float = struct.Struct("<f").pack
_unpack_float = struct.Struct("<f").unpack
_pack_double = struct.Struct("<d").pack


class Refused(Exception):
    """A value does not fit its schema; containers add where it stood to `path`, innermost first."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str] = []


def shown(value: Any) -> str:
    """A value for an error message: its type, and the value only where it is a short number (never payload)."""
    name = type(value).__name__
    if isinstance(value, int) and not isinstance(value, Enum):
        return f"{name} {value}" if value.bit_length() <= 128 else f"{name} of {value.bit_length()} bits"
    return f"{name} {value!r}" if isinstance(value, float) else name


def _append_varint(buffer: Buffer, value: int) -> None:
    zigzag = value << 1 if value >= 0 else ~(value << 1)
    while zigzag >= 16384:
        buffer += _MORE[zigzag & 16383]
        zigzag >>= 14
    buffer += _LAST[zigzag]


write_length = _append_varint


def write_long(buffer: Buffer, value: Any) -> None:
    """64 bits; the body of `_append_varint` is repeated here because the call costs a third of the field."""
    if type(value) is not int and (not isinstance(value, int) or isinstance(value, bool)):
        raise Refused(f"{shown(value)} where the schema says long")
    if not _LONG_MIN <= value <= _LONG_MAX:
        raise Refused(f"{shown(value)} does not fit long")
    zigzag = value << 1 if value >= 0 else ~(value << 1)
    while zigzag >= 16384:
        buffer += _MORE[zigzag & 16383]
        zigzag >>= 14
    buffer += _LAST[zigzag]


def write_int(buffer: Buffer, value: Any) -> None:
    if type(value) is not int and (not isinstance(value, int) or isinstance(value, bool)):
        raise Refused(f"{shown(value)} where the schema says int")
    if not _INT_MIN <= value <= _INT_MAX:
        raise Refused(f"{shown(value)} does not fit int")
    _append_varint(buffer, value)


def write_null(buffer: Buffer, value: Any) -> None:
    if value is not None:
        raise Refused(f"{shown(value)} where the schema says null")


def write_boolean(buffer: Buffer, value: Any) -> None:
    if value is not True and value is not False:
        raise Refused(f"{shown(value)} where the schema says boolean")
    buffer.append(value)


def _number(value: Any, name: str) -> float:
    """A float as it is; an int where the conversion keeps its value."""
    if isinstance(value, float):
        return value
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refused(f"{shown(value)} where the schema says {name}")
    if value.bit_length() > 1023 or int(float(value)) != value:
        raise Refused(f"{shown(value)} would be rounded as {name}")
    return float(value)


def write_double(buffer: Buffer, value: Any) -> None:
    buffer += _pack_double(_number(value, "double"))


def write_float(buffer: Buffer, value: Any) -> None:
    """32 bits: floats are rounded to the nearest, ints must be exact, a finite value never becomes infinite."""
    number = _number(value, "float")
    try:
        packed = _pack_float(number)
    except OverflowError:
        raise Refused(f"{shown(value)} does not fit float") from None
    if isinstance(value, int) and _unpack_float(packed)[0] != value:
        raise Refused(f"{shown(value)} would be rounded as float")
    if math.isfinite(number) and not math.isfinite(_unpack_float(packed)[0]):
        raise Refused(f"{shown(value)} does not fit float")
    buffer += packed


def write_string(buffer: Buffer, value: Any) -> None:
    if not isinstance(value, str):
        raise Refused(f"{shown(value)} where the schema says string")
    try:
        encoded = value.encode()
    except UnicodeEncodeError:
        raise Refused("str with a lone surrogate, which UTF-8 has no bytes for") from None
    _append_varint(buffer, len(encoded))
    buffer += encoded


def write_bytes(buffer: Buffer, value: Any) -> None:
    if not isinstance(value, bytes | bytearray):
        raise Refused(f"{shown(value)} where the schema says bytes")
    _append_varint(buffer, len(value))
    buffer += value


def fixed_writer(name: str, size: int) -> Write:
    """A writer of bytes of exactly `size`."""

    def write_fixed(buffer: Buffer, value: Any) -> None:
        if not isinstance(value, bytes | bytearray):
            raise Refused(f"{shown(value)} where the schema says fixed {name}")
        if len(value) != size:
            raise Refused(f"{len(value)} bytes where the schema says fixed {name} of {size}")
        buffer += value

    return write_fixed


def enum_writer(name: str, symbols: list[str]) -> Write:
    """Takes a symbol, or an `Enum` member whose value is one."""
    positions = {symbol: position for position, symbol in enumerate(symbols)}

    def write_enum(buffer: Buffer, value: Any) -> None:
        symbol = value.value if isinstance(value, Enum) else value
        if not isinstance(symbol, str):
            raise Refused(f"{shown(value)} where the schema says enum {name}")
        position = positions.get(symbol)
        if position is None:
            raise Refused(f"a str that is no symbol of enum {name}")
        _append_varint(buffer, position)

    return write_enum


PRIMITIVES: dict[str, Write] = {
    "null": write_null,
    "boolean": write_boolean,
    "int": write_int,
    "long": write_long,
    "float": write_float,
    "double": write_double,
    "string": write_string,
    "bytes": write_bytes,
}
