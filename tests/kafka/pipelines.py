"""Runs `checkpoint-consumer run` as its users do, feeds it, and judges it by the topics it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from consumer.failpoints import FIRED, VARIABLE
from consumer.generate import generate
from tests.brokers.topics import Topics
from tests.checker import ConcurrentReader, Record, Report, check, collect
from tests.workers_for_tests import UNDECODABLE, expected_values, is_filtered, is_undecodable

ROOT = Path(__file__).parents[2]
PARTITIONS = 6
TRANSACTION_RECORDS = 250
ABORTED_RECORDS = 7
SESSION_SECONDS = 6
"""Of the test brokers under `consumer`, and asked for under `classic`."""
NOTHING: Mapping[str, str] = {}
DIED = "member died, it is started again"
"""What the supervisor logs."""


def eventually(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """The first true value of `condition`, which is asked over and over; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        threading.Event().wait(0.05)
    return found


def together(scenario: Callable[[Pipeline], object], pipelines: Sequence[Pipeline]) -> None:
    """Run `scenario` on every pipeline at once, and raise the first failure when all have ended."""
    with ThreadPoolExecutor(len(pipelines)) as pool:
        for done in [pool.submit(scenario, pipeline) for pipeline in pipelines]:
            done.result()


@lru_cache(maxsize=20_000)
def checkpoint(number: int) -> bytes:
    """What is fed as checkpoint `number`: about 3 KB."""
    return UNDECODABLE if is_undecodable(number) else generate(number, transactions=1, size_bytes=0)


