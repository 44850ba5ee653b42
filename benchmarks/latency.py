"""How long it takes from the moment an input record is sent to the moment its output is visible, read_committed.

`python -m benchmarks.latency`: one system after the other on a paced input, each rate in turn. README.md says how it is
measured. Prints a table; every single run goes to benchmarks/results/latency.json.
"""

from __future__ import annotations

import math
import multiprocessing
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.sharedctypes import RawArray, RawValue
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from benchmarks.bench import MB
from benchmarks.lab import Lab, arguments, in_turn, is_trial, opened
from benchmarks.measure import Job, Usage, Wrong, running
from benchmarks.report import Column, Runs, plain, save, spread, table
from benchmarks.source import LARGEST, Shape, put, renumbered
from benchmarks.systems import EOS, SYSTEMS, System, without_what_cannot_be_built

START_SECONDS = 60.0
"""In which the first output must come."""
WARM_SECONDS = 6.0
"""From the first output: what was sent before is made up for, caches and compilers warm up."""
GRACE_SECONDS = 0.5
"""What was sent so shortly before the end of the run is left out."""
SYSTEMS_BESIDE = ["consumer", "streams-100ms", "quix-100ms", "quix-each"]
RATES = [50.0, 500.0, 2000.0]
DOCUMENTS = 100
"""That come again and again with other numbers: a paced feeder has no time to make new ones."""
READER = {
    "log_level": 0,
    "group.id": "benchmark-observer",
    "enable.auto.commit": False,
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
    "fetch.wait.max.ms": 5,
}
FEEDER = {"linger.ms": 0, "log_level": 0, "message.max.bytes": LARGEST, "queue.buffering.max.kbytes": LARGEST // 1024}
COLUMNS: list[Column] = [
    spread("p50 ms", "p50_ms", 1),
    spread("p99 ms", "p99_ms", 1),
    plain("max ms", "max_ms", 1),
    plain("sent/s", "sent_per_second"),
    plain("seen %", "seen_percent", 1),
    plain("CPU s/10,000", "cpu_seconds_per_10000", 2),
    plain("largest MB", "largest_bytes", unit=MB),
    plain("stolen %", "stolen_percent", 1),
]


class Latency(NamedTuple):
    """One run, after its warm-up."""

    p50_ms: float
    p99_ms: float
    max_ms: float
    sent_per_second: float
    """What the feeder managed."""
    seen_percent: float
    """Of the records sent: those whose output was there when the run ended; less than 100: it does not keep up."""
    cpu_seconds_per_10000: float
    largest_bytes: int


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed. Raises ValueError: there is none."""
    if not ordered:
        raise ValueError("no value was measured")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class Feeder:
    """A process that sends `rate` checkpoints a second; when it sent which one is in shared memory."""

    def __init__(self, job: Job, documents: list[bytes], rate: float, seconds: float) -> None:
        self.sent = RawArray("d", int(rate * seconds * 1.1) + 1)
        """By number, `time.monotonic()`, which is one clock for all processes; 0: not yet."""
        self._stopped = RawValue("b", 0)
        given = (job.bootstrap, job.input, job.shape.partitions, documents, rate, self.sent, self._stopped)
        self._process = multiprocessing.get_context("spawn").Process(target=_feed, args=given, daemon=True)

    @contextmanager
    def feeding(self) -> Iterator[None]:
        """From its start to its end."""
        self._process.start()
        try:
            yield
        finally:
            self._stopped.value = 1
            self._process.join(10)
            self._process.kill()


def _feed(
    bootstrap: str, topic: str, partitions: int, documents: list[bytes], rate: float, sent: Any, stopped: Any
) -> None:
    source = renumbered(documents)
    producer = Producer({"bootstrap.servers": bootstrap, **FEEDER})
    producer.list_topics(topic, 10)
    started = time.monotonic()
    for number in range(len(sent)):
        while (early := started + number / rate - time.monotonic()) > 0:
            time.sleep(min(early, 0.01))
        if stopped.value:
            break
        value = source(number)
        sent[number] = time.monotonic()
        put(producer, topic, value, number, partitions)
    producer.flush(5)


def measure(lab: Lab, system: System, rate: float, seconds: float) -> Latency:
    """One run. Raises Wrong where the program ended, nothing came, or something twice."""
    name, shape = f"latency-{uuid.uuid4().hex[:8]}", Shape()
    documents = [lab.source(shape)(number) for number in range(DOCUMENTS)]
    job = Job(lab.broker.bootstrap, f"{name}.in", name, [name], shape, lab.source(shape), system.work)
    with lab.topics(shape.partitions, job.input, job.output, f"{name}.dlq"):
        feeder = Feeder(job, documents, rate, START_SECONDS + WARM_SECONDS + seconds)
        reader = Consumer({"bootstrap.servers": job.bootstrap, **READER})
        reader.assign([TopicPartition(job.output, at, 0) for at in range(shape.partitions)])
        try:
            with running(system.program(job, EOS)) as usage, feeder.feeding():
                return _watch(reader, usage, feeder.sent, seconds)
        finally:
            reader.close()


def _watch(reader: Consumer, usage: Usage, sent: Any, seconds: float) -> Latency:
    visible = [0.0] * len(sent)
    first_by, begin, cpu = time.monotonic() + START_SECONDS, 0.0, 0.0
    while not begin or (now := time.monotonic()) < begin + seconds:
        if usage.ended or (not begin and time.monotonic() > first_by):
            raise Wrong("it ended" if usage.ended else f"no output in {START_SECONDS:.0f} s")
        if begin and not cpu and now > begin:
            cpu = usage.cpu()
        first = reader.poll(0.02)  # `consume(n, t)` would wait all of t for n records
        now = time.monotonic()
        for message in [first, *reader.consume(10_000, 0)] if first else []:
            if error := message.error():
                raise KafkaException(error)
            number = int(message.key() or b"0")
            if visible[number]:
                raise Wrong(f"checkpoint {number} came twice")
            visible[number] = now
            begin = begin or now + WARM_SECONDS
    end = begin + seconds
    recent = end - GRACE_SECONDS
    waits, seen = waited(sent, visible, begin, recent, end)
    if not waits:
        raise Wrong("nothing was sent to it")
    return Latency(
        percentile(waits, 0.5) * 1000,
        percentile(waits, 0.99) * 1000,
        waits[-1] * 1000,
        len(waits) / (recent - begin),
        100 * seen / len(waits),
        (usage.cpu() - cpu) / max(1, sum(at > begin for at in visible)) * 10_000,
        usage.largest_bytes,
    )


def waited(
    sent: Sequence[float], visible: Sequence[float], begin: float, recent: float, end: float
) -> tuple[list[float], int]:
    """Of what was sent from `begin` to `recent`: the seconds until it was visible, ordered, and how many were.

    What is not visible at the `end` counts with what it has waited until then: less than the truth, not nothing.
    """
    asked = [(at, seen) for at, seen in zip(sent, visible, strict=True) if begin < at <= recent]
    return sorted((seen or end) - at for at, seen in asked), sum(seen > 0 for _, seen in asked)


def main() -> int:
    """Measure; 1 where a program did not do its job."""
    parser = arguments(str(__doc__).partition("\n")[0], rounds=2)
    parser.add_argument("--systems", nargs="*", choices=SYSTEMS, default=SYSTEMS_BESIDE, metavar="NAME")
    parser.add_argument("--rates", nargs="*", type=float, default=RATES, help="checkpoints a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="that are measured (default: %(default)s)")
    args = parser.parse_args()
    names = without_what_cannot_be_built(args.systems)
    variants = {f"{name} {rate:.0f}/s": (SYSTEMS[name], rate) for rate in args.rates for name in names}
    with opened(args) as lab:

        def once(label: str) -> tuple[Latency, str]:
            found = measure(lab, *variants[label], args.seconds)
            return found, f"p50 {found.p50_ms:8,.1f} ms   p99 {found.p99_ms:8,.1f} ms"

        about = lab.about(Shape())
        runs = in_turn(list(variants), args.rounds, once)
    print(f"\n{shown(runs)}\n{save('latency', about, runs, trial=is_trial(parser, args))}")
    return 0 if len(runs) == len(variants) else 1


def shown(runs: Runs) -> str:
    """The table."""

    def title(label: str) -> str:
        name, rate = label.split()
        return f"{SYSTEMS[name].title}, {rate}"

    return table(runs, "system", COLUMNS, title)


if __name__ == "__main__":
    sys.exit(main())
