"""One real broker, its topics, and the runs on it: what all benchmarks have in common."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition, libversion
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from benchmarks.jobs import SUMMARIES, Work
from benchmarks.measure import Job, Result, Wrong, measure
from benchmarks.report import DIRTY, Runs
from benchmarks.source import LARGEST, Shape, Source, fill, from_folder
from benchmarks.systems import System
from tests.brokers.container import ContainerBroker
from tests.brokers.find import Broker
from tests.brokers.foreign import ForeignBroker
from tests.brokers.jars import Unavailable
from tests.brokers.jvm import JvmBroker

JOINS = {"group.initial.rebalance.delay.ms": "1000"}
"""How long a broker waits for further members before it deals out the work (`classic` groups)."""
LATE_JOINS = {"group.initial.rebalance.delay.ms": "3000"}
"""Eight members need longer to start than two."""
STOLEN_PERCENT = 5.0
TRIES = 3
LIBRARIES = ("confluent-kafka", "fastavro", "msgspec", "orjson")


class Lab:
    """A broker with input topics that are filled once for each shape; `close` deletes them."""

    def __init__(self, broker: Broker, checkpoints: Path | None = None, compression: str = "none") -> None:
        self.broker = broker
        self._checkpoints = checkpoints
        self._compression = compression
        self._admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
        self._inputs: dict[Shape, str] = {}
        self._each: dict[tuple[Shape, str], list[int]] = {}

    def source(self, shape: Shape) -> Source:
        """Real checkpoints where there are some, else generated ones."""
        return from_folder(self._checkpoints) if self._checkpoints else shape.generated()

    def input(self, shape: Shape) -> str:
        """The name of a topic with this input."""
        if shape not in self._inputs:
            name = f"benchmark-{uuid.uuid4().hex[:8]}"
            self._make(shape.partitions, name)
            self._inputs[shape] = name
            fill(self.broker.bootstrap, name, self.source(shape), shape, self._compression)
        return self._inputs[shape]

    def each(self, shape: Shape, work: Work) -> list[int]:
        """How many output records each checkpoint of an input gives."""
        if (shape, work.name) not in self._each:
            source = self.source(shape)
            outputs = (work.outputs(source(number)) for number in range(shape.records))
            self._each[shape, work.name] = [1] * shape.records if work is SUMMARIES else [*map(len, outputs)]
        return self._each[shape, work.name]

    @contextmanager
    def topics(self, partitions: int, *names: str) -> Iterator[None]:
        """Topics, deleted afterwards."""
        self._make(partitions, *names)
        try:
            yield
        finally:
            self._delete(*names)

    def run(
        self,
        system: System,
        delivery: str,
        shape: Shape,
        *,
        pools: int = 1,
        skipped: Callable[[int], bool] = lambda number: False,
        existing: bool = False,
    ) -> Result:
        """Measure one run on a fresh output and group; `existing`: a group that has committed offset 0 everywhere.

        Raises Wrong where the program did not do its job.
        """
        source, name = self.input(shape), f"benchmark-{uuid.uuid4().hex[:8]}"
        groups = [name] if pools == 1 else [f"{name}-{number}" for number in range(pools)]
        each = self.each(shape, system.work)
        job = Job(self.broker.bootstrap, source, name, groups, shape, self.source(shape), system.work, each, skipped)
        with self.topics(shape.partitions, name, f"{name}.dlq"):
            if existing:
                offsets = [TopicPartition(source, at, 0) for at in range(shape.partitions)]
                asked = [ConsumerGroupTopicPartitions(name, offsets)]
                self._admin.alter_consumer_group_offsets(asked)[name].result()
            return measure(job, system.program(job, delivery))

    def about(self, shape: Shape) -> dict[str, str]:
        """What a reader of the results must know."""
        kind = f"real ones from {self._checkpoints.name}, numbered anew" if self._checkpoints else "generated"
        size = sum(map(len, map(self.source(shape), range(20)))) / 20_000
        return {
            "broker": self.broker.describe.split(" at ")[0],
            "input": f"{shape.records:,} checkpoints of {size:,.0f} KB, {kind}, compression {self._compression}, "
            f"{shape.partitions} partitions",
            "commit": _commit(),
            "machine": f"{os.cpu_count()} cores, {_cpu()}, Linux {platform.release()}, shared by all",
            "versions": ", ".join(
                [f"Python {platform.python_version()}", f"librdkafka {libversion()[0]}", *_versions()]
            ),
        }

    def broker_setting(self, name: str) -> str:
        """What the first of the brokers has for it. Raises KeyError: it knows no such setting."""
        first = str(min(self._admin.list_topics(timeout=10).brokers))
        [answer] = self._admin.describe_configs([ConfigResource(ResourceType.BROKER, first)]).values()
        return str(answer.result()[name].value)

    def broker_cpu(self) -> float:
        """User and system seconds of the broker so far; 0: it is not a process of this benchmark."""
        if not isinstance(self.broker, JvmBroker) or self.broker.pid is None:
            return 0.0
        times = psutil.Process(self.broker.pid).cpu_times()
        return float(times.user + times.system)

    def close(self) -> None:
        """Delete the input topics."""
        if self._inputs:
            self._delete(*self._inputs.values())

    def _make(self, partitions: int, *names: str) -> None:
        config = {"max.message.bytes": str(LARGEST)}
        for made in self._admin.create_topics(
            [NewTopic(name, partitions, 1, config=config) for name in names]
        ).values():
            made.result()

    def _delete(self, *names: str) -> None:
        for gone in self._admin.delete_topics(list(names)).values():
            gone.result()


def arguments(description: str, rounds: int) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds, help="of everything in turn (default: %(default)s)")
    parser.add_argument("--checkpoints", type=Path, metavar="FOLDER", help="real ones instead of generated ones")
    parser.add_argument("--compression", default="none", help="of the input topic: none (default), zstd, lz4, ...")
    return parser


def is_trial(parser: argparse.ArgumentParser, given: argparse.Namespace, *but: str) -> bool:
    """Whether something is not as it is by default, `but` for these: then it is not what the document shows."""
    return any(value != parser.get_default(name) for name, value in vars(given).items() if name not in but)


@contextmanager
def opened(given: argparse.Namespace, settings: Mapping[str, str] = {}) -> Iterator[Lab]:
    """A lab on the broker of KAFKA_BOOTSTRAP_SERVERS, else on a JVM process of its own, else in a container.

    `settings`: of the JVM process, beside `JOINS` and those of the tests' brokers.
    """
    broker: Broker
    if bootstrap := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        broker = ForeignBroker(bootstrap)
    else:
        try:
            broker = JvmBroker(settings={**JOINS, **settings}, heap="1g")
        except Unavailable as reason:
            print(f"no broker as a JVM process ({reason}), so in a container, which adds some noise", file=sys.stderr)
            broker = ContainerBroker()
    try:
        lab = Lab(broker, given.checkpoints, given.compression)
        yield lab
        lab.close()
    finally:
        broker.close()


def in_turn(
    labels: Sequence[str], rounds: int, once: Callable[[str], tuple[NamedTuple, str]], *, warm_up: bool = True
) -> Runs:
    """Run each label once in every round, every second round in the opposite order; says what `once` says of it.

    `warm_up`: one more round comes first and does not count: a broker's JVM takes twice as long for everything until
    it has compiled it, and no broker stays that young. Where the hypervisor took more than STOLEN_PERCENT of the
    machine's time, a run is made again, and of TRIES the least disturbed counts. A program that does not do its job is
    named, and left out of the result.
    """
    runs: dict[str, list[dict[str, Any]]] = {label: [] for label in labels}
    for number in range(0 if warm_up else 1, rounds + 1):
        for label in list(runs) if number % 2 else reversed(list(runs)):
            try:
                found = _undisturbed(partial(once, label), f"round {number}  {label:32}", TRIES if number else 1)
            except Wrong as error:
                del runs[label]
                print(f"!! LEFT OUT: {label} did not do its job: {error}", file=sys.stderr, flush=True)
            else:
                runs[label] += [found] * bool(number)
    return runs


def _undisturbed(once: Callable[[], tuple[NamedTuple, str]], head: str, tries: int) -> dict[str, Any]:
    """The least disturbed of so many runs; of one where that is undisturbed."""
    found: list[dict[str, Any]] = []
    while not found or (len(found) < tries and found[-1]["stolen_percent"] > STOLEN_PERCENT):
        before = psutil.cpu_times()
        result, said = once()
        stolen = _stolen_percent(before, psutil.cpu_times())
        print(f"{head}{said}, {stolen:.1f} % stolen", flush=True)
        found.append({**result._asdict(), "stolen_percent": stolen})
    return min(found, key=itemgetter("stolen_percent"))


def _stolen_percent(before: Any, after: Any) -> float:
    """The share of the time in between that the hypervisor gave to others; 0 where the system does not tell."""
    stolen: float = getattr(after, "steal", 0.0) - getattr(before, "steal", 0.0)
    passed: float = sum(after) - sum(before)
    return 100 * stolen / max(1e-9, passed)


def _commit() -> str:
    """What was measured, `-dirty` with changes that are not in it; those of results and documents do not count."""

    def git(*words: str) -> str:
        command = ["git", *words]
        return subprocess.run(
            command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False
        ).stdout

    try:
        commit = git("describe", "--always").strip()
        changed = git("status", "--porcelain", "--", ".", ":!benchmarks/results", ":!docs", ":!README.md")
    except FileNotFoundError:
        return "unknown"
    return commit + DIRTY if changed else commit or "unknown"


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.machine())


def _versions() -> Iterator[str]:
    yield from (f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    for command in (["java", "-version"], ["rustc", "--version"]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            continue
        yield (done.stdout + done.stderr).splitlines()[0].replace('"', "")
