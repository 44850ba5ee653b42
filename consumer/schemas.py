"""The schema path: immutable version files `<name>/v<N>.avsc`, and their ids in `ids.json`.

`ids.json` of a folder maps `<name>/v<N>` to `{"id": ..., "sha256": ...}`. The id is what stands in front of every
value ever written, so an id is never reused and a version file with an id never changes; the fingerprint is how a
change is noticed. See schemas/README.md for how to add a version.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from consumer.avro import CompiledSchema, compile_schema, derive_schema, message_type_of
from consumer.errors import ConfigError, DecodeError

__all__ = ["SchemaId", "SchemaStore", "fingerprint", "resolve_schema", "search_path", "shipped_schema_path"]

SETTING = "CONSUMER_SCHEMA__PATH"
DEFAULT_FOLDER = "./schemas"


class SchemaId(NamedTuple):
    """A schema's id and whether a version file gives it; otherwise it is made of the schema's hash."""

    id: int
    from_version_file: bool


def shipped_schema_path() -> Path:
    """The folder of the schemas that this package ships: inside the package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "_schemas"
    return inside if inside.is_dir() else package.parent / "schemas"


def search_path(configured: Sequence[str | Path]) -> list[Path]:
    """The folders of `CONSUMER_SCHEMA__PATH`, then the shipped one, each once.

    Raises:
        ConfigError: a folder does not exist; the default one need not.
    """
    folders = [folder for folder in configured if folder != DEFAULT_FOLDER or Path(folder).is_dir()]
    for folder in folders:
        if not Path(folder).is_dir():
            raise ConfigError(f"{SETTING} names {folder}, which is no folder: create it or correct the setting")
    return list(dict.fromkeys(Path(folder).resolve() for folder in [*folders, shipped_schema_path()]))


class SchemaStore:
    """The ids of the schemas on the schema path, in both directions.

    Raises:
        ConfigError: two schemas with one id, a version file that changed or is gone, an unreadable ids.json.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = list(folders)
        self._schemas: dict[int, CompiledSchema] = {}
        self._ids: dict[str, int] = {}
        for folder in self.folders:
            ids_file = folder / "ids.json"
            if ids_file.is_file():
                self._load(ids_file)

    def id_of(self, schema: Any) -> SchemaId:
        """The id of the version file that says the same as `schema`, else one made of its canonical form."""
        known = self._ids.get(fingerprint(schema))
        if known is not None:
            return SchemaId(known, True)
        digest = hashlib.sha256(compile_schema(schema).canonical.encode()).digest()
        return SchemaId(int.from_bytes(digest[:4], "big") & 0x7FFFFFFF, False)

    def schema(self, schema_id: int) -> CompiledSchema:
        """The schema of an id.

        Raises:
            DecodeError: no version file has this id.
        """
        if schema_id not in self._schemas:
            looked = ", ".join(map(str, self.folders))
            raise DecodeError(
                f"schema id {schema_id} is in no ids.json of {looked}: add its folder to {SETTING}, "
                "or name the registry with CONSUMER_SCHEMA__REGISTRY_URL"
            )
        return self._schemas[schema_id]

    def _load(self, ids_file: Path) -> None:
        for name, entry in _read_json(ids_file).items():
            match entry:
                case {"id": int(schema_id), "sha256": str(recorded)} if 0 <= schema_id < 1 << 31:
                    self._add(ids_file.parent / f"{name}.avsc", schema_id, recorded)
                case _:
                    raise ConfigError(f'{ids_file}: {name!r} is not {{"id": 0 to 2147483647, "sha256": "..."}}')

    def _add(self, file: Path, schema_id: int, recorded: str) -> None:
        schema = _read_json(file)
        actual = fingerprint(schema)
        if actual != recorded:
            raise ConfigError(
                f"{file} has fingerprint {actual}, but ids.json beside it records {recorded}: a version file never "
                "changes, restore it and write the next version; for a new file, record its fingerprint"
            )
        compiled = self._schemas.setdefault(schema_id, compile_schema(schema))
        if fingerprint(compiled.parsed) != actual:
            raise ConfigError(
                f"schema id {schema_id} of {file} is given to {compiled.name} already: give yours another id in "
                "ids.json (ids below 1000 are reserved for the shipped schemas)"
            )
        self._ids.setdefault(actual, schema_id)


def fingerprint(schema: Any) -> str:
    """SHA-256 of what a schema says, in hex; doc, aliases, order and white space do not count.

    Avro's own canonical form would give a timestamp the id of a plain long: logical types and defaults count here.
    """
    form = json.dumps(_form(compile_schema(schema).parsed), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(form.encode()).hexdigest()


_ATTRIBUTES = ("name", "type", "fields", "items", "values", "symbols", "size", "logicalType", "precision", "scale")


def _form(parsed: Any) -> Any:
    if isinstance(parsed, list):
        return [_form(item) for item in parsed]
    if not isinstance(parsed, dict):
        return parsed
    form = {key: _form(parsed[key]) for key in _ATTRIBUTES if key in parsed}
    if "default" in parsed:
        form["default"] = parsed["default"]
    return form["type"] if form.keys() == {"type"} else form


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} is not readable JSON: {error}; restore or correct the file") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{file} is not a JSON object; correct the file")
    return content


def resolve_schema(
    owner: type,
    schema: str | Path | Mapping[str, Any] | None,
    folders: Sequence[Path],
    message_type: type | None = None,
) -> dict[str, Any]:
    """The Avro schema that `owner` (a worker or reducer class) gives as `schema`.

    A path is looked for beside the owner's module, then in `folders`. None: derived from `message_type`, by default
    the one of the owner's annotations.

    Raises:
        ConfigError: no such file, or nothing to derive from; the text says where it was looked for and what to do.
    """
    if isinstance(schema, Mapping):
        return dict(schema)
    if schema is not None:
        return _read_json(_find(owner, schema, folders))
    message_type = message_type or message_type_of(owner)
    if message_type is None:
        raise ConfigError(
            f"{owner.__module__}:{owner.__name__} has no schema and no Message type to derive one from: "
            f"set `schema` (a path or a dict) or write `class {owner.__name__}(Worker[YourMessage])`"
        )
    return derive_schema(message_type)


def _find(owner: type, path: str | Path, folders: Sequence[Path]) -> Path:
    module_file = getattr(sys.modules.get(owner.__module__), "__file__", None)
    places = [*([Path(module_file).resolve().parent] if module_file else []), *folders]
    for folder in places:
        if (folder / path).is_file():
            return folder / path
    looked = ", ".join(map(str, places))
    raise ConfigError(f"{owner.__name__}.schema {path} does not exist in {looked}: correct it or extend {SETTING}")
