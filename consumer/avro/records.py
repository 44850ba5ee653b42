"""The writer of Avro records: from a msgspec Struct, a dataclass or a mapping, with no field too many or too few."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from consumer.avro.primitives import Buffer, Refused, Write

__all__ = ["Field", "field_names", "record_writer"]

ABSENT = msgspec.UNSET
"""Stands for a field that a message does not have; a Struct may say so itself."""


class Field(NamedTuple):
    """One field of a record schema; `default`: what to write for an absent one, None: it must be there."""

    name: str
    write: Write
    default: bytes | None


def field_names(message_type: type) -> tuple[str, ...] | None:
    """The attribute names of a Struct or dataclass, None for any other type."""
    if issubclass(message_type, msgspec.Struct):
        return message_type.__struct_fields__
    if dataclasses.is_dataclass(message_type):
        return tuple(field.name for field in dataclasses.fields(message_type))
    return None


def record_writer(name: str, fields: list[Field]) -> Write:
    """How a type's fields are got at, and whether it has any too many, is decided once per type."""
    names = [field.name for field in fields]
    getters: dict[type, Callable[[Any], Iterable[Any]]] = {}

    def write_record(buffer: Buffer, message: Any) -> None:
        get = getters.get(type(message))
        if get is None:
            get = getters[type(message)] = _getter(type(message), names, name)
        field = None
        try:
            for field, value in zip(fields, get(message), strict=True):
                if value is not ABSENT:
                    field[1](buffer, value)
                elif field.default is not None:
                    buffer += field.default
                else:
                    raise Refused("missing, and the schema has no default for it")
        except Refused as refused:
            if field is not None:
                refused.path.append("." + field.name)
            raise

    return write_record


def _getter(message_type: type, names: list[str], record: str) -> Callable[[Any], Iterable[Any]]:
    """A function from a message to the values of `names`, in order, ABSENT where it has none."""
    attributes = field_names(message_type)
    if attributes is None:
        if not issubclass(message_type, Mapping):
            raise Refused(f"{message_type.__name__} where the schema says record {record}")
        return _mapping_getter(names, record)
    _refuse_extra(set(attributes) - set(names), record)
    if len(attributes) == len(names) > 1:
        return attrgetter(*names)
    return lambda message: [getattr(message, name, ABSENT) for name in names]


def _mapping_getter(names: list[str], record: str) -> Callable[[Any], Iterable[Any]]:
    known = frozenset(names)

    def get(message: Mapping[str, Any]) -> list[Any]:
        if not message.keys() <= known:
            _refuse_extra(message.keys() - known, record)
        return [message.get(name, ABSENT) for name in names]

    return get


def _refuse_extra(extra: Iterable[Any], record: str) -> None:
    """Raise where `extra` is not empty: a field that the schema does not have would be dropped silently."""
    unknown = sorted(f"`{name}`" if isinstance(name, str) else f"a key of type {type(name).__name__}" for name in extra)
    if unknown:
        raise Refused(f"{', '.join(unknown[:5])} not in the schema's record {record}")
