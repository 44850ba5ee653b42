"""`python -m benchmarks.memory`: the peak resident memory of members and supervisor, on a real broker.

Backlogs of checkpoints of 5 KB to 50 MB, each with three workflows, next to the `bound` that the README's "Limits"
promise. `--soak SECONDS` feeds at a steady rate instead, and says how much the memory grows.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from consumer.generate import generate
from tests.brokers.jvm import JvmBroker

PARTITIONS = 6
MIB = 1024 * 1024
LARGEST = 90 * MIB
TIMEOUT_SECONDS = 600.0
SAMPLE_SECONDS = 0.2
SETTLED_SHARE = 0.2
"""Of a soak: the start, which the slope leaves out."""


def bound(largest_record: int, budget: int = 64 * MIB) -> int:
    """What a member may have resident at most, in bytes; the record's unpacked, `budget` CONSUMER_MEMORY__MAX_BYTES."""
    return 80_000_000 + budget + 3 * largest_record


class Case(NamedTuple):
    """A backlog of `records` checkpoints of `size_bytes`."""

    records: int
    size_bytes: int
    transactions: int


CASES = {
    "5KB": Case(200_000, 5_000, 1),
    "40KB": Case(40_000, 40_000, 4),
    "175KB": Case(20_000, 175_000, 8),
    "8MB": Case(150, 8_000_000, 100),
    "50MB": Case(40, 50_000_000, 200),
}
VARIANTS = {
    "summary": {"WORKER": "consumer.workers:SummaryWorker"},
    "transactions": {"WORKER": "consumer.workers:TransactionWorker"},
    "reducer": {"WORKER": "consumer.workers:SummaryWorker", "REDUCER": "consumer:Reducer"},
}


class Run:
    """`checkpoint-consumer run` over a topic, with the memory of its processes."""

    def __init__(self, bootstrap: str, topics: Sequence[str], settings: Mapping[str, str]) -> None:
        self.topic, output, dead_letters = topics
        group = f"{self.topic}-{uuid.uuid4().hex[:6]}"
        defaults = {
            "KAFKA__BOOTSTRAP_SERVERS": bootstrap,
            "GROUP_ID": group,
            "INPUT_TOPIC": self.topic,
            "OUTPUT_TOPIC": output,
            "DLQ_TOPIC": dead_letters,
            "START": "earliest",
            "HTTP__PORT": "0",
            "LOG__LEVEL": "warning",
        }
        self.environ = {f"CONSUMER_{name}": value for name, value in {**defaults, **settings}.items()}
        self.peaks: dict[int, int] = {}
        """By process id, the supervisor's first; resident bytes."""
        watch = {"bootstrap.servers": bootstrap, "group.id": group, "isolation.level": "read_committed"}
        self._onlooker = Consumer({**watch, "log_level": 0})
        self._partitions = [TopicPartition(self.topic, at) for at in range(PARTITIONS)]

    @contextmanager
    def running(self) -> Iterator[psutil.Process]:
        """From its start to its orderly end; RuntimeError with its log where that fails."""
        with tempfile.TemporaryFile() as log:
            environ = {**os.environ, **self.environ}
            process = subprocess.Popen([sys.executable, "-m", "consumer", "run"], env=environ, stdout=log, stderr=log)
            try:
                yield psutil.Process(process.pid)
                process.send_signal(signal.SIGTERM)
                if process.wait(20) != 0:
                    raise RuntimeError(f"exit code {process.returncode}")
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                log.seek(0)
                raise SystemExit(f"{error}; it said: {log.read()[-2000:].decode(errors='replace')}") from None
            finally:
                process.kill()
                process.wait()

    def sample(self, root: psutil.Process) -> int:
        """Take in the peaks; returns what the largest process has resident now, in bytes."""
        now = 0
        for process in (root, *root.children()):
            try:
                fields = dict(
                    line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
                )
            except FileNotFoundError:
                continue
            if "VmHWM" in fields and (process is root or "spawn_main" in " ".join(process.cmdline())):
                self.peaks[process.pid] = int(fields["VmHWM"].split()[0]) * 1024
                now = max(now, int(fields["VmRSS"].split()[0]) * 1024)
        return now

    def committed(self) -> int:
        """Input records that the group has committed; 0 while the coordinator cannot say."""
        try:
            return sum(max(0, at.offset) for at in self._onlooker.committed(self._partitions, 10))
        except KafkaException:  # the deadline of whoever asks bounds this
            return 0

    def close(self) -> None:
        self._onlooker.close()


