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


class _Version(NamedTuple):
    id: int
    file: Path
    schema: CompiledSchema


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
    folders: list[Path] = []
    for folder in [*configured, shipped_schema_path()]:
        path = Path(folder).resolve()
        if not path.is_dir():
            if Path(folder) != Path(DEFAULT_FOLDER):
                raise ConfigError(f"{SETTING} names {folder}, which is no folder: create it or correct the setting")
        elif path not in folders:
            folders.append(path)
    return folders


class SchemaStore:
    """The ids of the schemas on the schema path, in both directions.

    Raises:
        ConfigError: two schemas with one id, a version file that changed or is gone, an unreadable ids.json.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = list(folders)
        self._versions: dict[int, _Version] = {}
        self._ids: dict[str, int] = {}
        for folder in self.folders:
            self._load(folder / "ids.json")

    def id_of(self, schema: Any) -> SchemaId:
        """The id of the version file that says the same as `schema`, else one made of its canonical form.

        The same means equal but for doc, aliases and order; of versions that differ in defaults only, the one with
        the same defaults, else the first.
        """
        compiled = compile_schema(schema)
        for defaults in (True, False):
            found = self._ids.get(_form(compiled.parsed, defaults))
            if found is not None:
                return SchemaId(found, True)
        digest = hashlib.sha256(compiled.canonical.encode()).digest()
        return SchemaId(int.from_bytes(digest[:4], "big") & 0x7FFFFFFF, False)

    def schema(self, schema_id: int) -> CompiledSchema:
        """The schema of an id.

        Raises:
            DecodeError: no version file has this id.
        """
        version = self._versions.get(schema_id)
        if version is None:
            looked = ", ".join(map(str, self.folders))
            raise DecodeError(
                f"schema id {schema_id} is in no ids.json of {looked}: add its folder to {SETTING}, "
                "or name the registry with CONSUMER_SCHEMA__REGISTRY_URL"
            )
        return version.schema

    def _load(self, ids_file: Path) -> None:
        if not ids_file.is_file():
            return
        entries = _read_json(ids_file)
        if not isinstance(entries, dict):
            raise ConfigError(f"{ids_file}: not a JSON object of version names")
        for name, entry in entries.items():
            match entry:
                case {"id": int(schema_id), "sha256": str(recorded)} if 0 <= schema_id < 1 << 31:
                    self._add(_Version(schema_id, *_version_file(ids_file, name, recorded)))
                case _:
                    raise ConfigError(f'{ids_file}: {name!r} is not {{"id": 0 to 2147483647, "sha256": "..."}}')

    def _add(self, version: _Version) -> None:
        form = _form(version.schema.parsed, True)
        known = self._versions.setdefault(version.id, version)
        if _form(known.schema.parsed, True) != form:
            raise ConfigError(
                f"schema id {version.id} is given to both {known.file} and {version.file}: give yours another id in "
                "ids.json (ids below 1000 are reserved for the shipped schemas)"
            )
        self._ids.setdefault(form, version.id)
        self._ids.setdefault(_form(version.schema.parsed, False), version.id)


def _version_file(ids_file: Path, name: str, recorded: str) -> tuple[Path, CompiledSchema]:
    file = ids_file.parent / f"{name}.avsc"
    if not file.is_file():
        raise ConfigError(f"{file} is missing, but {ids_file} gives it an id: restore it, records of it may exist")
    schema = _read_json(file)
    actual = fingerprint(schema)
    if actual != recorded:
        raise ConfigError(
            f"{file} has fingerprint {actual}, but {ids_file} records {recorded}: a version file never changes, "
            "restore it and write the next version; for a new file, record its fingerprint"
        )
    return file, compile_schema(schema)


def fingerprint(schema: Any) -> str:
    """SHA-256 of what a schema says, in hex; doc, aliases, order and white space do not count."""
    return hashlib.sha256(_form(compile_schema(schema).parsed, True).encode()).hexdigest()


_ATTRIBUTES = ("name", "type", "fields", "items", "values", "symbols", "size", "logicalType", "precision", "scale")


def _form(parsed: Any, defaults: bool) -> str:
    """Avro's parsing canonical form, and besides it what a reader depends on: logical types and, if asked, defaults.

    The canonical form alone would give a timestamp the id of a plain long.
    """
    kept = (*_ATTRIBUTES, "default") if defaults else _ATTRIBUTES

    def reduced(schema: Any) -> Any:
        if isinstance(schema, list):
            return [reduced(item) for item in schema]
        if not isinstance(schema, dict):
            return schema
        form = {key: value if key == "default" else reduced(value) for key, value in schema.items() if key in kept}
        return form["type"] if form.keys() == {"type"} else form

    return json.dumps(reduced(parsed), sort_keys=True, separators=(",", ":"))


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} is not readable JSON: {error}; correct the file") from None


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
        loaded = _read_json(_find(owner, Path(schema), folders))
        if not isinstance(loaded, dict):
            raise ConfigError(f"{owner.__name__}.schema {schema} is not a JSON object with a record schema")
        return loaded
    message_type = message_type or message_type_of(owner)
    if message_type is None:
        raise ConfigError(
            f"{owner.__module__}:{owner.__name__} has no schema and no Message type to derive one from: "
            f"set `schema` (a path or a dict) or write `class {owner.__name__}(Worker[YourMessage])`"
        )
    return derive_schema(message_type)


def _find(owner: type, path: Path, folders: Sequence[Path]) -> Path:
    module_file = getattr(sys.modules.get(owner.__module__), "__file__", None)
    places = [Path(module_file).resolve().parent, *folders] if module_file else list(folders)
    for folder in places:
        if (folder / path).is_file():
            return folder / path
    looked = ", ".join(map(str, places))
    raise ConfigError(f"{owner.__name__}.schema {path} does not exist in {looked}: correct it or extend {SETTING}")
