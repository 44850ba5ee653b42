"""The command as a user runs it: a subprocess with an environment of its own, its log lines, what it left in Kafka."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import Producer

from consumer.generate import generate
from tests.brokers.find import Broker
from tests.brokers.topics import Topics
from tests.checker import Record, Report, check, collect, committed_offsets, read_topic

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "consumer"]
WORKERS = "tests.kafka.workers_e2e"
SUMMARY = fastavro.parse_schema(json.loads((ROOT / "schemas/checkpoint-summary/v1.avsc").read_text()))


def small(number: int, epoch_length: int = 100) -> bytes:
    """A checkpoint of 3 KB."""
    return generate(number, size_bytes=0, transactions=1, epoch_length=epoch_length)


@dataclass
class Done:
    """An ended run: its exit code, how long it took, and its standard error, log lines apart from the others."""

    code: int
    seconds: float
    stderr: str
    logs: list[dict[str, Any]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for line in self.stderr.splitlines():
            try:
                self.logs.append(json.loads(line))
            except ValueError:
                self.lines.append(line)

    def said(self, event: str) -> list[dict[str, Any]]:
        """The log lines of this event."""
        return [line for line in self.logs if line["event"] == event]

    @property
    def loud(self) -> list[dict[str, Any]]:
        """What an operator must look at. Warnings do not count: a slow machine alone makes the client warn."""
        return [line for line in self.logs if line["level"] not in ("debug", "info", "warning")]


class Running:
    """A run under way; its standard error goes to a file."""

    def __init__(self, arguments: list[str], env: Mapping[str, str], cwd: Path = ROOT) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._started = time.monotonic()
        self.process = subprocess.Popen(
            arguments,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )

    def stderr(self) -> str:
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode()

    def _tail(self) -> str:
        return "the end of its log:\n" + self.stderr()[-4000:]

    def wait_for(self, text: str, count: int = 1, seconds: float = 30) -> None:
        """Return once standard error holds `text` so often."""
        self.wait_until(lambda: self.stderr().count(text) >= count, f"{count} x {text!r}", seconds)

    def wait_until(self, true: Callable[[], Any], what: str, seconds: float = 30) -> None:
        """Poll something outside this process; TimeoutError with the log where it does not come."""
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise TimeoutError(f"{what} did not come (exit {self.process.poll()}); {self._tail()}")
            time.sleep(0.05)

    def wait(self, seconds: float = 60) -> Done:
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"it did not end within {seconds} s; {self._tail()}") from None
        return Done(code, self.elapsed, self.stderr())

    @property
    def elapsed(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._started

    def stop(self) -> Done:
        """SIGTERM, as an operator would do it."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def close(self) -> None:
        """Nothing of it is left: not its members either, which share its session."""
        with suppress(ProcessLookupError):  # it has ended with all its members
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()
        self._log.close()


class Pipeline:
    """One workflow on topics of its own, run by the command; settings as `run` takes them: `batch__max_messages=1`."""

    def __init__(self, broker: Broker, names: Topics, **settings: Any) -> None:
        self.bootstrap = broker.bootstrap
        self.names = names
        self.settings = {
            "kafka__bootstrap_servers": broker.bootstrap,
            "group_id": names.group,
            "input_topic": names.input,
            "output_topic": names.output,
            "dlq_topic": names.dlq,
            "worker": "consumer.workers:SummaryWorker",
            "start": "earliest",
            "http__port": 0,
            "log__format": "json",
            **settings,
        }

    def environment(self, **settings: Any) -> dict[str, str]:
        """The environment of a run: nothing of this process's own settings, and a None takes one away."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith("CONSUMER_")}
        chosen = {**self.settings, **settings}
        own = {
            f"CONSUMER_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
            for name, value in chosen.items()
            if value is not None
        }
        return {**plain, "PYTHONPATH": str(ROOT), **own}

    @contextmanager
    def running(
        self, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path = ROOT, **settings: Any
    ) -> Iterator[Running]:
        """A run that is under way while `with` it."""
        run = Running([*COMMAND, "run", *arguments], {**self.environment(**settings), **(env or {})}, cwd)
        try:
            yield run
        finally:
            run.close()

    def run(self, *arguments: str, timeout: float = 60, **how: Any) -> Done:
        """A run up to its own end."""
        with self.running(*arguments, **how) as run:
            return run.wait(timeout)

    def command(self, *arguments: str, **settings: Any) -> str:
        """What another verb prints."""
        env = self.environment(**settings)
        done = subprocess.run(
            [*COMMAND, *arguments], env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def feed(
        self,
        numbers: Iterable[int],
        partitions: int = 6,
        partition: Callable[[int], int] | None = None,
        epoch_length: int = 100,
    ) -> None:
        """Publish small generated checkpoints, `modulo` the partitions unless `partition` says where."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 5})
        for number in numbers:
            value = small(number, epoch_length)
            producer.produce(
                self.names.input, value, str(number), partition(number) if partition else number % partitions
            )
        assert producer.flush(30) == 0

    def outputs(self) -> list[Record]:
        """Every committed output record."""
        return read_topic(self.bootstrap, [self.names.output])

    def numbers(self) -> list[int]:
        """The checkpoint numbers in the output, sorted: twice where one is there twice."""
        return sorted(summary_of(record)["sequence_number"] for record in self.outputs())

    def committed(self) -> dict[int, int]:
        """The group's next offset by partition, where it has one."""
        found = committed_offsets(self.bootstrap, self.names.group)
        return {partition: offset for (topic, partition), offset in found.items() if topic == self.names.input}

    def audit(self, **how: Any) -> Report:
        """Whether every input record below the committed offsets is accounted for exactly once, and none past them."""
        names = self.names
        found = collect(self.bootstrap, names.group, inputs=names.input, outputs=[names.output], dead_letters=names.dlq)
        return check(*found, **how)


def run_all(pipelines: Iterable[Pipeline], *arguments: str, **how: Any) -> list[Done]:
    """The same run of several pipelines at once: most of a short run's time is waiting for the group."""
    with ExitStack() as stack:
        runs = [stack.enter_context(pipeline.running(*arguments, **how)) for pipeline in pipelines]
        return [run.wait() for run in runs]


def summary_of(record: Record, schema_id: int = 1) -> dict[str, Any]:
    """An output record of SummaryWorker, decoded by fastavro alone."""
    value = record.value or b""
    assert value[:5] == b"\0" + schema_id.to_bytes(4, "big"), "magic byte, schema id"
    decoded: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), SUMMARY, None)
    found: dict[str, Any] = decoded
    return found


def probe(port: int, name: str) -> tuple[bool, dict[str, object]]:
    """What a probe says, and its reasons."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}", timeout=5) as answer:
            found = json.load(answer)
    except urllib.error.HTTPError as error:
        found = json.load(error)
    return found.pop("ok"), found
