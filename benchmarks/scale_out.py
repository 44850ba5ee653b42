"""How long a partition pauses when a second process joins the group: the longest time between two outputs of it.

`python -m benchmarks.scale_out`: one process at a steady rate, then a second one, under each group protocol. Prints a
table; every single run goes to benchmarks/results/scale-out.json.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from benchmarks.lab import Lab, arguments, in_turn, is_trial, opened
from benchmarks.latency import DOCUMENTS, READER, START_SECONDS, WARM_SECONDS, Feeder
from benchmarks.measure import Job, Program, Wrong, running
from benchmarks.report import Column, Runs, save, spread, table
from benchmarks.scrape import metric
from benchmarks.source import Shape
from benchmarks.systems import CONSUMER, EOS
from tests.brokers.settings import free_port

RATE = 500
WATCHED_SECONDS = 30.0
"""From the start of the second process."""
HEARTBEAT = "group.consumer.heartbeat.interval.ms"
"""Of the broker, under `consumer`; under `classic` librdkafka's default holds."""
DEFAULTS = {HEARTBEAT: "5000", "group.consumer.session.timeout.ms": "45000"}
"""Kafka's, where the tests' brokers have shorter ones."""
CLASSIC_HEARTBEAT_SECONDS = 3.0
ASKED_SECONDS = 0.2
PROTOCOLS = ("consumer", "classic")
ASSIGNED = "assigned_partitions"
COLUMNS: list[Column] = [
    spread("longest pause s", "pause_seconds", 2),
    spread("beyond the heartbeat interval s", "beyond_heartbeat_seconds", 2),
    spread("longest before s", "before_seconds", 2),
    spread("second process has its share after s", "shared_seconds", 1),
]


class Pause(NamedTuple):
    """One run; times between two visible outputs of one partition, the longest over all partitions."""

    pause_seconds: float
    """From the start of the second process."""
    beyond_heartbeat_seconds: float
    before_seconds: float
    """In the seconds before that."""
    shared_seconds: float
    """From the start of the second process until it has its half of the partitions."""


def measure(lab: Lab, protocol: str) -> Pause:
    """One run. Raises Wrong where a program ended, nothing came, or the second one was given nothing."""
    name, shape = f"scale-out-{uuid.uuid4().hex[:8]}", Shape()
    documents = [lab.source(shape)(number) for number in range(DOCUMENTS)]
    job = Job(lab.broker.bootstrap, f"{name}.in", name, [name], shape, lab.source(shape))
    with lab.topics(shape.partitions, job.input, job.output, f"{name}.dlq"):
        feeder = Feeder(job, documents, RATE, START_SECONDS + 2 * WARM_SECONDS + WATCHED_SECONDS)
        reader = _Reader(job)
        try:
            with running(_program(job, protocol, "first", 0)) as first, feeder.feeding():
                reader.read(lambda: not reader.every_partition, START_SECONDS)
                reader.read(lambda: not first.ended, WARM_SECONDS)
                port, joined = free_port(), time.monotonic()
                with running(_program(job, protocol, "second", port)) as second:
                    shared = reader.read(lambda: metric(port, ASSIGNED) < shape.partitions / 2, WATCHED_SECONDS)
                    reader.read(lambda: not (first.ended or second.ended), joined + WATCHED_SECONDS - time.monotonic())
                    if first.ended or second.ended or metric(port, ASSIGNED) < shape.partitions / 2:
                        raise Wrong("the second process has no share of the partitions, or one has ended")
        finally:
            reader.close()
    pause = reader.longest(joined, joined + WATCHED_SECONDS)
    heartbeat = CLASSIC_HEARTBEAT_SECONDS if protocol == "classic" else float(lab.broker_setting(HEARTBEAT)) / 1000
    return Pause(pause, pause - heartbeat, reader.longest(joined - WARM_SECONDS / 2, joined), shared - joined)


def _program(job: Job, protocol: str, instance: str, port: int) -> Program:
    settings = {"KAFKA__GROUP_PROTOCOL": protocol, "INSTANCE_ID": instance, "HTTP__PORT": str(port)}
    return CONSUMER._replace(environ=settings).program(job, EOS)


class _Reader:
    """Notes when each output became visible; none may be missing, come twice, or come before one that precedes it."""

    def __init__(self, job: Job) -> None:
        self._next = list(range(job.shape.partitions))
        """By partition, the number that comes next: the feeder deals them out in turn."""
        self._seen: list[list[float]] = [[] for _ in range(job.shape.partitions)]
        self._consumer = Consumer({"bootstrap.servers": job.bootstrap, **READER})
        self._consumer.assign([TopicPartition(job.output, at, 0) for at in range(job.shape.partitions)])

    @property
    def every_partition(self) -> bool:
        """Whether there is an output in each."""
        return all(self._seen)

    def read(self, wanted: Callable[[], bool], seconds: float) -> float:
        """Read while it is `wanted`, at most for so long; returns when that ended."""
        until, asked = time.monotonic() + seconds, 0.0
        while (now := time.monotonic()) < until:
            if now - asked > ASKED_SECONDS:
                asked = now
                if not wanted():
                    break
            first = self._consumer.poll(0.02)  # `consume(n, t)` would wait all of t for n records
            now = time.monotonic()
            for message in [first, *self._consumer.consume(10_000, 0)] if first else []:
                if error := message.error():
                    raise KafkaException(error)
                at = message.partition() or 0
                if message.key() != str(self._next[at]).encode():
                    raise Wrong(f"{message.key()!r} came in partition {at} where {self._next[at]} comes next")
                self._next[at] += len(self._next)
                self._seen[at].append(now)
        return now

    def longest(self, begin: float, end: float) -> float:
        """The longest time without a new output of a partition between two moments, the moments included."""
        return max(
            later - earlier
            for seen in self._seen
            for earlier, later in pairwise([begin, *(at for at in seen if begin < at < end), end])
        )

    def close(self) -> None:
        self._consumer.close()


def shown(runs: Runs) -> str:
    """The table."""
    return table(runs, "group protocol", COLUMNS)


def main() -> int:
    """Measure; 1 where a run failed."""
    parser = arguments(str(__doc__).partition("\n")[0], rounds=3)
    args = parser.parse_args()
    with opened(args, DEFAULTS) as lab:

        def once(protocol: str) -> tuple[Pause, str]:
            found = measure(lab, protocol)
            return found, f"longest pause {found.pause_seconds:5.2f} s, before {found.before_seconds:.2f} s"

        about = lab.about(Shape())
        runs = in_turn(PROTOCOLS, args.rounds, once)
    print(f"\n{shown(runs)}\n{save('scale-out', about, runs, trial=is_trial(parser, args))}")
    return 0 if len(runs) == len(PROTOCOLS) else 1


if __name__ == "__main__":
    sys.exit(main())
