"""Avro values in Kafka records: byte 0, the schema id in 4 bytes (big endian), the value in Avro binary.

Source of the framing: Confluent Platform, "Schema Registry: wire format".
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any

from fastavro import schemaless_reader

from consumer.avro.compile import CompiledSchema
from consumer.avro.values import Refused
from consumer.errors import DecodeError, SchemaViolation

__all__ = ["Encoder", "decode"]

_HEADER = struct.Struct(">bI")


class Encoder:
    """Turns messages into framed Avro values of one schema. Holds no state of a message: any thread may use it."""

    def __init__(self, schema: CompiledSchema, schema_id: int) -> None:
        self.schema = schema
        self.schema_id = schema_id
        self._header = _HEADER.pack(0, schema_id)

    def encode(self, message: Any) -> bytes:
        """The value of an output record for `message`, a msgspec Struct, a dataclass or a mapping.

        Raises:
            SchemaViolation: the schema would change the message; the text names the field, never its text or bytes.
        """
        try:
            return self._header + self.schema.encode(message)
        except Refused as refused:
            path = "".join(reversed(refused.path)).lstrip(".")
            field = f"field `{path}`: " if path else ""
            raise SchemaViolation(
                f"{field}{refused} (schema {self.schema.name}, id {self.schema_id}); "
                "make the worker return what the schema says, or change the schema"
            ) from None


def decode(framed: bytes, schema_for_id: Callable[[int], CompiledSchema]) -> tuple[int, Any]:
    """The schema id and the value of a framed record: one whole value, nothing before or after it.

    Whatever `schema_for_id` raises for an id it does not know goes through.

    Raises:
        DecodeError: the bytes are no such value; the text says why.
    """
    if len(framed) < _HEADER.size or framed[0] != 0:
        raise DecodeError(f"{len(framed)} bytes that do not begin with byte 0 and a schema id: not written by us")
    schema_id = _HEADER.unpack_from(framed)[1]
    schema = schema_for_id(schema_id)
    body = BytesIO(framed[_HEADER.size :])
    try:
        value = schemaless_reader(body, schema.parsed, None)
    except (EOFError, LookupError, TypeError, ValueError, ArithmeticError) as error:
        reason = f"{type(error).__name__}: {error}"
    else:
        left = len(body.read())
        if not left:
            return schema_id, value
        reason = f"{left} bytes left over after it"
    raise DecodeError(
        f"no value of schema {schema.name} (id {schema_id}): {reason}; written with another schema, or damaged"
    )
