"""Writers around other writers: arrays, maps, logical types, and records that contain themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastavro.read import LOGICAL_READERS
from fastavro.write import LOGICAL_WRITERS

from consumer.avro.primitives import (
    Buffer,
    Refused,
    Write,
    shown,
    write_length,
    write_string,
)

__all__ = [
    "MAX_DEPTH",
    "array_writer",
    "logical_writer",
    "map_writer",
    "recursive_writer",
]

MAX_DEPTH = 64
"""How deep a value may nest in a record that contains itself. Readers written in C have no limit and crash."""


def recursive_writer(name: str) -> tuple[Write, Callable[[Write], None]]:
    """A writer for references to record `name` inside itself, and the function that ties it to the record's own."""
    tied: list[Write] = []

    def write_nested(buffer: Buffer, value: Any) -> None:
        if not tied:
            raise Refused(f"the default contains record {name}, which is being defined")
        if buffer.depth >= MAX_DEPTH:
            raise Refused(f"record {name} nested more than {MAX_DEPTH} deep")
        buffer.depth += 1
        try:
            tied[0](buffer, value)
        finally:
            buffer.depth -= 1

    return write_nested, tied.append


def array_writer(write: Write) -> Write:
    """A writer of lists and tuples whose items `write` takes, in one block."""

    def write_array(buffer: Buffer, value: Any) -> None:
        if not isinstance(value, list | tuple):
            raise Refused(f"{shown(value)} where the schema says array")
        if value:
            write_length(buffer, len(value))
            done = 0
            try:
                for item in value:
                    write(buffer, item)
                    done += 1
            except Refused as refused:
                refused.path.append(f"[{done}]")
                raise
        buffer.append(0)

    return write_array


def map_writer(write: Write) -> Write:
    """A writer of mappings from str to what `write` takes, in their own order, in one block."""

    def write_map(buffer: Buffer, value: Any) -> None:
        if not isinstance(value, Mapping):
            raise Refused(f"{shown(value)} where the schema says map")
        if value:
            write_length(buffer, len(value))
            key = None
            try:
                for key, item in value.items():
                    write_string(buffer, key)
                    write(buffer, item)
            except Refused as refused:
                refused.path.append(f"[{ascii(key)[:80]}]")
                raise
        buffer.append(0)

    return write_map


def logical_writer(schema: dict[str, Any], write: Write) -> Write:
    """`write`, taking also the Python type of the schema's logical type as fastavro maps it.

    A value that fastavro would not read back equal is refused: a datetime without a zone, microseconds in
    timestamp-millis, a Decimal of another scale, a str that is no UUID. An unknown logical type is ignored, as the
    specification demands.
    """
    key = f"{schema['type']}-{schema.get('logicalType')}"
    if key not in LOGICAL_WRITERS:
        return write
    if key.endswith("-decimal") and not isinstance(schema.get("precision"), int):
        raise Refused("a decimal without a precision")
    name = schema["logicalType"]
    prepare, read = LOGICAL_WRITERS[key], LOGICAL_READERS[key]

    def write_logical(buffer: Buffer, value: Any) -> None:
        try:
            raw = prepare(value, schema)
            back = read(raw, schema, None)
            kept = prepare(back, schema) == raw and (raw is value or back == value)
        except (ArithmeticError, AttributeError, TypeError, ValueError):
            kept = False
        if not kept:
            raise Refused(f"{shown(value)} would not be read back from {name} as it is")
        write(buffer, raw)

    return write_logical
