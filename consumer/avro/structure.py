"""Whether bytes are one well-formed value of a schema, before fastavro reads them.

fastavro's reader accepts varints of any length, takes index -1 as the last branch of a union, allocates whatever an
array of zero-size items asks for, and crashes the process on deep nesting (all measured with 1.13.1). None of that
passes here. Source of the encoding: Avro specification 1.12, "Binary encoding".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from consumer.avro.containers import MAX_DEPTH
from consumer.avro.primitives import Refused

__all__ = ["Malformed", "Skip", "structure_of"]

Skip = Callable[[bytes, int, int], int]
"""From (data, position, depth) to the position after the value."""


class Malformed(Exception):
    """The bytes are no value of the schema; the text says why and where."""


def structure_of(parsed: Any) -> Skip:
    """A function that steps over one value of a schema parsed by fastavro, or raises `Malformed`.

    Raises:
        Refused: the schema has arrays whose items take no bytes: five bytes could ask for millions of them.
    """
    return _Structure().build(parsed)[0]


def _varint(data: bytes, position: int, bits: int = 64) -> tuple[int, int]:
    """A zigzag number of at most `bits` bits and the position after it."""
    raw = 0
    for at, byte in enumerate(data[position : position + 10]):
        raw |= (byte & 127) << 7 * at
        if byte < 128:
            if raw >> bits:
                break
            return raw >> 1 ^ -(raw & 1), position + at + 1
    raise Malformed(f"cut short or a number of more than {bits} bits at byte {position}")


def _advance(data: bytes, position: int, size: int) -> int:
    if not 0 <= size <= len(data) - position:
        raise Malformed(f"a length of {size} at byte {position} of {len(data)}")
    return position + size


def _fixed(size: int) -> Skip:
    return lambda data, position, depth: _advance(data, position, size)


def _number(bits: int) -> Skip:
    return lambda data, position, depth: _varint(data, position, bits)[1]


def _sized(data: bytes, position: int, depth: int) -> int:
    size, position = _varint(data, position)
    return _advance(data, position, size)


def _boolean(data: bytes, position: int, depth: int) -> int:
    end = _advance(data, position, 1)
    if data[position] > 1:
        raise Malformed(f"a boolean of {data[position]} at byte {position}")
    return end


_PRIMITIVES: dict[str, tuple[Skip, int]] = {
    "null": (_fixed(0), 0),
    "boolean": (_boolean, 1),
    "int": (_number(32), 1),
    "long": (_number(64), 1),
    "float": (_fixed(4), 4),
    "double": (_fixed(8), 8),
    "string": (_sized, 1),
    "bytes": (_sized, 1),
}
"""Each with the least number of bytes that a value takes."""


class _Structure:
    def __init__(self) -> None:
        self._named: dict[str, tuple[Skip, int]] = {}

    def build(self, schema: Any) -> tuple[Skip, int]:
        """The step over a value, and the least number of bytes it takes."""
        if isinstance(schema, list):
            return _union([self.build(branch)[0] for branch in schema]), 1
        if isinstance(schema, str):
            return _PRIMITIVES.get(schema) or self._named[schema]
        match schema["type"]:
            case "record" | "error":
                built = self._record(schema)
            case "enum":
                built = _enum(len(schema["symbols"])), 1
            case "fixed":
                built = _fixed(schema["size"]), schema["size"]
            case "array":
                return _blocks(*self.build(schema["items"])), 1
            case "map":
                value, size = self.build(schema["values"])
                return _blocks(_in_turn([_sized, value]), 1 + size), 1
            case primitive:
                return _PRIMITIVES[primitive]
        self._named[schema["name"]] = built
        return built

    def _record(self, schema: dict[str, Any]) -> tuple[Skip, int]:
        tied: list[Skip] = []

        def nested(data: bytes, position: int, depth: int) -> int:
            if depth >= MAX_DEPTH:
                raise Malformed(f"records nested more than {MAX_DEPTH} deep at byte {position}")
            return tied[0](data, position, depth + 1)

        # Least size 1: a record that contains itself does so inside a union, an array or a map, each of a byte.
        self._named[schema["name"]] = nested, 1
        built = [self.build(field["type"]) for field in schema["fields"]]
        tied.append(_in_turn([skip for skip, _ in built]))
        return tied[0], sum(size for _, size in built)


def _in_turn(skips: list[Skip]) -> Skip:
    def skip_all(data: bytes, position: int, depth: int) -> int:
        for skip in skips:
            position = skip(data, position, depth)
        return position

    return skip_all


def _union(branches: list[Skip]) -> Skip:
    def skip_union(data: bytes, position: int, depth: int) -> int:
        branch, end = _varint(data, position)
        if not 0 <= branch < len(branches):
            raise Malformed(f"union branch {branch} of {len(branches)} at byte {position}")
        return branches[branch](data, end, depth)

    return skip_union


def _enum(symbols: int) -> Skip:
    def skip_enum(data: bytes, position: int, depth: int) -> int:
        symbol, end = _varint(data, position)
        if not 0 <= symbol < symbols:
            raise Malformed(f"enum symbol {symbol} of {symbols} at byte {position}")
        return end

    return skip_enum


def _blocks(skip: Skip, least_size: int) -> Skip:
    """Arrays and maps: blocks of a count and so many items, the last one empty; a negative count has a byte size."""
    if least_size == 0:
        raise Refused("an array whose items take no bytes")

    def skip_blocks(data: bytes, position: int, depth: int) -> int:
        while True:
            count, start = _varint(data, position)
            size = None
            if count < 0:
                count, (size, start) = -count, _varint(data, start)
            if count > (len(data) - start) // least_size:
                raise Malformed(f"{count} items at byte {position}, more than there are bytes for")
            position = start
            for _ in range(count):
                position = skip(data, position, depth)
            if size is not None and position != start + size:
                raise Malformed(f"a block of {size} bytes at byte {start} that ends elsewhere")
            if count == 0:
                return position

    return skip_blocks
