"""Encoding: fastavro's bytes for every value that fits, a SchemaViolation that names the field for every other."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import io
import math
from pprint import pformat
from typing import Any

import fastavro
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.avro import Encoder, compile_schema, decode
from consumer.errors import ConfigError, SchemaViolation
from tests.unit.avro_strategies import schemas_and_values


def record(field: Any, **more: Any) -> dict[str, Any]:
    """A schema of one field `f`."""
    return {"type": "record", "name": "R", "fields": [{"name": "f", "type": field, **more}]}


def encode(schema: Any, value: Any, schema_id: int = 7) -> bytes:
    return Encoder(compile_schema(schema), schema_id).encode(value)


def body(schema: Any, value: Any) -> bytes:
    """The value's bytes, checked against fastavro's reader and framing."""
    framed = encode(schema, value)
    assert framed[:5] == b"\x00\x00\x00\x00\x07"
    return framed[5:]


@settings(max_examples=300)
@given(st.data())
def test_bytes_are_fastavros_own(data: st.DataObject) -> None:
    schema, values = data.draw(schemas_and_values())
    value = data.draw(values)
    expected = io.BytesIO()

    fastavro.schemaless_writer(expected, fastavro.parse_schema(schema), value)

    assert body(schema, value) == expected.getvalue()


@settings(max_examples=300)
@given(st.data())
def test_every_value_comes_back_as_it_was(data: st.DataObject) -> None:
    schema, values = data.draw(schemas_and_values())
    value = data.draw(values)
    compiled = compile_schema(schema)

    read = decode(Encoder(compiled, 9).encode(value), lambda schema_id: compiled)

    assert pformat(read) == pformat((9, value))  # as text: a NaN equals no NaN


EDGES = [
    sign * (1 << bits) + more for bits in (6, 13, 20, 27, 30, 34, 41, 55, 62) for sign in (1, -1) for more in (-1, 0, 1)
]
LENGTHS = [0, 63, 64, 8191, 8192]


@pytest.mark.parametrize("schema", ["long", ["null", "long"], ["long", "null"], "int", ["null", "int"]])
def test_ints_around_the_bounds_of_each_group_of_bits(schema: Any) -> None:
    """The writer that is compiled has a case of its own for every two groups of seven."""
    parsed = fastavro.parse_schema(record(schema))
    for value in EDGES:
        if "int" not in schema or abs(value) < 1 << 31:
            expected = io.BytesIO()
            fastavro.schemaless_writer(expected, parsed, {"f": value})
            assert body(record(schema), {"f": value}) == expected.getvalue(), value


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize("schema", ["string", ["null", "string"], ["string", "null"]])
def test_texts_around_the_bounds_of_each_length(schema: Any) -> None:
    parsed = fastavro.parse_schema(record(schema))
    for letter in ("a", "\x00", "\x7f", "\x80", "ä", "\U0001f600"):
        for value in [kind(letter * length) for length in LENGTHS for kind in (str, Text)]:
            expected = io.BytesIO()
            fastavro.schemaless_writer(expected, parsed, {"f": value})
            assert body(record(schema), {"f": value}) == expected.getvalue(), (letter, len(value))


INT_MAX, LONG_MAX = (1 << 31) - 1, (1 << 63) - 1
LONE = "a\ud800"
ENUM = {"type": "enum", "name": "E", "symbols": ["A", "B"]}
FIXED = {"type": "fixed", "name": "F", "size": 2}
INNER = {"type": "record", "name": "I", "fields": [{"name": "n", "type": "long"}]}
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
DATE = {"type": "int", "logicalType": "date"}
UUID = {"type": "string", "logicalType": "uuid"}
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}
NAIVE = datetime.datetime(2026, 1, 2, 3, 4, 5)
AWARE = NAIVE.replace(tzinfo=datetime.UTC)


class Colour(enum.Enum):
    RED = "A"
    MIXED = ["A"]  # noqa: RUF012 - has no hash


class Number(enum.IntEnum):
    ONE = 1


@dataclasses.dataclass
class WithDefaults:
    n: int = 1


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ("long", 1.5),
        ("long", 1.0),
        ("long", True),
        ("long", "1"),
        ("long", None),
        ("long", LONG_MAX + 1),
        ("long", -LONG_MAX - 2),
        ("int", INT_MAX + 1),
        ("int", -INT_MAX - 2),
        ("int", True),
        ("int", 2.0),
        ("float", 1e300),
        ("float", 3.4028236e38),
        ("float", (1 << 24) + 1),
        ("float", True),
        ("double", 1 << 70),
        ("double", (1 << 53) + 1),
        ("double", 10**400),
        pytest.param("long", 10**5000, id="more digits than Python prints"),
        ("double", False),
        ("double", "1.0"),
        ("boolean", 1),
        ("null", 0),
        ("string", b"a"),
        ("string", 1),
        ("string", LONE),
        ("bytes", "a"),
        ("bytes", [97]),
        (ENUM, "C"),
        (ENUM, 0),
        (ENUM, Colour.MIXED),
        (FIXED, b"abc"),
        (FIXED, "ab"),
        ({"type": "array", "items": "long"}, "12"),
        ({"type": "array", "items": "long"}, {1: 1}),
        ({"type": "map", "values": "long"}, [1]),
        (["null", "long"], 1.5),
        (["null", "long"], True),
        (["long", "double"], 1 << 70),
        (["null", "string"], b"a"),
        ([ENUM, FIXED], "C"),
        (["null", INNER], {"n": 1, "m": 2}),
        (INNER, None),
        (INNER, [("n", 1)]),
        (INNER, WithDefaults),
        (MILLIS, NAIVE),
        (MILLIS, AWARE.replace(microsecond=1)),
        (MILLIS, LONG_MAX),
        (MILLIS, 1.0),
        (DATE, AWARE),
        (DATE, "2026-01-02"),
        (UUID, "no uuid"),
        (DECIMAL, decimal.Decimal("1.005")),
        (DECIMAL, decimal.Decimal("100.00")),
        (DECIMAL, decimal.Decimal("NaN")),
        (DECIMAL, 1.5),
    ],
)
def test_what_the_schema_would_change_is_refused(schema: Any, value: Any) -> None:
    with pytest.raises(SchemaViolation, match=r"^field `f`: .* \(schema R, id 7\); make the worker return"):
        encode(record(schema), {"f": value})


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        ("long", LONG_MAX, b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        ("long", -LONG_MAX - 1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        ("int", INT_MAX, b"\xfe\xff\xff\xff\x0f"),
        ("int", Number.ONE, b"\x02"),
        (ENUM, Colour.RED, b"\x00"),
        (["null", ENUM], Colour.RED, b"\x02\x00"),
        ("double", 1 << 52, b"\x00\x00\x00\x00\x00\x00\x30\x43"),
        ("float", 0.1, b"\xcd\xcc\xcc\x3d"),
        ("float", math.inf, b"\x00\x00\x80\x7f"),
        (["float", "double"], 0.1, b"\x02\x9a\x99\x99\x99\x99\x99\xb9\x3f"),
        (["double", "long"], 1, b"\x02\x02"),
        (["null", "double"], 1, b"\x02\x00\x00\x00\x00\x00\x00\xf0\x3f"),
        (["int", "long"], 1 << 31, b"\x02\x80\x80\x80\x80\x10"),
        ([ENUM, "string"], "C", b"\x02\x02C"),
        (["null", MILLIS], datetime.datetime(1970, 1, 1, 0, 0, 1, tzinfo=datetime.UTC), b"\x02\xd0\x0f"),
        (MILLIS, 1, b"\x02"),
        ("bytes", bytearray(b"a"), b"\x02a"),
        ({"type": "array", "items": "long"}, (1, 2), b"\x04\x02\x04\x00"),
        ({"type": "long", "logicalType": "unheard-of"}, 1, b"\x02"),
    ],
)
def test_edge_values_that_fit(schema: Any, value: Any, expected: bytes) -> None:
    assert body(record(schema), {"f": value}) == expected


def test_path_leads_through_records_arrays_and_maps() -> None:
    schema = record({"type": "array", "items": {"type": "map", "values": ["null", INNER]}})

    with pytest.raises(SchemaViolation, match=r"^field `f\[1\]\['k'\]\.n`: float 1.5 where the schema says long"):
        encode(schema, {"f": [{}, {"j": None, "k": {"n": 1.5}}]})


def test_text_and_bytes_stay_out_of_the_message() -> None:
    for value in ("secret", b"secret", ["secret"], {"secret": 1}):
        with pytest.raises(SchemaViolation) as caught:
            encode(record("long"), {"f": value})
        assert "secret" not in str(caught.value)


class Struct(msgspec.Struct):
    f: int
    g: str


@dataclasses.dataclass(slots=True)
class Data:
    f: int
    g: str


class Smaller(msgspec.Struct):
    f: int


class Larger(msgspec.Struct):
    f: int
    g: str
    h: int


TWO = record("long")
TWO["fields"].append({"name": "g", "type": "string"})


def test_struct_dataclass_and_mapping_give_the_same_bytes() -> None:
    assert body(TWO, Struct(1, "x")) == body(TWO, Data(1, "x")) == body(TWO, {"g": "x", "f": 1}) == b"\x02\x02x"


@pytest.mark.parametrize("message", [Smaller(1), {"f": 1}])
def test_missing_field_is_refused_unless_it_has_a_default(message: Any) -> None:
    with pytest.raises(SchemaViolation, match=r"^field `g`: missing, and the schema has no default"):
        encode(TWO, message)

    with_default = {**TWO, "fields": [TWO["fields"][0], {"name": "g", "type": "string", "default": "d"}]}
    assert body(with_default, message) == b"\x02\x02d"


@pytest.mark.parametrize("message", [Larger(1, "x", 2), {"f": 1, "g": "x", "h": 2}])
def test_extra_field_is_refused_by_name(message: Any) -> None:
    encoder = Encoder(compile_schema(TWO), 7)
    for _ in range(2):  # also once the type is known
        with pytest.raises(SchemaViolation, match=r"^`h` not in the schema's record R"):
            encoder.encode(message)


def test_default_of_nested_values() -> None:
    inner = {**INNER, "fields": [{"name": "n", "type": ["string", "null"]}]}
    schema = record({"type": "array", "items": inner}, default=[{"n": "a"}])

    assert body(schema, {}) == b"\x02\x00\x02a\x00"


class A(msgspec.Struct):
    n: int


class B(msgspec.Struct):
    n: int


def test_union_of_records_goes_by_the_class_name() -> None:
    named = [{**INNER, "name": "x.A"}, {**INNER, "name": "x.B"}]

    assert body(record(named), {"f": A(1)}) == b"\x00\x02"
    assert body(record(named), {"f": B(1)}) == b"\x02\x02"


NODE = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
EMPTY = {"type": "record", "name": "Empty", "fields": [{"name": "n", "type": "null"}]}


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "record"}, "name"),
        ({"type": "nonsense"}, "unknown type"),
        (record("Unknown"), "unknown type Unknown"),
        (record("long", default="x"), "efault"),
        (NODE, "record Node contains itself"),
        ({"type": "array", "items": "null"}, "items take no bytes"),
        ({"type": "array", "items": EMPTY}, "items take no bytes"),
        (17, "17"),
        (record(["bytes", DECIMAL]), "two branches of one type"),
        (record(["null", "string", UUID]), "two branches of one type"),
    ],
)
def test_invalid_schema_is_a_configuration_error(schema: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"invalid Avro schema .*{reason}.*; correct the schema"):
        compile_schema(schema)
