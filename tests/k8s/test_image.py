"""The image as it was built (`make image`), and one with a user's worker on top of it. Needs a Docker engine."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.k8s.contract import IMAGE, UID
from tests.k8s.manifests import ROOT

OURS_BYTES = 60_000_000
"""What the image may add to its base: the interpreter's packages and this one."""
HARDENED = ("--rm", "--read-only", "--network=none", "--cap-drop=ALL", "--security-opt=no-new-privileges")


def docker(*args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *args], capture_output=True, text=True, timeout=120, check=check)


@pytest.fixture(scope="module")
def image() -> dict[str, Any]:
    if shutil.which("docker") is None or docker("info", check=False).returncode:
        pytest.skip("no Docker engine answers")
    found = docker("image", "inspect", IMAGE, check=False)
    if found.returncode:
        pytest.skip(f"there is no image {IMAGE}: make image")
    inspected: dict[str, Any] = json.loads(found.stdout)[0]
    return inspected


@pytest.fixture
def with_a_worker(image: dict[str, Any]) -> Iterator[str]:
    name = "checkpoint-consumer-example:test"
    docker("build", "--tag", name, str(ROOT / "examples/worker"))
    yield name
    docker("image", "rm", "--force", name)


def test_the_image_runs_as_nobody_and_gets_the_signals(image: dict[str, Any]) -> None:
    config = image["Config"]
    assert config["User"] == f"{UID}:{UID}"
    assert config["Entrypoint"] == ["checkpoint-consumer"]
    assert config["Cmd"] == ["run"]
    assert config["StopSignal"] == "SIGTERM"
    assert list(config["ExposedPorts"]) == ["8080/tcp"]
    assert config["Labels"]["org.opencontainers.image.version"] == IMAGE.partition(":")[2]


def test_the_image_is_small(image: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    history = docker("history", "--no-trunc", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}", IMAGE).stdout
    sizes = [(int(line.split()[0]), line) for line in history.splitlines()]
    [ours] = [size for size, line in sizes if "/opt/checkpoint-consumer" in line and "COPY" in line]
    with capsys.disabled():
        print(f"\n  {IMAGE}: {image['Size'] / 1e6:.0f} MB, of which {ours / 1e6:.0f} MB are not the base")
    assert ours < OURS_BYTES


def test_nothing_of_the_build_is_in_it(image: dict[str, Any]) -> None:
    look = (
        "from importlib.util import find_spec; print([m for m in ('pip', 'hatchling', 'setuptools') if find_spec(m)])"
    )
    assert docker("run", *HARDENED, "--entrypoint=python3", IMAGE, "-c", look).stdout.strip() == "[]"


def test_a_wrong_setting_ends_it_with_2(image: dict[str, Any]) -> None:
    done = docker("run", *HARDENED, IMAGE, check=False)
    assert done.returncode == 2
    assert "CONSUMER_" in done.stderr


def test_sigterm_ends_it_with_0_though_no_broker_answers(image: dict[str, Any]) -> None:
    """As process 1, through nothing but the entry point, on a root that cannot be written."""
    env = {"KAFKA__BOOTSTRAP_SERVERS": "localhost:1", "GROUP_ID": "g", "INPUT_TOPIC": "in", "OUTPUT_TOPIC": "out"}
    env |= {"WORKER": "consumer.workers:SummaryWorker"}
    given = [f"--env=CONSUMER_{name}={value}" for name, value in env.items()]
    kept = [option for option in HARDENED if option != "--rm"]
    container = docker("run", "--detach", *kept, *given, IMAGE).stdout.strip()
    try:
        with subprocess.Popen(["docker", "logs", "--follow", container], stderr=subprocess.PIPE, text=True) as log:
            assert log.stderr is not None
            assert any("member started" in line for line in log.stderr)
            docker("stop", "--time=15", container)
        assert json.loads(docker("inspect", container).stdout)[0]["State"]["ExitCode"] == 0
    finally:
        docker("rm", "--force", container)


def test_a_worker_of_ones_own_is_three_lines_more(with_a_worker: str) -> None:
    lines = (ROOT / "examples/worker/Dockerfile").read_text().splitlines()
    assert len(lines) == 3
    config = docker("run", *HARDENED, with_a_worker, "config").stdout
    assert "CONSUMER_WORKER=gas_worker:GasWorker" in config
    make = "from consumer.loading import make; from consumer import Worker; "
    make += "print(type(make('gas_worker:GasWorker', Worker, {}, 'CONSUMER_WORKER')).__name__)"
    found = docker("run", *HARDENED, "--entrypoint=python3", with_a_worker, "-c", make).stdout
    assert found.strip() == "GasWorker"
