"""Schemas out of annotations, and the message types that workers and reducers say they have."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from enum import Enum
from typing import Annotated, Any, Generic, Literal, NewType, NotRequired, Optional, TypedDict, TypeVar

import msgspec
import pytest

from consumer.avro import Encoder, compile_schema, decode, derive_schema, message_type_of, result_type_of
from consumer.errors import ConfigError
from consumer.reducer import Reducer
from consumer.worker import Worker

Digest = NewType("Digest", str)


class Status(Enum):
    OK = "ok"
    FAILED = "failed"


class Gas(msgspec.Struct):
    cost: int
    price: float = 1.5


class Everything(msgspec.Struct):
    number: Annotated[int, msgspec.Meta(ge=0)]
    digest: Digest
    raw: bytes
    flag: bool
    gas: Gas
    more_gas: list[Gas]
    labels: dict[str, Gas | None]
    pair: tuple[int, ...]
    status: Status
    kind: Literal["a", "b"]
    at: datetime.datetime
    day: datetime.date
    time: datetime.time
    id: uuid.UUID
    previous: Optional[str] = None  # noqa: UP045
    limit: int | None = 5
    tags: list[str] = msgspec.field(default_factory=list)
    last: Status = Status.OK
    several: int | str | None = "x"


def test_every_kind_of_annotation() -> None:
    gas = {
        "type": "record",
        "name": "Gas",
        "fields": [{"name": "cost", "type": "long"}, {"name": "price", "type": "double", "default": 1.5}],
    }
    expected: dict[str, Any] = {
        "number": "long",
        "digest": "string",
        "raw": "bytes",
        "flag": "boolean",
        "gas": gas,
        "more_gas": {"type": "array", "items": "Gas"},
        "labels": {"type": "map", "values": ["null", "Gas"]},
        "pair": {"type": "array", "items": "long"},
        "status": {"type": "enum", "name": "Status", "symbols": ["ok", "failed"]},
        "kind": {"type": "enum", "name": "Everything_kind", "symbols": ["a", "b"]},
        "at": {"type": "long", "logicalType": "timestamp-micros"},
        "day": {"type": "int", "logicalType": "date"},
        "time": {"type": "long", "logicalType": "time-micros"},
        "id": {"type": "string", "logicalType": "uuid"},
        "previous": ["null", "string"],
        "limit": ["null", "long"],
        "tags": {"type": "array", "items": "string"},
        "last": "Status",
        "several": ["null", "long", "string"],
    }

    schema = derive_schema(Everything)

    assert (schema["type"], schema["name"]) == ("record", "Everything")
    assert {field["name"]: field["type"] for field in schema["fields"]} == expected
    defaults = {field["name"]: field["default"] for field in schema["fields"] if "default" in field}
    assert defaults == {"previous": None, "tags": [], "last": "ok"}


def test_a_message_passes_its_derived_schema() -> None:
    at = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, datetime.UTC)
    message = Everything(
        1, Digest("d"), b"r", True, Gas(2), [Gas(3)], {"l": None}, (4,), Status.OK, "a", at, at.date(), at.time(),
        uuid.UUID(int=7),
    )  # fmt: skip
    compiled = compile_schema(derive_schema(Everything))

    _, value = decode(Encoder(compiled, 1).encode(message), lambda schema_id: compiled)

    assert value == {
        **{name: getattr(message, name) for name in Everything.__struct_fields__},
        "gas": {"cost": 2, "price": 1.5},
        "more_gas": [{"cost": 3, "price": 1.5}],
        "pair": [4],
        "status": "ok",
        "last": "ok",
    }


@dataclasses.dataclass
class Part:
    value: int
    gas: list[Gas] = dataclasses.field(default_factory=list)


class Keys(TypedDict):
    a: int
    b: NotRequired[str | None]


def test_dataclass_and_typed_dict() -> None:
    gas = derive_schema(Gas)
    assert derive_schema(Part)["fields"][1] == {
        "name": "gas",
        "type": {"type": "array", "items": gas},
        "default": [],
    }
    assert derive_schema(Keys)["fields"] == [
        {"name": "a", "type": "long"},
        {"name": "b", "type": ["null", "string"], "default": None},
    ]


@dataclasses.dataclass
class Tree:
    value: int
    children: list[Tree]


def other_gas() -> type:
    class Gas(msgspec.Struct):
        other: int

    return Gas


class BadMap(msgspec.Struct):
    f: dict[int, str]


class BadAny(msgspec.Struct):
    f: Any


class BadSet(msgspec.Struct):
    f: set[int]


class BadUnion(msgspec.Struct):
    f: Gas | Everything


class BadLiteral(msgspec.Struct):
    f: Literal[1, 2]


@dataclasses.dataclass
class BadName:
    f: Missing  # type: ignore[name-defined]  # noqa: F821


class BadKey(TypedDict):
    f: NotRequired[str]


BadTwins = msgspec.defstruct("BadTwins", [("f", Gas), ("g", other_gas())])
BadSymbol = msgspec.defstruct("BadSymbol", [("f", Literal["a-b"])])


@pytest.mark.parametrize(
    ("message_type", "reason"),
    [
        (BadMap, r"BadMap\.f is of DictType, which has no Avro type"),
        (BadAny, r"BadAny\.f is"),
        (BadSet, r"BadSet\.f is"),
        (BadLiteral, r"BadLiteral\.f is of LiteralType"),
        (BadName, r"BadName has an annotation that msgspec does not understand: name 'Missing'"),
        (BadUnion, r"BadUnion .* multiple Struct types"),
        (int, "int is neither a msgspec Struct"),
    ],
)
def test_what_cannot_be_derived_names_the_field_and_the_way_out(message_type: type, reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"^no Avro schema can be derived: {reason}.*; give the class a `schema`"):
        derive_schema(message_type)


@pytest.mark.parametrize("message_type", [BadKey, BadSymbol, BadTwins, Tree])
def test_derived_schema_is_checked(message_type: type) -> None:
    with pytest.raises(ConfigError, match="invalid Avro schema"):
        derive_schema(message_type)


T = TypeVar("T")


class ByArgument(Worker[Gas]):
    pass


class Inherited(ByArgument):
    pass


class GenericBase(Worker[T], Generic[T]):
    pass


class ThroughBase(GenericBase[Gas]):
    pass


class Untold(Worker):  # type: ignore[type-arg]
    pass


class Mapping(Worker[dict[str, int]]):
    pass


class Sums(Reducer[Gas, Part]):
    pass


@pytest.mark.parametrize(
    ("owner", "message_type"),
    [
        (ByArgument, Gas),
        (Inherited, Gas),
        (ThroughBase, Gas),
        (Untold, None),
        (Mapping, None),
        (Sums, Gas),
    ],
)
def test_message_type_of(owner: type, message_type: type | None) -> None:
    assert message_type_of(owner) is message_type


def test_result_type_of() -> None:
    assert result_type_of(Sums) is Part
    assert result_type_of(Reducer) is None
