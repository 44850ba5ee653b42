"""The map of the modules, held: who may import whom, how large a module may be, and what is never committed."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "consumer"

# Each module or package imports only from those before it.
LAYERS = (
    *("errors", "failpoints", "allocator", "records", "partitioning", "rest", "targets"),
    *("checkpoint", "worker", "reducer", "workers", "reducers", "limits"),
    *("avro", "schemas"),
    *("settings", "log", "metrics", "http", "patience", "registry", "loading", "protocol", "hangs"),
    *("core", "work", "telemetry", "kafka"),
    *("member", "joining", "process", "supervisor", "executor"),
    *("__init__", "generate", "testing"),
    *("cli", "__main__"),
)

MODULES = sorted(PACKAGE.rglob("*.py"))
CLIENT = "confluent_kafka"


def name_of(path: Path) -> str:
    """`consumer/kafka/conf.py` is `consumer.kafka.conf`, an `__init__.py` its package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path): path for path in MODULES}


def imports(path: Path) -> Iterator[str]:
    """Every module that `path` imports, wherever in the file it does so."""
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                submodule = f"{module}.{alias.name}"
                yield submodule if submodule in NAMES else module


def layer(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def height(module: str) -> int:
    return LAYERS.index(layer(module)) if layer(module) in LAYERS else len(LAYERS)


def test_every_module_is_on_the_map() -> None:
    assert {layer(name) for name in NAMES} - set(LAYERS) == set(), "put it into LAYERS, above all that it imports"


def test_imports_point_downward() -> None:
    upward = [
        f"{name} imports {target}"
        for name, path in NAMES.items()
        for target in imports(path)
        if target.split(".")[0] == "consumer"
        and layer(target) != layer(name)
        and layer(target) not in LAYERS[: height(name)]
    ]
    assert upward == []


def test_only_the_kafka_package_imports_the_client() -> None:
    assert [
        name
        for name, path in NAMES.items()
        if layer(name) != "kafka" and any(target.split(".")[0] == CLIENT for target in imports(path))
    ] == []


# The supervisor must not load the client: its threads and memory belong in the members alone.
@pytest.mark.parametrize("module", ["consumer", "consumer.supervisor", "consumer.cli.main"])
def test_the_client_is_loaded_by_members_alone(module: str) -> None:
    if module not in NAMES:
        pytest.skip(f"there is no {module}")
    code = f"import sys, {module}; sys.exit({CLIENT!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_no_module_is_longer_than_400_lines() -> None:
    assert [(name, lines) for name, path in NAMES.items() if (lines := len(path.read_text().splitlines())) > 400] == []


def test_what_running_takes_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    """Prints how much code `checkpoint-consumer run` can reach; the other verbs are not in it."""
    start = "consumer.cli.run"
    if start not in NAMES:
        pytest.skip(f"there is no {start}")
    reached: set[str] = set()
    waiting = {start}
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting |= {target for target in imports(NAMES[name]) if target in NAMES} - reached
    lines = sum(len(NAMES[name].read_text().splitlines()) for name in reached)
    with capsys.disabled():
        print(f"\n`run` reaches {len(reached)} of {len(NAMES)} modules, {lines} lines")
    others = {f"consumer.cli.{verb}" for verb in ("demo", "feed", "tail", "config")}
    assert not reached & others


def tracked_files() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout, so nothing is tracked")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_registry_or_a_machine() -> None:
    """Where packages come from, and where the checkout lies, is the machine's business."""
    registries = (
        "pypi|org",
        "pythonhosted|org",
        "repo1|maven|org",
        "repo|maven|apache|org",
        "deb.debian|org",
        "npmjs|org",
    )
    hosts = "|".join(re.escape(name.replace("|", ".")) for name in registries)
    machine = "|".join(("/work" + "/(?:main|shared)", "/root" + "/"))
    pattern = re.compile(rf"{hosts}|{machine}".encode())
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match.group().decode()}"
        for path in tracked_files()
        for number, line in enumerate(path.read_bytes().splitlines(), 1)
        for match in pattern.finditer(line)
    ]
    assert found == []
