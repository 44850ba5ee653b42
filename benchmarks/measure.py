"""Measures one program that publishes something of each checkpoint of the input topic, and verifies what it did."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from benchmarks.jobs import SUMMARIES, Work
from benchmarks.source import Shape, Source

TIMEOUT_SECONDS = 60.0
"""Without any new output."""
SAMPLE_SECONDS = 0.1
WARM_SHARE = 1 / 3
"""Of the output, at the beginning, that does not count: a program fills its buffers, a JVM compiles."""
LATE_SHARE = 0.95
"""Behind which nothing counts either: the last batch waits for a timer, of a second in most programs."""
VERIFIED = 200
"""Output records that are decoded and compared, of those chosen by chance."""
OBSERVER = {
    "log_level": 0,
    "enable.auto.commit": False,
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
    # Few and large fetches: the observer shares the machine with what it observes, and sees to 50 ms.
    "fetch.min.bytes": 200_000,
    "fetch.wait.max.ms": 50,
    "enable.partition.eof": True,
}


class Wrong(Exception):
    """The program failed, or did not do the job."""


class Result(NamedTuple):
    """What one run took; a rate and CPU time per record over the output that counts: see WARM_SHARE, LATE_SHARE."""

    records_per_second: float
    cpu_seconds_per_10000: float
    """User and system time of the program and all its children."""
    peak_bytes: int
    """Resident memory of all its processes together."""
    largest_bytes: int
    """Resident memory of the largest of its processes."""
    first_seconds: float
    """From the start to the first output."""
    wall_seconds: float
    """From the start to the last output."""
    whole_records_per_second: float
    """From the first output on, in which a JVM compiles, but nothing that is worked ahead is left out."""
    whole_cpu_seconds_per_10000: float
    """In the same stretch."""
    duplicates: int


class _Moment(NamedTuple):
    """How far a run is: seconds since its start, share of the output that is there, CPU seconds so far."""

    seconds: float
    share: float
    cpu: float

    def since(self, earlier: _Moment, records: int) -> tuple[float, float]:
        """Records a second, and CPU seconds for each 10,000 of them; `records` in the whole run."""
        done = (self.share - earlier.share) * records
        return done / (self.seconds - earlier.seconds), (self.cpu - earlier.cpu) / done * 10_000


class Job(NamedTuple):
    """What is to be done, and where."""

    bootstrap: str
    input: str
    output: str
    groups: Sequence[str]
    """One, or those of several pools that publish to the same output."""
    shape: Shape
    source: Source
    work: Work = SUMMARIES
    each: Sequence[int] = ()
    """Output records of each checkpoint; empty: one of each."""
    skipped: Callable[[int], bool] = lambda number: False
    """Checkpoints that are to give no output."""

    def outputs(self, number: int) -> list[Any]:
        """The decoded output records of one checkpoint."""
        return [] if self.skipped(number) else self.work.outputs(self.source(number)) * len(self.groups)

    def counts(self) -> list[int]:
        """How many output records each checkpoint is to give."""
        each = self.each or [1] * self.shape.records
        return [0 if self.skipped(number) else count * len(self.groups) for number, count in enumerate(each)]


class Program(NamedTuple):
    """What is measured, and what of its work can be checked."""

    command: Sequence[str]
    environ: Mapping[str, str] = {}
    exit_code: int = 0
    """Of a program that SIGTERM ended in order."""
    commits: bool = True
    """It keeps its progress in the group's offsets."""
    decodes: bool = True
    """What it publishes is of the checkpoint."""
    keeps_order: bool = True
    """Keys of one output partition come in the order of the input."""
    exactly_once: bool = False
    """It promises it: no output record may come twice."""


