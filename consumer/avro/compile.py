"""`compile_schema`: an Avro schema parsed once, and with it one function that checks and encodes its values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastavro.schema import SchemaParseException, UnknownType, parse_schema, to_parsing_canonical_form

from consumer.avro.records import record, union
from consumer.avro.values import SCALARS, Encode, Node, array, enum, fixed, logical, mapping
from consumer.errors import ConfigError

__all__ = ["CompiledSchema", "compile_schema"]


@dataclass(frozen=True, slots=True, eq=False)
class CompiledSchema:
    """A schema ready for use: `parsed` for fastavro, its parsing canonical form, and the encoder of its values."""

    name: str
    parsed: Any
    canonical: str
    encode: Encode


def compile_schema(schema: Any) -> CompiledSchema:
    """Parse `schema`, as it stands in an .avsc file.

    Raises:
        ConfigError: it is not a valid Avro schema, or its values could harm whoever reads them: a record that
            contains itself can nest until a reader crashes, an array of nothing grow until its memory is spent.
    """
    try:
        parsed = parse_schema(schema)
        node = _Compiler().node(parsed)
        return CompiledSchema(node.name, parsed, to_parsing_canonical_form(parsed), node.encode)
    except UnknownType as error:
        reason = f"unknown type {error}"
    except (SchemaParseException, LookupError, TypeError, ValueError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
    name = schema.get("name") if isinstance(schema, Mapping) else str(schema)[:60]
    raise ConfigError(f"invalid Avro schema {name!r}: {reason}; correct the schema")


class _Compiler:
    """Builds the nodes of one parsed schema; a named type is built once and shared by its references."""

    def __init__(self) -> None:
        self._named: dict[str, Node] = {}

    def node(self, schema: Any) -> Node:
        if isinstance(schema, list):
            return union([self.node(branch) for branch in schema])
        if isinstance(schema, str):
            return SCALARS.get(schema) or self._reference(schema)
        node = logical(schema, self._complex(schema))
        if "name" in schema:
            self._named[schema["name"]] = node
        return node

    def _reference(self, name: str) -> Node:
        if name not in self._named:
            raise ValueError(f"record {name} contains itself")
        return self._named[name]

    def _complex(self, schema: dict[str, Any]) -> Node:
        match schema["type"]:
            case "record":
                fields = {field["name"]: self.node(field["type"]) for field in schema["fields"]}
                defaults = {field["name"]: field["default"] for field in schema["fields"] if "default" in field}
                return record(schema["name"], fields, defaults)
            case "array":
                return array(self.node(schema["items"]))
            case "map":
                return mapping(self.node(schema["values"]))
            case "enum":
                return enum(schema["name"], schema["symbols"])
            case "fixed":
                return fixed(schema["name"], schema["size"])
            case scalar:
                return SCALARS[scalar]
