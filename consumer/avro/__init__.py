"""Avro out: schemas compiled once, strict encoding with Confluent framing, careful decoding, derived schemas."""

from consumer.avro.compile import CompiledSchema, compile_schema
from consumer.avro.derive import derive_schema
from consumer.avro.framing import Encoder, decode
from consumer.avro.message_types import message_type_of, result_type_of

__all__ = [
    "CompiledSchema",
    "Encoder",
    "compile_schema",
    "decode",
    "derive_schema",
    "message_type_of",
    "result_type_of",
]
