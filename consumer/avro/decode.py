"""Framed Avro values read back, for `tail` and for tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from typing import Any

from fastavro import schemaless_reader

from consumer.avro.compile import CompiledSchema
from consumer.avro.primitives import Refused
from consumer.avro.structure import Malformed, Skip, structure_of
from consumer.errors import DecodeError

__all__ = ["decode"]


@lru_cache(maxsize=256)
def _structure(schema: CompiledSchema) -> Skip:
    return structure_of(schema.parsed)


def decode(framed: bytes, schema_for_id: Callable[[int], CompiledSchema]) -> tuple[int, Any]:
    """The schema id and the value of a framed record: one whole value, nothing before or after it.

    Safe on hostile bytes: lengths, counts, indexes and nesting are checked before anything is made of them.
    Whatever `schema_for_id` raises for an id it does not know goes through.

    Raises:
        DecodeError: the bytes are no such value; the text says why.
    """
    if len(framed) < 5 or framed[0] != 0:
        raise DecodeError(f"{len(framed)} bytes that do not begin with byte 0 and a schema id: not written by us")
    schema_id = int.from_bytes(framed[1:5], "big")
    schema = schema_for_id(schema_id)
    body = bytes(framed[5:])
    try:
        end = _structure(schema)(body, 0, 0)
        if end != len(body):
            raise Malformed(f"{len(body) - end} bytes left over after the value")
        return schema_id, schemaless_reader(BytesIO(body), schema.parsed, None)
    except (Malformed, Refused, ValueError, ArithmeticError) as error:
        raise DecodeError(
            f"no value of schema {schema.name} (id {schema_id}): {error}; written with another schema, or damaged"
        ) from None