class Run:
    """One `checkpoint-consumer run`: a supervisor and its members, in a session of their own."""

    def __init__(self, environ: Mapping[str, str], log: Path, prefix: Sequence[str] = ()) -> None:
        self.log = log
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "consumer", "run"],
                cwd=ROOT,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def events(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """The log lines of this event with these fields."""
        return [line for line in self._lines() if line["event"] == event and fields.items() <= line.items()]

    def wait_for(self, event: str) -> None:
        """Until this event is in its log."""
        eventually(lambda: self.events(event), f"{event} in {self.log.name}")

    def owned(self) -> set[int]:
        """The partitions of its members, by their log."""
        owned: dict[int, set[int]] = {}
        for line in self._lines():
            match line["event"]:
                case "joining":
                    owned[line["member"]] = set()
                case event if event == DIED:
                    owned.pop(int(line["member"].rpartition("-")[2]), None)
                case "partitions assigned":
                    owned[line["member"]].update(line["partitions"])
                case "partitions revoked" | "partitions lost":
                    owned[line["member"]].difference_update(line["partitions"])
        return set().union(*owned.values())

    def members(self) -> list[int]:
        """The process ids of its members, by its log."""
        return [line["pid"] for line in self.events("member started")]

    def left(self) -> list[str]:
        """The processes of its session that still run."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(f"{process.pid} {' '.join(process.cmdline())[:200]}")
            except (psutil.NoSuchProcess, ProcessLookupError):
                continue
        return found

    def signal(self, number: int) -> None:
        """To the supervisor alone, as an orchestrator does it."""
        self.process.send_signal(number)

    def wait(self, seconds: float) -> int:
        """The exit code, within `seconds`."""
        return self.process.wait(seconds)

    def stop(self, seconds: float = 15) -> None:
        """End it in order; AssertionError where that fails or leaves a process."""
        self.signal(signal.SIGTERM)
        assert self.wait(seconds) == 0, self.tail()
        eventually(lambda: not self.left(), f"no process left of {self.left()}", 3)

    def kill(self) -> None:
        """Kill whatever still runs."""
        for line in self.left():
            os.kill(int(line.split()[0]), signal.SIGKILL)
        self.process.kill()
        self.process.wait()

    def tail(self) -> str:
        """The end of its log."""
        return f"{self.log.name}:\n{self.log.read_text()[-6000:]}"

    def _lines(self) -> Iterator[dict[str, Any]]:
        for line in self.log.read_text().splitlines(keepends=True):
            if line.startswith("{") and line.endswith("\n"):  # else it is still being written
                yield json.loads(line)


class Pipeline:
    """One group between topics of its own: what feeds it, the processes that run it, and what is said about it.

    The input is written by transactions of which some are aborted, so its offsets have holes; some of its checkpoints
    are filtered by the worker, some give several messages, some cannot be decoded.
    """

    def __init__(self, bootstrap: str, names: Topics, folder: Path, reduced: bool, settings: Mapping[str, str]) -> None:
        self.names = names
        self.reduced = reduced
        self.runs: list[Run] = []
        self.fed = 0
        self._bootstrap = bootstrap
        self.folder = folder
        self._fired = folder / "fired"
        self._fired.mkdir()
        self._settings = settings
        self._ends: dict[int, int] = {}
        # Not an AdminClient: once its broker has died under it, it aborts the process or never answers again.
        onlooker = {"bootstrap.servers": bootstrap, "group.id": names.group, "isolation.level": "read_uncommitted"}
        self._onlooker = Consumer({**onlooker, "log_level": 0})
        self._unanswered: KafkaException | None = None
        self._feeder = Producer(
            {
                "bootstrap.servers": bootstrap,
                "transactional.id": f"{names.group}-feeder",
                "compression.type": "lz4",
                "linger.ms": 2,
            }
        )
        self._feeder.init_transactions(30)
        self._reader = ConcurrentReader(bootstrap, [names.output])

    # -------------------------------------------------------------------------------------------------- feeding

    def feed(self, count: int) -> None:
        """Write the next `count` checkpoints, number n to partition n % 6, and aborted ones in between."""
        assert count > 0
        for start in range(self.fed, self.fed + count, TRANSACTION_RECORDS):
            stop = min(start + TRANSACTION_RECORDS, self.fed + count)
            self._write(range(start, stop), self._delivered)
            self._feeder.commit_transaction(30)
            self._write(range(stop, stop + ABORTED_RECORDS), None)
            self._feeder.flush(30)
            self._feeder.abort_transaction(30)
        self.fed += count

    def _write(self, numbers: Sequence[int], delivered: Callable[[KafkaError | None, Message], None] | None) -> None:
        self._feeder.begin_transaction()
        for number in numbers:
            self._feeder.produce(
                self.names.input, checkpoint(number), str(number), number % PARTITIONS, on_delivery=delivered
            )

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        self._ends[message.partition() or 0] = (message.offset() or 0) + 1

    # -------------------------------------------------------------------------------------------------- running

    def start(
        self,
        instance: str,
        failpoints: Mapping[str, str] = NOTHING,
        settings: Mapping[str, str] = NOTHING,
        prefix: Sequence[str] = (),
    ) -> Run:
        """Start a `run` as instance `instance`; failpoints by place, settings by their names less the prefix.

        `prefix`: what starts the command instead of us.
        """
        environ = {name: value for name, value in os.environ.items() if not name.startswith("CONSUMER_")}
        environ |= self.environment(instance, settings)
        points = ",".join(f"{place}={action}" for place, action in failpoints.items())
        environ |= {VARIABLE: points, FIRED: str(self._fired)}
        run = Run(environ, self.folder / f"{instance}.{len(self.runs)}.log", prefix)
        self.runs.append(run)
        return run

    def environment(self, instance: str, settings: Mapping[str, str]) -> dict[str, str]:
        """The settings of instance `instance`, `settings` among them, as variables."""
        configured = {**self._defaults(), **self._settings, "INSTANCE_ID": instance, **settings}
        return {f"CONSUMER_{name}": value for name, value in configured.items()}

    def _defaults(self) -> dict[str, str]:
        return {
            "KAFKA__BOOTSTRAP_SERVERS": self._bootstrap,
            "KAFKA__OPTIONS": json.dumps(
                {"session.timeout.ms": str(SESSION_SECONDS * 1000), "heartbeat.interval.ms": "1000"}
            ),
            "GROUP_ID": self.names.group,
            "INPUT_TOPIC": self.names.input,
            "OUTPUT_TOPIC": self.names.output,
            "DLQ_TOPIC": self.names.dlq,
            "WORKER": "tests.workers_for_tests:PickyWorker",
            **({"REDUCER": "tests.workers_for_tests:TotalReducer"} if self.reduced else {}),
            "START": "earliest",
            "BATCH__MAX_MESSAGES": "100",
            "HTTP__PORT": "0",
            "LOG__FORMAT": "json",
        }

    def fired(self) -> dict[str, int]:
        """The failpoints that acted, and in which process."""
        return {mark.name: int(text) for mark in self._fired.iterdir() if (text := mark.read_text())}

    def wait_until_fired(self, places: Collection[str], least: int | None = None, *, feeding: int = 0) -> None:
        """Until the failpoints at all of these places have acted, or at least at so many of them.

        `feeding`: so many checkpoints are written every second meanwhile. How many transactions a backlog becomes is
        up to the members, so a place that acts at a third transaction may never be reached with what is there.
        """
        wanted = len(places) if least is None else least
        fed = time.monotonic()

        def enough() -> bool:
            nonlocal fed
            if feeding and time.monotonic() - fed >= 1:
                fed = time.monotonic()
                self.feed(feeding)
            return len(self.fired().keys() & set(places)) >= wanted

        eventually(enough, f"{wanted} of {places} fired")

    def wait_until_owned(self, run: Run, seconds: float = 60) -> None:
        """Until `run` has every partition."""
        eventually(lambda: run.owned() == set(range(PARTITIONS)), f"{run.log.name} owns all partitions", seconds)

    # ------------------------------------------------------------------------------------------------- the result

    def committed(self) -> dict[int, int]:
        """The group's next offset per partition, open transactions left out; none while nobody answers."""
        try:
            found = {at.partition: at.offset for at in self.offsets()}
        except KafkaException as error:  # the deadline of whoever asks bounds this
            self._unanswered = error
            return {}
        self._unanswered = None
        return found

    def offsets(self) -> list[TopicPartition]:
        """The same with the metadata, asked once."""
        wanted = [TopicPartition(self.names.input, number) for number in range(PARTITIONS)]
        return [at for at in self._onlooker.committed(wanted, 5) if at.offset >= 0]

    def commit(self, offsets: list[TopicPartition]) -> None:
        """In the group's name, while it has no member."""
        request = [ConsumerGroupTopicPartitions(self.names.group, offsets)]
        admin = AdminClient({"bootstrap.servers": self._bootstrap})
        for future in admin.alter_consumer_group_offsets(request).values():
            future.result()

    def members(self) -> list[str]:
        """The members of the group, as the broker sees it."""
        admin = AdminClient({"bootstrap.servers": self._bootstrap})
        try:
            described = admin.describe_consumer_groups([self.names.group])[self.names.group].result()
        except KafkaException as error:
            return [f"not known yet: {error}"]
        return [member.client_id for member in described.members]

    def wait_until_done(self, seconds: float = 60) -> None:
        """Until everything fed so far is committed."""
        self._feeder.flush(30)
        deadline = time.monotonic() + seconds
        while left := self.behind():
            assert time.monotonic() < deadline, self._late(left, seconds)
            threading.Event().wait(0.05)

    def _late(self, left: Mapping[int, tuple[int, int]], seconds: float) -> str:
        """What is known of a group that does not get on."""
        group = AdminClient({"bootstrap.servers": self._bootstrap}).describe_consumer_groups([self.names.group])
        try:
            told = group[self.names.group].result(10)
            owned = [
                (one.client_id, one.member_id, [at.partition for at in one.assignment.topic_partitions])
                for one in told.members  # among them, perhaps, some whose processes are gone
            ]
            state = f"{told.state}, {owned}"
        except (KafkaException, TimeoutError) as error:
            state = repr(error)
        reads = f"committed, of end, after {seconds} s: {left}; without an answer: {self._unanswered}"
        logged = "\n".join(line[:300] for line in self.runs[-1].log.read_text().splitlines()[-20:])
        return f"{reads}; the group: {state}; the last run:\n{logged}"

    def behind(self) -> dict[int, tuple[int, int]]:
        """The partitions that are not done: what is committed of each, and its end."""
        found = self.committed()
        return {at: (found.get(at, 0), end) for at, end in self._ends.items() if found.get(at, 0) < end}

    def report(self, *, once: bool = True) -> Report:
        """What the topics say, once every run has ended, and what a concurrent reader saw."""
        found = collect(
            self._bootstrap,
            self.names.group,
            inputs=self.names.input,
            outputs=[self.names.output],
            dead_letters=self.names.dlq,
        )
        assert len(found.inputs) == self.fed
        assert max(record.offset for record in found.inputs) > self.fed // PARTITIONS, "the input has no holes"
        return check(
            found.inputs,
            found.outputs,
            found.dead_letters,
            found.committed,
            filtered=lambda record: is_filtered(number_of(record)),
            expected_values=lambda records: expected_values(records, self.reduced),
            concurrent=self._reader.finish(),
            allow_duplicates=not once,
        )

    def judge(self) -> Report:
        """AssertionError unless everything fed is accounted for exactly once."""
        report = self.report()
        assert report.ok, str(report)
        assert self.committed() == self._ends
        assert report.accounted == self.fed
        assert report.filtered == sum(map(is_filtered, range(self.fed)))
        assert report.dead_letters == sum(map(is_undecodable, range(self.fed)))
        return report

    def close(self) -> None:
        """Kill what a failed test left running, and print the ends of the logs, which pytest shows on failure."""
        for run in self.runs:
            run.kill()
            print(run.tail())
        self._onlooker.close()


def number_of(record: Record) -> int:
    """The checkpoint's number: its key."""
    return int(record.key or b"")
