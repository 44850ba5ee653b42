"""Who does the job: the consumer, and everything that it is compared with; how each is built and started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.jobs import SUMMARIES, TRANSACTIONS, Work
from benchmarks.measure import Job, Program

ROOT = Path(__file__).parents[1]
PEERS = ROOT / "benchmarks" / "peers"
BUILT = ROOT / "build" / "peers"
EOS, ALO = "exactly_once", "at_least_once"


class System(NamedTuple):
    """One program, told what to do by the arguments BOOTSTRAP INPUT OUTPUT GROUP DELIVERY, or by the environment."""

    title: str
    command: tuple[str, ...] = ()
    """What comes before the arguments; none: it is the consumer."""
    options: tuple[str, ...] = ()
    """What comes after them."""
    environ: Mapping[str, str] = {}
    work: Work = SUMMARIES
    build: str = ""
    """What must be built before, one of BUILDS."""
    exit_code: int = 0
    commits: bool = True
    decodes: bool = True
    keeps_order: bool = True
    """These four as in `Program`."""
    members: int = 1
    """Processes; of the consumer only."""

    def program(self, job: Job, delivery: str) -> Program:
        """How it is started."""
        checks = (self.exit_code, self.commits, self.decodes, self.keeps_order, delivery == EOS)
        if self.command:
            arguments = (job.bootstrap, job.input, job.output, job.groups[0], delivery)
            return Program((*self.command, *arguments, *self.options), {**PYTHON, **self.environ}, *checks)
        given = {f"CONSUMER_{name}": value for name, value in self.environ.items()}
        command = (sys.executable, "-m", *(self.options or ("consumer", "run")))
        return Program(command, {**self._settings(job, delivery), **given}, *checks)

    def _settings(self, job: Job, delivery: str) -> dict[str, str]:
        settings = {
            "CONSUMER_KAFKA__BOOTSTRAP_SERVERS": job.bootstrap,
            "CONSUMER_GROUP_ID": job.groups[0],
            "CONSUMER_INPUT_TOPIC": job.input,
            "CONSUMER_OUTPUT_TOPIC": job.output,
            "CONSUMER_DLQ_TOPIC": f"{job.output}.dlq",
            "CONSUMER_WORKER": self.work.worker,
            "CONSUMER_CONCURRENCY": str(self.members),
            "CONSUMER_DELIVERY": delivery,
            "CONSUMER_START": "earliest",
            "CONSUMER_HTTP__PORT": "0",
            "CONSUMER_LOG__LEVEL": "warning",
        }
        if self.members > 1:  # members that start together begin together
            settings["CONSUMER_KAFKA__GROUP_PROTOCOL"] = "classic"
        return settings


def _python(module: str, environment: str = "") -> tuple[str, ...]:
    return (
        str(BUILT / environment / "bin" / "python") if environment else sys.executable,
        "-m",
        f"benchmarks.{module}",
    )


PYTHON = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
LOOP = _python("bare")
CONSUMER = System("consumer, 1 member")
# These choose the output partition by the key.
STREAMS = System(
    "Kafka Streams, 2 threads, Jackson",
    ("java", "-cp", f"{BUILT / 'java' / 'classes'}:{BUILT / 'java' / 'libs' / '*'}", "Peer"),
    build="java",
    exit_code=143,
    keeps_order=False,
)
RUST = System(
    "Rust, rdkafka, typed serde",
    (str(BUILT / "rust" / "release" / "peer"),),
    ("typed",),
    build="rust",
    keeps_order=False,
)
QUIX = System("Quix Streams", _python("peers.quix", "quix"), build="quix", keeps_order=False)
ARROYO = System("Arroyo", _python("peers.arroyo_peer", "others"), build="others", keeps_order=False)

SYSTEMS = {
    "consumer": CONSUMER,
    "consumer-2": CONSUMER._replace(title="consumer, 2 members", members=2),
    "transactions": CONSUMER._replace(work=TRANSACTIONS),
    "transactions-2": CONSUMER._replace(title="consumer, 2 members", work=TRANSACTIONS, members=2),
    "transactions-4": CONSUMER._replace(title="consumer, 4 members", work=TRANSACTIONS, members=4),
    "loop": System("hand-written loop, orjson", LOOP),
    "loop-typed": System("hand-written loop, msgspec, the summary only", LOOP, ("typed",)),
    "loop-cut": System("hand-written loop, msgspec, up to the transactions", LOOP, ("cut",)),
    "loop-transactions": System("hand-written loop, orjson", LOOP, ("transactions",), work=TRANSACTIONS),
    "fetch-only": System("fetch and publish only, no decoding", LOOP, ("nothing",), decodes=False),
    "rust": RUST,
    "rust-value": RUST._replace(title="Rust, rdkafka, serde_json::Value", options=("value",)),
    "streams": STREAMS,
    "streams-100ms": STREAMS._replace(
        title="Kafka Streams, commits every 100 ms", environ={"COMMIT_INTERVAL_MS": "100"}
    ),
    "quix": QUIX,
    "quix-100ms": QUIX._replace(title="Quix Streams, commits every 100 ms", environ={"COMMIT_INTERVAL": "0.1"}),
    "quix-each": QUIX._replace(title="Quix Streams, commits every record", environ={"COMMIT_EVERY": "1"}),
    "arroyo": ARROYO,
    "arroyo-2": ARROYO._replace(title="Arroyo, 2 processes", environ={"PROCESSES": "2"}),
    "faststream": ARROYO._replace(title="FastStream", command=_python("peers.faststream_peer", "others")),
    "faust": ARROYO._replace(title="Faust", command=_python("peers.faust_peer", "others")),
    "bytewax": ARROYO._replace(
        title="Bytewax", command=_python("peers.bytewax_peer", "others"), commits=False, exit_code=-15
    ),
}

MAVEN = ("mvn", "-B", "-q", "-f", str(PEERS / "java" / "pom.xml"), f"-Dbuilt={BUILT / 'java'}", "package")
CARGO = ("cargo", "build", "-q", "--release", "--manifest-path", str(PEERS / "rust" / "Cargo.toml"), "--target-dir")
BUILDS = {
    "java": (PEERS / "java", MAVEN),
    "rust": (PEERS / "rust", (*CARGO, str(BUILT / "rust"))),
    "quix": (PEERS / "quix.txt", ()),
    "others": (PEERS / "others.txt", ()),
}


def without_what_cannot_be_built(names: Iterable[str]) -> list[str]:
    """Build what the systems need and is not built yet; those that cannot be are left out, and that is said."""
    built: dict[str, str] = {"": ""}
    kept = []
    for name in names:
        what = SYSTEMS[name].build
        if what not in built:
            built[what] = _build(what)
        if built[what]:
            print(f"!! LEFT OUT: {SYSTEMS[name].title}: {built[what]}", file=sys.stderr, flush=True)
        else:
            kept.append(name)
    return kept


def _build(what: str) -> str:
    """Build one of BUILDS where its sources changed; returns why that failed, or nothing."""
    source, command = BUILDS[what]
    stamp = BUILT / f"{what}.built"
    files = [source] if source.is_file() else [path for path in source.rglob("*") if path.is_file()]
    if stamp.exists() and stamp.stat().st_mtime > max(path.stat().st_mtime for path in files):
        return ""
    if command and not shutil.which(command[0]):
        return f"`{command[0]}` is not on the PATH"
    print(f"building {what}; the first time takes minutes", file=sys.stderr, flush=True)
    BUILT.mkdir(parents=True, exist_ok=True)
    if not command:
        venv.create(BUILT / what, with_pip=True, clear=True)
        command = (str(BUILT / what / "bin" / "python"), "-m", "pip", "-q", "install", "-r", str(source))
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    )
    if done.returncode:
        return f"`{' '.join(command[:2])}` failed: {(done.stdout + done.stderr).strip()[-400:]}"
    stamp.touch()
    return ""
