"""Avro values in Kafka records: byte 0, the schema id in 4 bytes (big endian), the value in Avro binary.

Source of the framing: Confluent Platform, "Schema Registry: wire format".
"""

from __future__ import annotations

import struct
from typing import Any

from consumer.avro.compile import CompiledSchema
from consumer.avro.primitives import Buffer, Refused
from consumer.errors import SchemaViolation

__all__ = ["Encoder"]

_HEADER = struct.Struct(">bI")


class Encoder:
    """Turns messages into framed Avro values of one schema. Holds no state of a message: any thread may use it."""

    def __init__(self, schema: CompiledSchema, schema_id: int) -> None:
        self.schema = schema
        self.schema_id = schema_id
        self._header = _HEADER.pack(0, schema_id)
        self._write = schema.write

    def encode(self, message: Any) -> bytes:
        """The value of an output record for `message`, a msgspec Struct, a dataclass or a mapping.

        Raises:
            SchemaViolation: the schema would change the message; the text names the field, never its text or bytes.
        """
        buffer = Buffer(self._header)
        try:
            self._write(buffer, message)
        except Refused as refused:
            path = "".join(reversed(refused.path)).lstrip(".")
            field = f"field `{path}`: " if path else ""
            raise SchemaViolation(
                f"{field}{refused.reason} (schema {self.schema.name}, id {self.schema_id}); "
                "make the worker return what the schema says, or change the schema"
            ) from None
        return bytes(buffer)
