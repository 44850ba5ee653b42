"""Avro schemas out of Python annotations, as msgspec understands them.

    int → long · float → double · str → string · bytes → bytes · bool → boolean · None → null
    X | None → union · list[X], tuple[X, ...] → array · dict[str, X] → map · Enum of texts, Literal of texts → enum
    Struct, dataclass, TypedDict → record · datetime → timestamp-micros · date → date · time → time-micros · UUID → uuid

A record has its class's name and no namespace, so that a class may move between modules. A default that is None, a
bool, a number, a text or an empty list or dict becomes the field's default.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from msgspec import NODEFAULT, inspect

from consumer.avro.compile import compile_schema
from consumer.errors import ConfigError

__all__ = ["derive_schema"]

_SCALARS: dict[type[inspect.Type], Any] = {
    inspect.BoolType: "boolean",
    inspect.IntType: "long",
    inspect.FloatType: "double",
    inspect.StrType: "string",
    inspect.BytesType: "bytes",
    inspect.NoneType: "null",
    inspect.DateTimeType: {"type": "long", "logicalType": "timestamp-micros"},
    inspect.DateType: {"type": "int", "logicalType": "date"},
    inspect.TimeType: {"type": "long", "logicalType": "time-micros"},
    inspect.UUIDType: {"type": "string", "logicalType": "uuid"},
}


def derive_schema(message_type: type) -> dict[str, Any]:
    """The Avro schema of a msgspec Struct, a dataclass or a TypedDict, the same in every process.

    Raises:
        ConfigError: an annotation has no Avro type; the text names the field and says to give `schema`.
    """
    name = message_type.__name__
    try:
        told = inspect.type_info(message_type)
    except (TypeError, NameError) as error:
        raise _underivable(f"{name} has an annotation that msgspec does not understand: {error}") from None
    if not isinstance(told, inspect.StructType | inspect.DataclassType | inspect.TypedDictType):
        raise _underivable(f"{name} is neither a msgspec Struct, nor a dataclass, nor a TypedDict")
    schema: dict[str, Any] = _Deriver().schema(told, name)
    compile_schema(schema)
    return schema


def _underivable(reason: str) -> ConfigError:
    return ConfigError(f"no Avro schema can be derived: {reason}; give the class a `schema` (a path or a dict)")


class _Deriver:
    """Walks one message type; a named type is written out where it is first met, and by name after that."""

    def __init__(self) -> None:
        self._met: set[type] = set()

    def schema(self, told: inspect.Type, where: str) -> Any:
        """The schema of one type found at `where` (`Class.field`)."""
        match told:
            case inspect.Metadata(type=inner):
                return self.schema(inner, where)
            case inspect.UnionType(types=arms):
                null_first = sorted(arms, key=lambda arm: not isinstance(arm, inspect.NoneType))
                return [self.schema(arm, where) for arm in null_first]
            case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
                return {"type": "array", "items": self.schema(item, where)}
            case inspect.DictType(key_type=inspect.StrType(), value_type=value):
                return {"type": "map", "values": self.schema(value, where)}
            case inspect.LiteralType(values=values) if all(isinstance(value, str) for value in values):
                return {"type": "enum", "name": where.replace(".", "_"), "symbols": list(values)}
            case inspect.EnumType() | inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType():
                return self._named(told)
        if type(told) not in _SCALARS:
            raise _underivable(f"{where} is of {type(told).__name__}, which has no Avro type")
        return _SCALARS[type(told)]

    def _named(self, told: Any) -> Any:
        name = told.cls.__name__
        if told.cls in self._met:
            return name
        self._met.add(told.cls)
        if isinstance(told, inspect.EnumType):
            return {"type": "enum", "name": name, "symbols": [member.value for member in told.cls]}
        return {"type": "record", "name": name, "fields": [self._field(name, field) for field in told.fields]}

    def _field(self, record: str, field: inspect.Field) -> dict[str, Any]:
        derived = {"name": field.name, "type": self.schema(field.type, f"{record}.{field.name}")}
        default = field.default.value if isinstance(field.default, Enum) else field.default
        if field.default_factory in (list, dict):
            default = field.default_factory()
        elif default is NODEFAULT and not field.required:
            default = None  # a key that a TypedDict may leave out
        is_union = isinstance(derived["type"], list)
        if default is None or (not is_union and isinstance(default, bool | int | float | str | list | dict)):
            derived["default"] = default
        return derived
