"""The schema path: ids, immutable version files, golden vectors, compatibility; where a worker's schema is found."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import avro.schema
import fastavro
import msgspec
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType

from consumer.avro import Encoder, decode
from consumer.errors import ConfigError, DecodeError
from consumer.schemas import SchemaStore, fingerprint, resolve_schema, search_path, shipped_schema_path
from consumer.worker import Worker

SHIPPED = shipped_schema_path()
VERSIONS = sorted(SHIPPED.glob("*/v*.avsc"))
EXAMPLES = sorted(SHIPPED.glob("*/examples/v*/*.json"))


def load(file: Path) -> Any:
    return json.loads(file.read_text())


def version_file(example: Path) -> Path:
    return example.parents[2] / f"{example.parent.name}.avsc"


# ---- the shipped schemas


def test_the_ids_that_the_contract_and_the_readme_name() -> None:
    store = SchemaStore([SHIPPED])

    ids = {str(file.relative_to(SHIPPED)): store.id_of(load(file)) for file in VERSIONS}

    assert ids == {
        "checkpoint-summary/v1.avsc": (1, True),
        "checkpoint-transaction/v1.avsc": (2, True),
        "epoch-totals/v1.avsc": (3, True),
    }


def test_every_version_has_a_golden_vector() -> None:
    assert {version_file(example) for example in EXAMPLES} == set(VERSIONS)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda file: str(file.relative_to(SHIPPED)))
def test_golden_vector(example: Path) -> None:
    """Version file, id, bytes and value agree, in both directions, by us and by fastavro."""
    store = SchemaStore([SHIPPED])
    golden, schema = load(example), load(version_file(example))
    framed = bytes.fromhex(golden["bytes"])
    schema_id = store.id_of(schema).id

    assert decode(framed, store.schema) == (schema_id, golden["value"])
    assert Encoder(store.schema(schema_id), schema_id).encode(golden["value"]) == framed
    assert fastavro.schemaless_reader(io.BytesIO(framed[5:]), schema, None) == golden["value"]


def incompatible_pairs(folder: Path) -> list[str]:
    """Every version of a name that cannot read an earlier one (BACKWARD_TRANSITIVE), by Apache Avro's own checker."""
    found = []
    checker: Any = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    versions = sorted(folder.glob("v*.avsc"), key=lambda file: int(file.stem[1:]))
    for at, reader in enumerate(versions):
        for writer in versions[:at]:
            schemas: list[Any] = [avro.schema.parse(file.read_text()) for file in (reader, writer)]
            result = checker.get_compatibility(schemas[0], schemas[1])
            if result.compatibility is not SchemaCompatibilityType.compatible:
                found.append(f"{reader.stem} cannot read {writer.stem}: {result.messages}")
    return found


@pytest.mark.parametrize("name", sorted({file.parent.name for file in VERSIONS}))
def test_every_version_reads_every_earlier_one(name: str) -> None:
    assert incompatible_pairs(SHIPPED / name) == []


def test_the_compatibility_check_goes_red(tmp_path: Path) -> None:
    one = load(SHIPPED / "checkpoint-summary/v1.avsc")
    good, bad = {"name": "more", "type": "long", "default": 0}, {"name": "more", "type": "long"}
    for version, fields in {"v1": [], "v2": [good], "v10": [bad]}.items():
        (tmp_path / f"{version}.avsc").write_text(json.dumps({**one, "fields": one["fields"] + fields}))

    assert [line.partition(":")[0] for line in incompatible_pairs(tmp_path)] == ["v10 cannot read v1"]


# ---- ids