def backlog(run: Run, records: int) -> float:
    """Run until a backlog of so many records is done; returns the seconds from the first commit on."""
    first = None
    with run.running() as root:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while (done := run.committed()) < records:
            run.sample(root)
            first = first or (time.monotonic() if done else None)
            if not root.is_running() or root.status() == psutil.STATUS_ZOMBIE or time.monotonic() > deadline:
                raise RuntimeError(f"{done:,} of {records:,} committed")
            time.sleep(SAMPLE_SECONDS)
        run.sample(root)
        return time.monotonic() - (first or time.monotonic())


def soak(run: Run, producer: Producer, rate: int, seconds: float) -> None:
    """Feed `rate` checkpoints of 40 KB a second, print the resident size of the member, and its slope."""
    points: list[tuple[float, int]] = []
    started = time.monotonic()
    fed = 0
    with run.running() as root:
        said = started
        while (now := time.monotonic()) < started + seconds:
            while fed < (now - started) * rate:
                producer.produce(run.topic, generate(fed), str(fed), fed % PARTITIONS)
                fed += 1
            producer.poll(0.05)
            points.append((now - started, run.sample(root)))
            if now - said >= max(1.0, seconds / 30):
                said = now
                lag = fed - run.committed()
                print(f"{now - started:7.0f} s  {points[-1][1] / 1e6:6.1f} MB  lag {lag:,}", flush=True)
    settled = [point for point in points if point[0] > SETTLED_SHARE * seconds]
    slope = _slope(settled)
    half = len(settled) // 2
    early, late = (max(size for _, size in part) / 1e6 for part in (settled[:half], settled[half:]))
    print(f"highest: {early:.1f} MB, then {late:.1f} MB; slope {slope * 3600 / 1e6:+.2f} MB an hour, {fed:,} records")


def _slope(points: list[tuple[float, int]]) -> float:
    """Bytes a second, by least squares."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)


def fill(producer: Producer, topic: str, case: Case) -> None:
    """Publish the backlog."""
    for number in range(case.records):
        value = generate(number, size_bytes=case.size_bytes, transactions=case.transactions)
        while True:
            try:
                producer.produce(topic, value, str(number), number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if producer.flush(120):
        raise SystemExit("the input topic could not be filled: no answer for 120 s")


@contextmanager
def _topics(bootstrap: str) -> Iterator[list[str]]:
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    topic = f"memory-{uuid.uuid4().hex[:8]}"
    names = [topic, f"{topic}.out", f"{topic}.dlq"]
    config = {"max.message.bytes": str(LARGEST)}
    for made in admin.create_topics([NewTopic(name, PARTITIONS, 1, config=config) for name in names]).values():
        made.result()
    try:
        yield names
    finally:
        for gone in admin.delete_topics(names).values():
            gone.result()


def main() -> None:
    """Measure."""
    args = _arguments()
    settings = dict(pair.split("=", 1) for pair in args.set)
    broker = JvmBroker(heap="700m")
    try:
        conf = {"bootstrap.servers": broker.bootstrap, "compression.type": args.compression, "linger.ms": 20}
        producer = Producer({**conf, "message.max.bytes": LARGEST, "queue.buffering.max.kbytes": 4 * LARGEST // 1024})
        if args.soak:
            with _topics(broker.bootstrap) as topics:
                run = Run(broker.bootstrap, topics, {**VARIANTS[args.variant[0]], **settings})
                soak(run, producer, args.rate, args.soak)
            return
        for name in args.case:
            case = CASES[name]
            with _topics(broker.bootstrap) as topics:
                fill(producer, topics[0], case)
                for variant in args.variant:
                    run = Run(broker.bootstrap, topics, {**VARIANTS[variant], **settings})
                    seconds = backlog(run, case.records)
                    supervisor, *members = (f"{peak / 1e6:.0f}" for peak in run.peaks.values())
                    rate = case.records / max(seconds, 0.1)
                    sizes = (
                        f"members {' '.join(members)} MB of {bound(case.size_bytes) / 1e6:.0f}, supervisor {supervisor}"
                    )
                    print(f"{name:>6} {variant:>12}: {sizes} MB, {rate:,.0f}/s", flush=True)
                    run.close()
    except Exception:
        print(f"the end of the broker's log:\n{broker.log.read_text()[-4000:]}", file=sys.stderr)
        raise
    finally:
        broker.close()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--case", nargs="*", default=list(CASES), choices=CASES)
    parser.add_argument("--variant", nargs="*", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--compression", default="zstd", help="of the input (default: %(default)s)")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="feed at a steady rate for so long")
    parser.add_argument("--rate", type=int, default=500, help="checkpoints a second of a soak (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting, less CONSUMER_")
    return parser.parse_args()


if __name__ == "__main__":
    main()
