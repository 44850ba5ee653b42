"""Avro schemas out of Python annotations, and which type a worker's or reducer's messages have.

    int → long · float → double · str → string · bytes → bytes · bool → boolean · None → null
    X | None → union · list[X], tuple[X, ...] → array · dict[str, X] → map · Enum of texts, Literal of texts → enum
    Struct, dataclass, TypedDict → record · datetime → timestamp-micros · date → date · time → time-micros · UUID → uuid

A record has its class's name and no namespace, so that a class may move between modules; a datetime keeps its
microseconds. A default that is None, a bool, a number, a text or an empty list or dict becomes the field's default.
"""

from __future__ import annotations

import dataclasses
import datetime
import types
import typing
import uuid
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, get_args, get_origin

import msgspec

from consumer.avro.compile import compile_schema
from consumer.errors import ConfigError

__all__ = ["derive_schema"]

_SCALARS: dict[Any, Any] = {
    bool: "boolean",
    int: "long",
    float: "double",
    str: "string",
    bytes: "bytes",
    type(None): "null",
    datetime.datetime: {"type": "long", "logicalType": "timestamp-micros"},
    datetime.date: {"type": "int", "logicalType": "date"},
    datetime.time: {"type": "long", "logicalType": "time-micros"},
    uuid.UUID: {"type": "string", "logicalType": "uuid"},
}
_NO_DEFAULT = object()


def derive_schema(message_type: type) -> dict[str, Any]:
    """The Avro schema of a msgspec Struct, a dataclass or a TypedDict, the same in every process.

    Raises:
        ConfigError: an annotation has no Avro type; the text names the field and says to give `schema`.
    """
    if not _is_record(message_type):
        raise _underivable(f"{_name(message_type)} is neither a msgspec Struct, nor a dataclass, nor a TypedDict")
    schema = typing.cast(dict[str, Any], _Deriver().schema(message_type, message_type.__name__))
    compile_schema(schema)
    return schema


def _underivable(reason: str) -> ConfigError:
    return ConfigError(f"no Avro schema can be derived: {reason}; give the class a `schema` (a path or a dict)")


def _name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _is_record(annotation: Any) -> bool:
    return isinstance(annotation, type) and (
        issubclass(annotation, msgspec.Struct)
        or dataclasses.is_dataclass(annotation)
        or typing.is_typeddict(annotation)
    )


class _Deriver:
    """Walks one message type; a named type is written out where it is first met, and by name after that."""

    def __init__(self) -> None:
        self._met: dict[str, Any] = {}

    def schema(self, annotation: Any, where: str) -> Any:
        """The schema of one annotation found at `where` (`Class.field`)."""
        if get_origin(annotation) in (
            typing.Annotated,
            typing.Required,
            typing.NotRequired,
        ):
            return self.schema(get_args(annotation)[0], where)
        if isinstance(annotation, typing.NewType):
            return self.schema(annotation.__supertype__, where)
        if annotation in _SCALARS:
            scalar = _SCALARS[annotation]
            return dict(scalar) if isinstance(scalar, dict) else scalar
        if get_origin(annotation) in (typing.Union, types.UnionType):
            return [self.schema(arm, where) for arm in _null_first(get_args(annotation))]
        if get_origin(annotation) is typing.Literal:
            return self._enum(where.replace(".", "_"), list(get_args(annotation)), annotation, where)
        if isinstance(annotation, type) and issubclass(annotation, Enum):
            return self._enum(
                annotation.__name__,
                [member.value for member in annotation],
                annotation,
                where,
            )
        if _is_record(annotation):
            return self._record(annotation, where)
        return self._container(annotation, where)

    def _container(self, annotation: Any, where: str) -> Any:
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin in (list, Sequence) or (origin is tuple and arguments[1:] == (...,)):
            return {"type": "array", "items": self.schema(arguments[0], where)}
        if origin in (dict, Mapping) and arguments[0] is str:
            return {"type": "map", "values": self.schema(arguments[1], where)}
        raise _underivable(f"{where} is {_name(annotation)}, which has no Avro type")

    def _is_reference(self, name: str, annotation: Any, where: str) -> bool:
        """Whether the named type is written out already; one name for two types is an error."""
        known = name in self._met
        if self._met.setdefault(name, annotation) != annotation:
            raise _underivable(f"{where}: two different types are called {name}")
        return known

    def _enum(self, name: str, symbols: list[Any], annotation: Any, where: str) -> Any:
        if not all(isinstance(symbol, str) for symbol in symbols):
            raise _underivable(f"{where} has values that are not texts, which an Avro enum cannot hold")
        if self._is_reference(name, annotation, where):
            return name
        return {"type": "enum", "name": name, "symbols": symbols}

    def _record(self, record: type, where: str) -> Any:
        if self._is_reference(record.__name__, record, where):
            return record.__name__
        try:
            fields = [self._field(record, *field) for field in _fields(record)]
        except NameError as error:
            raise _underivable(f"{record.__name__} has an annotation that does not resolve: {error}") from None
        return {"type": "record", "name": record.__name__, "fields": fields}

    def _field(self, record: type, name: str, annotation: Any, default: Any) -> dict[str, Any]:
        schema = self.schema(annotation, f"{record.__name__}.{name}")
        value = default.value if isinstance(default, Enum) else default
        value = value.decode("latin-1") if isinstance(value, bytes) else value
        if value is not None and isinstance(schema, list):
            # The default of a union belongs to its first branch; which one that is among several is not ours to guess.
            if len(schema) != 2 or schema[0] != "null" or value is _NO_DEFAULT:
                return {"name": name, "type": schema}
            schema = [schema[1], "null"]
        if value is None or isinstance(value, bool | int | float | str) or value in ([], {}):
            return {"name": name, "type": schema, "default": value}
        return {"name": name, "type": schema}


def _null_first(arms: tuple[Any, ...]) -> list[Any]:
    return sorted(arms, key=lambda arm: arm is not type(None))


def _fields(record: Any) -> list[tuple[str, Any, Any]]:
    """Name, annotation and default (or `_NO_DEFAULT`) of every field, in order."""
    if issubclass(record, msgspec.Struct):
        missing = msgspec.NODEFAULT
        return [
            (
                field.name,
                field.type,
                _default(field.default, field.default_factory, missing),
            )
            for field in msgspec.structs.fields(record)
        ]
    hints = typing.get_type_hints(record, include_extras=True)
    if dataclasses.is_dataclass(record):
        return [
            (
                field.name,
                hints[field.name],
                _default(field.default, field.default_factory, dataclasses.MISSING),
            )
            for field in dataclasses.fields(record)
        ]
    return [(key, hint, None if _may_be_left_out(record, key, hint) else _NO_DEFAULT) for key, hint in hints.items()]


def _may_be_left_out(record: Any, key: str, hint: Any) -> bool:
    """Whether a TypedDict's key needs a default, which is null; `__required_keys__` misses quoted annotations."""
    if get_origin(hint) in (typing.Required, typing.NotRequired):
        return get_origin(hint) is typing.NotRequired
    return key not in record.__required_keys__


def _default(value: Any, factory: Any, missing: Any) -> Any:
    if value is not missing:
        return value
    return factory() if factory in (list, dict) else _NO_DEFAULT