LONG = {"type": "record", "name": "x.Event", "fields": [{"name": "at", "type": "long"}]}
TIME = {**LONG, "fields": [{"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}
DEFAULT = {**LONG, "fields": [{"name": "at", "type": "long", "default": 5}]}


def folder_of(path: Path, versions: dict[str, tuple[int, Any]]) -> Path:
    entries = {}
    for name, (schema_id, schema) in versions.items():
        file = path / f"{name}.avsc"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(schema))
        entries[name] = {"id": schema_id, "sha256": fingerprint(schema)}
    (path / "ids.json").write_text(json.dumps(entries))
    return path


def test_equal_schema_gets_the_id_however_it_is_written(tmp_path: Path) -> None:
    store = SchemaStore([folder_of(tmp_path, {"event/v1": (1000, LONG)})])
    written = {
        "namespace": "x",
        "name": "Event",
        "doc": "d",
        "type": "record",
        "fields": [{"type": {"type": "long"}, "name": "at", "doc": "d", "order": "ignore"}],
    }

    assert store.id_of(written) == (1000, True)
    assert store.schema(1000).name == "x.Event"


def test_logical_type_and_default_make_a_version(tmp_path: Path) -> None:
    versions = {"event/v1": (1000, LONG), "event/v2": (1001, DEFAULT)}
    store = SchemaStore([folder_of(tmp_path, versions)])

    assert store.id_of(LONG).id == 1000
    assert store.id_of(DEFAULT).id == 1001
    assert store.id_of({**LONG, "fields": [{"name": "at", "type": "long", "default": 6}]}).from_version_file is False
    assert store.id_of(TIME).from_version_file is False


@pytest.mark.parametrize("name", ["x.Event", "x.A", "x.B", "x.C", "x.D"])  # the hash's first bit is 0 and 1 among them
def test_unknown_schema_gets_the_hash_of_its_canonical_form(name: str) -> None:
    canonical = f'{{"name":"{name}","type":"record","fields":[{{"name":"at","type":"long"}}]}}'
    expected = int(hashlib.sha256(canonical.encode()).hexdigest()[:8], 16) & 0x7FFFFFFF

    assert SchemaStore([SHIPPED]).id_of({**LONG, "name": name}) == (expected, False)


def test_unknown_id_says_where_it_looked() -> None:
    with pytest.raises(DecodeError, match=rf"schema id 77 is in no ids.json of {SHIPPED}: .*CONSUMER_SCHEMA__PATH"):
        SchemaStore([SHIPPED]).schema(77)


def test_changed_version_file_is_refused(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "epoch-totals/v1.avsc"
    text = file.read_text()

    file.write_text(text.replace("\n", "\r\n").replace('"doc": "The epoch"', '"doc": "the epoch"'))
    SchemaStore([tmp_path])
    file.write_text(text.replace('"long"', '"int"', 1))

    with pytest.raises(ConfigError, match=r"epoch-totals/v1.avsc has fingerprint .* a version file never changes"):
        SchemaStore([tmp_path])


def test_missing_version_file_is_refused(tmp_path: Path) -> None:
    (folder_of(tmp_path, {"event/v1": (1000, LONG)}) / "event/v1.avsc").unlink()

    with pytest.raises(ConfigError, match=r"event/v1.avsc is not readable JSON: .*No such file.*; restore"):
        SchemaStore([tmp_path])


def test_one_id_for_two_schemas_is_refused(tmp_path: Path) -> None:
    mine = folder_of(tmp_path, {"event/v1": (1, LONG)})

    with pytest.raises(ConfigError, match=r"schema id 1 of .* is given to x.Event already: give yours another id"):
        SchemaStore([mine, SHIPPED])


def test_a_copy_of_the_shipped_schemas_is_no_conflict(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED, tmp_path, dirs_exist_ok=True)

    assert SchemaStore([tmp_path, SHIPPED]).schema(1).name == "checkpoint_consumer.CheckpointSummary"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is not readable JSON"),
        ("[]", "is not a JSON object"),
        ('{"event/v1": 5}', "'event/v1' is not"),
        ('{"event/v1": {"id": -1, "sha256": ""}}', "'event/v1' is not"),
        ('{"event/v1": {"id": 4294967296, "sha256": ""}}', "'event/v1' is not"),
    ],
)
def test_malformed_ids_file_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "ids.json").write_text(text)

    with pytest.raises(ConfigError, match=rf"ids.json.*{reason}"):
        SchemaStore([tmp_path])


def test_search_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert search_path(("./schemas",)) == [SHIPPED]
    (tmp_path / "schemas").mkdir()
    assert search_path(("./schemas", str(SHIPPED))) == [tmp_path / "schemas", SHIPPED]
    with pytest.raises(ConfigError, match=r"CONSUMER_SCHEMA__PATH names \./scemas, which is no folder"):
        search_path(("./scemas",))


# ---- a worker's schema


class Event(msgspec.Struct):
    at: int


class Typed(Worker[Event]):
    pass


class Untyped(Worker):  # type: ignore[type-arg]
    pass


def test_schema_as_dict_and_derived() -> None:
    derived = {"type": "record", "name": "Event", "fields": [{"name": "at", "type": "long"}]}

    assert resolve_schema(Typed, LONG, []) == LONG
    assert resolve_schema(Typed, None, []) == derived
    assert resolve_schema(Untyped, None, [], Event) == derived


def worker_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> type:
    """A worker class whose module lies in `folder`."""
    file = folder / "their_worker.py"
    file.write_text("from consumer.worker import Worker\nclass Theirs(Worker):\n    pass\n")
    spec = importlib.util.spec_from_file_location("their_worker", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "their_worker", module)
    spec.loader.exec_module(module)
    theirs: type = module.Theirs
    return theirs


def test_path_is_looked_for_beside_the_module_then_on_the_schema_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, path = tmp_path / "home", tmp_path / "path"
    home.mkdir()
    folder_of(path, {"event/v1": (1000, LONG)})
    theirs = worker_in(home, monkeypatch)

    assert resolve_schema(theirs, "event/v1.avsc", [path, SHIPPED]) == LONG
    folder_of(home, {"event/v1": (1000, TIME)})
    assert resolve_schema(theirs, "event/v1.avsc", [path, SHIPPED]) == TIME
    assert resolve_schema(theirs, Path(path / "event/v1.avsc"), []) == LONG
    with pytest.raises(ConfigError, match=rf"Theirs.schema event/v2.avsc does not exist in {home}, {path}: correct it"):
        resolve_schema(theirs, "event/v2.avsc", [path])


def test_no_schema_and_no_message_type_says_what_to_do() -> None:
    with pytest.raises(
        ConfigError, match=r"Untyped has no schema and no Message type .* set `schema` .*or write `class"
    ):
        resolve_schema(Untyped, None, [])
