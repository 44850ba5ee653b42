"""What `tail` prints for a record, whatever is in it, and what it understands as a place to begin."""

import argparse
import base64
import json
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from consumer.avro import Encoder, compile_schema
from consumer.cli import tail
from consumer.errors import DecodeError
from consumer.kafka.reader import Origin
from consumer.schemas import SchemaStore, search_path
from consumer.settings import Settings
from consumer.worker import Worker

SCHEMA = compile_schema(
    {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": "number", "type": "long"},
            {"name": "raw", "type": "bytes"},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        ],
    }
)
MESSAGE = {"number": 2**62, "raw": b"\xff", "at": datetime(2026, 1, 2, tzinfo=UTC)}


class Fetched:
    """A record as a consumer gives it."""

    def __init__(
        self, value: bytes | None, key: bytes | None = b"7", headers=None, stamp=(1, 1_767_225_600_123)
    ) -> None:
        self._value, self._key, self._headers, self._stamp = value, key, headers, stamp

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return 5

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def headers(self):
        return self._headers

    def timestamp(self):
        return self._stamp


def schemas(schema_id: int):
    if schema_id == 9:
        return SCHEMA
    raise DecodeError(f"schema id {schema_id} is unknown")


def line(record: Fetched, value=None) -> dict[str, Any]:
    text = tail.line_of("out", record, value or tail.as_avro(schemas))
    assert "\n" not in text
    shown: dict[str, Any] = json.loads(text)
    return shown


def test_a_line_has_the_keys_of_the_contract_and_the_decoded_value() -> None:
    shown = line(Fetched(Encoder(SCHEMA, 9).encode(MESSAGE)))
    assert list(shown) == ["topic", "partition", "offset", "timestamp", "key", "headers", "value"]
    assert (shown["topic"], shown["partition"], shown["offset"], shown["key"]) == ("out", 3, 5, "7")
    assert shown["timestamp"] == "2026-01-01T00:00:00.123Z"
    assert shown["value"] == {"number": 2**62, "raw": {"base64": "/w=="}, "at": "2026-01-02T00:00:00+00:00"}


@pytest.mark.parametrize("value", [b"\0\0\0\0\1x", b"{}", b"", Encoder(SCHEMA, 9).encode(MESSAGE) + b"x"])
def test_what_cannot_be_decoded_is_shown_as_it_is_and_says_why(value: bytes) -> None:
    shown = line(Fetched(value))
    assert shown["value"] is None
    assert base64.b64decode(shown["value_base64"]) == value
    assert shown["error"]


def test_a_null_value_and_a_missing_timestamp_are_null() -> None:
    shown = line(Fetched(None, key=None, stamp=(0, -1)))
    assert shown["value"] is shown["key"] is shown["timestamp"] is None
    assert "error" not in shown


def test_headers_are_text_by_name_bytes_where_they_are_none_and_lists_where_names_repeat() -> None:
    headers = [("source", b"in/0/1-1"), ("raw", b"\xff"), ("twice", b"a"), ("twice", None)]
    shown = line(Fetched(None, headers=headers))
    assert shown["headers"] == {"source": "in/0/1-1", "raw": {"base64": "/w=="}, "twice": ["a", None]}


class BrokenHeaders(Fetched):
    def headers(self):
        raise SystemError("returned a result with an exception set")


def test_headers_that_cannot_be_read_say_so() -> None:
    shown = line(BrokenHeaders(None))
    assert shown["headers"] is None
    assert "not valid UTF-8" in shown["headers_error"]


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [(-5, "1969-12-31T23:59:59.995Z"), (2**62, 2**62), (-(2**63), -(2**63)), (10**15, 10**15)],
)
def test_a_timestamp_that_no_calendar_has_is_a_number(milliseconds: int, shown: Any) -> None:
    assert line(Fetched(None, stamp=(1, milliseconds)))["timestamp"] == shown


def test_floats_that_json_does_not_have_are_text() -> None:
    schema = compile_schema({"type": "array", "items": ["double", {"type": "map", "values": "double"}]})
    value = [float("nan"), float("inf"), float("-inf"), 1.5, {"k": float("nan")}]
    shown = line(Fetched(Encoder(schema, 9).encode(value)), tail.as_avro(lambda schema_id: schema))
    assert shown["value"] == ["NaN", "Infinity", "-Infinity", 1.5, {"k": "NaN"}]


def test_nothing_drives_the_terminal() -> None:
    headers = [("\x1b[2J\n", b"\x1b[2J\n")]
    text = tail.line_of("out", Fetched(b"\x1b[2J", key="\x9b2J\u202e".encode(), headers=headers), tail.as_text)
    assert text.isprintable()
    assert text.isascii()


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b'{"a": 18446744073709551616}', {"a": 2**64}),
        (b"not json", "not json"),
        (b"\xff\xfe", {"base64": "//4="}),
        (b"[" * 100_000, "[" * 100_000),
        (b'{"a": NaN}', '{"a": NaN}'),
        (b'{"a": [-Infinity]}', '{"a": [-Infinity]}'),
        (b'{"a": 1e999}', '{"a": 1e999}'),
        (b"1" * 5000, "1" * 5000),
        (b"\xef\xbb\xbf{}", "\ufeff{}"),
        (b'"\\ud800"', "\ud800"),
        (b"", ""),
    ],
)
def test_a_dead_letters_value_is_shown_as_what_it_is(raw: bytes, shown) -> None:
    assert line(Fetched(raw), tail.as_text)["value"] == shown


def test_every_type_that_avro_gives_has_a_json_form() -> None:
    values = [b"x", datetime(2026, 1, 1, tzinfo=UTC).date(), Decimal("1.5"), uuid.UUID(int=1)]
    assert [tail._plain(value) for value in values][1:] == ["2026-01-01", "1.5", str(uuid.UUID(int=1))]


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("earliest", Origin("earliest")),
        ("latest", Origin("latest")),
        ("17", Origin("offset", 17)),
        ("2026-01-01T00:00:00Z", Origin("time", 1_767_225_600_000)),
        ("2026-01-01", Origin("time", 1_767_225_600_000)),
        ("2026-01-01T02:00:00+02:00", Origin("time", 1_767_225_600_000)),
    ],
)
def test_places_to_begin(text: str, origin: Origin) -> None:
    assert tail._origin(text) == origin


@pytest.mark.parametrize("text", ["", "-1", "yesterday", "²"])
def test_other_places_are_refused_and_the_known_ones_named(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="earliest, latest, an offset, or a time"):
        tail._origin(text)


class OwnSchema(Worker[dict[str, Any]]):
    schema = SCHEMA.parsed


def test_a_schema_in_no_version_file_is_found_through_the_worker() -> None:
    settings = Settings(worker=f"{__name__}:OwnSchema", output_topic="out")
    made_id = SchemaStore(search_path(settings.schema.path)).id_of(SCHEMA.parsed).id
    assert tail.schema_source(settings)(made_id).name == "R"
    with pytest.raises(DecodeError):
        tail.schema_source(Settings())(made_id)
    with pytest.raises(DecodeError):
        tail.schema_source(settings)(made_id + 1)


def test_the_shipped_schemas_are_known_without_a_setting() -> None:
    assert tail.schema_source(Settings())(1).name.endswith("CheckpointSummary")