@contextmanager
def running(program: Program) -> Iterator[Usage]:
    """The program from its start to its end by SIGTERM, with what it uses.

    Raises:
        Wrong: it did not end in order, or the caller says so; with the end of the program's output.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            program.command,
            env={**os.environ, **program.environ},
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        usage = Usage(process)
        try:
            yield usage
            process.terminate()
            if process.wait(20) != program.exit_code:
                raise Wrong(f"exit code {process.returncode}")
        except (Wrong, subprocess.TimeoutExpired) as error:
            log.seek(0)
            raise Wrong(f"{error}; it said: {log.read()[-2000:].decode(errors='replace')}") from None
        finally:
            usage.close()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def measure(job: Job, program: Program) -> Result:
    """Run the program until its output is complete, stop it by SIGTERM, and verify.

    Raises:
        Wrong: it ended early, was too slow, did not end in order, or its output or its offsets are not right.
    """
    observer = _Observer(job)
    with running(program) as usage:
        result = _watch(observer, usage)
    observer.read_to_the_end()
    observer.close()
    _verify(job, program, observer)
    return result._replace(duplicates=observer.duplicates)


def _watch(observer: _Observer, usage: Usage) -> Result:
    started, moved, before = time.monotonic(), 0.0, 0.0
    first: _Moment | None = None
    warm: _Moment | None = None
    late: _Moment | None = None
    while observer.missing:
        observer.read(0.05)
        now, share = time.monotonic() - started, observer.share
        if share > before:
            moved, before = now, share
            first = first or _Moment(now, share, usage.cpu())
        if warm is None and share > WARM_SHARE:
            warm = _Moment(now, share, usage.cpu())
        if late is None and share > LATE_SHARE:
            late = _Moment(now, share, usage.cpu())
        if usage.ended or now - moved > TIMEOUT_SECONDS:
            raise Wrong(f"{observer.missing:,} output records are missing after {now:.0f} s")
    last = time.monotonic() - started
    if first is None or warm is None or late is None or late.share == warm.share:
        raise Wrong("all output that counts became visible at once: use more checkpoints")
    rate, cpu = late.since(warm, observer.records)
    whole_rate, whole_cpu = late.since(first, observer.records)
    return Result(
        records_per_second=rate,
        cpu_seconds_per_10000=cpu,
        peak_bytes=usage.peak_bytes,
        largest_bytes=usage.largest_bytes,
        first_seconds=first.seconds,
        wall_seconds=last,
        whole_records_per_second=whole_rate,
        whole_cpu_seconds_per_10000=whole_cpu,
        duplicates=0,
    )


def _verify(job: Job, program: Program, observer: _Observer) -> None:
    for number, values in observer.samples.items():
        found = [job.work.decode(value) for value in values] if program.decodes else job.outputs(number)
        if found != job.outputs(number):
            raise Wrong(f"checkpoint {number} was published as {found!r}")
    if observer.duplicates and program.exactly_once:
        raise Wrong(f"{observer.duplicates:,} output records came twice")
    if observer.disorder and program.keeps_order:
        raise Wrong(f"{observer.disorder:,} output records came before one that precedes them in the input")
    committed, expected = _committed(job), job.shape.records * len(job.groups)
    if program.commits and committed != expected:
        raise Wrong(f"{committed:,} of {expected:,} checkpoints are committed")
    refused = sum(map(job.skipped, range(job.shape.records)))
    if refused and (letters := _count(job, f"{job.output}.dlq")) != refused:
        raise Wrong(f"{letters:,} dead letters for {refused:,} checkpoints that were refused")


def _committed(job: Job) -> int:
    """Input offsets that the groups have committed; the input holds no transaction markers, so they count records."""
    admin = AdminClient({"bootstrap.servers": job.bootstrap, "log_level": 0})
    partitions = [TopicPartition(job.input, at) for at in range(job.shape.partitions)]
    total = 0
    for group in job.groups:
        asked = [ConsumerGroupTopicPartitions(group, partitions)]
        answer = admin.list_consumer_group_offsets(asked, require_stable=True, request_timeout=30)[group].result()
        total += sum(max(at.offset, 0) for at in answer.topic_partitions or [])
    return total


def _count(job: Job, topic: str) -> int:
    """The committed records of a topic with as many partitions as the input."""
    consumer = Consumer({"bootstrap.servers": job.bootstrap, "group.id": "benchmark-observer", **OBSERVER})
    consumer.assign([TopicPartition(topic, at, 0) for at in range(job.shape.partitions)])
    count, open_ends, until = 0, set(range(job.shape.partitions)), time.monotonic() + TIMEOUT_SECONDS
    while open_ends and time.monotonic() < until:
        for message in consumer.consume(10_000, 0.1):
            error = message.error()
            if error is None:
                count += 1
            elif error.code() == KafkaError._PARTITION_EOF:
                open_ends.discard(message.partition() or 0)
            else:
                raise KafkaException(error)
    consumer.close()
    return count


class _Observer:
    """Reads the output topic while it grows, as any read_committed consumer would see it."""

    def __init__(self, job: Job) -> None:
        self._counts = job.counts()
        self.missing = self._total = sum(self._counts)
        """Output records that are not there yet."""
        self.records = len(self._counts)
        """Of the input."""
        self.duplicates = self.disorder = 0
        told = [number for number, count in enumerate(self._counts) if count]
        self.samples: dict[int, list[bytes]] = {
            number: [] for number in random.Random(0).sample(told, min(VERIFIED, len(told)))
        }
        """By number, the output records of some checkpoints."""
        self._partitions = range(job.shape.partitions)
        self._next = dict.fromkeys(self._partitions, 0)
        self._last = dict.fromkeys(self._partitions, -1)
        self._topic = job.output
        self._consumer = Consumer({"bootstrap.servers": job.bootstrap, "group.id": "benchmark-observer", **OBSERVER})
        self._consumer.assign([TopicPartition(job.output, at, 0) for at in self._partitions])
        self.read(1.0)  # connected before the clock starts

    @property
    def share(self) -> float:
        """How much of the output is there, from 0 to 1."""
        return 1 - self.missing / self._total

    def read(self, seconds: float) -> None:
        for message in self._consumer.consume(20_000, seconds):
            error, at, offset = message.error(), message.partition() or 0, message.offset() or 0
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                self._next[at] = offset
                continue
            if error is not None:
                raise KafkaException(error)
            self._next[at] = offset + 1
            self._take(message.key() or b"", message.value() or b"", at)

    def _take(self, key: bytes, value: bytes, at: int) -> None:
        if not key.isdigit() or int(key) >= len(self._counts):
            raise Wrong(f"an output record has the key {key!r}")
        number = int(key)
        if not self._counts[number]:
            self.duplicates += 1
            return
        self._counts[number] -= 1
        self.missing -= 1
        if number in self.samples:
            self.samples[number].append(value)
        self.disorder += number < self._last[at]
        self._last[at] = number

    def read_to_the_end(self) -> None:
        """What comes after the output was complete are duplicates."""
        for at in self._partitions:
            _, end = self._consumer.get_watermark_offsets(TopicPartition(self._topic, at), timeout=10)
            while self._next[at] < end:
                self.read(0.05)

    def close(self) -> None:
        self._consumer.close()


class Usage:
    """CPU time and memory of a process and all below it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.peak_bytes = self.largest_bytes = 0
        self._process = process
        self._root = psutil.Process(process.pid)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """The process itself is gone."""
        return self._process.poll() is not None

    def cpu(self) -> float:
        """User and system seconds so far."""
        total = 0.0
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def close(self) -> None:
        """Stop watching."""
        self._ending.set()
        self._thread.join()

    def _tree(self) -> list[psutil.Process]:
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _sample(self) -> None:
        while not self._ending.wait(SAMPLE_SECONDS):
            sizes = [0]
            for process in self._tree():
                with suppress(psutil.NoSuchProcess):
                    sizes.append(process.memory_info().rss)
                    self.largest_bytes = max(self.largest_bytes, sizes[-1], peak(process.pid))
            self.peak_bytes = max(self.peak_bytes, sum(sizes), self.largest_bytes)


def peak(pid: int) -> int:
    """The most bytes that a process has had resident, as Linux keeps it (VmHWM); 0: it is not known."""
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0
