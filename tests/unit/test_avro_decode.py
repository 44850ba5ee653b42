"""Decoding: only one whole, well-formed value passes; hostile bytes cost nothing."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.avro import Encoder, compile_schema, decode
from consumer.errors import DecodeError
from tests.unit.avro_strategies import schemas_and_values

LONGS = {"type": "array", "items": "long"}


def read(schema: Any, body: bytes) -> Any:
    compiled = compile_schema(schema)
    return decode(b"\0\0\0\0\1" + body, lambda schema_id: compiled)[1]


@pytest.mark.parametrize("framed", [b"", b"\0\0\0\0", b"\1\0\0\0\1\2", b'{"a": 1}'])
def test_wrong_frame_asks_no_registry(framed: bytes) -> None:
    def schema_for_id(schema_id: int) -> Any:
        raise AssertionError("asked")

    with pytest.raises(DecodeError, match="do not begin with byte 0 and a schema id"):
        decode(framed, schema_for_id)


@pytest.mark.parametrize(
    ("schema", "body", "reason"),
    [
        ("long", b"", "EOFError"),
        ("long", b"\x80", "IndexError"),
        ("long", b"\xff" * 20, "IndexError"),
        ("long", b"\x02\x02", "1 bytes left over"),
        ("string", b"\x04a", "Expected 2 bytes, read 1"),
        ("string", b"\x01", "Expected -1 bytes"),
        ("string", b"\x80\x80\x80\x80\x80\x80\x01a", "Expected 2199023255552 bytes"),
        ("string", b"\x02\xff", "utf-8"),
        ("double", b"\0" * 7, "EOFError"),
        (["null", "long"], b"\x04", "IndexError"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, b"\x04", "IndexError"),
        (LONGS, b"\x02\x02", "EOFError"),
        (LONGS, b"\xfe\xff\xff\xff\x0f", "EOFError"),
        ({"type": "long", "logicalType": "timestamp-millis"}, b"\xfe" + b"\xff" * 8 + b"\x01", "too large"),
    ],
)
def test_malformed_value_is_refused(schema: Any, body: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=f"no value of schema .* \\(id 1\\): .*{reason}"):
        read(schema, body)


def test_blocks_with_sizes_as_other_writers_make_them() -> None:
    assert read(LONGS, b"\x01\x02\x02\x02\x04\x00") == [1, 2]


@settings(max_examples=200)
@given(st.data())
def test_damage_is_refused_or_read_as_another_whole_value(data: st.DataObject) -> None:
    """No exception but DecodeError; and fastavro, given what passed, reads the same to the last byte."""
    schema, values = data.draw(schemas_and_values())
    compiled = compile_schema(schema)
    framed = bytearray(Encoder(compiled, 1).encode(data.draw(values)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(5, len(framed)))
        framed[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))

    try:
        decode(bytes(framed), lambda schema_id: compiled)
    except DecodeError:
        return
    stream = io.BytesIO(framed[5:])
    fastavro.schemaless_reader(stream, compiled.parsed, None)
    assert stream.read() == b""
