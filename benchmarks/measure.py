"""Measures one program that publishes one summary per checkpoint of the input topic, and verifies what it did."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import fastavro
import psutil
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from benchmarks.bare import FRAME, SCHEMA, summary
from benchmarks.source import PARTITIONS, Source

TIMEOUT_SECONDS = 120.0
SAMPLE_SECONDS = 0.1
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
    """What one run took; a rate and CPU time per record from the first visible output to the last."""

    records_per_second: float
    cpu_seconds_per_10000: float
    """User and system time of the program and all its children."""
    peak_bytes: int
    """Resident memory of all its processes together."""
    first_seconds: float
    """From the start to the first output."""
    wall_seconds: float
    """From the start to the last output."""
    total_cpu_seconds: float
    """From the start to the last output."""
    duplicates: int


class Job(NamedTuple):
    """What is to be done, and where."""

    bootstrap: str
    input: str
    output: str
    group: str
    records: int
    source: Source


def measure(job: Job, command: Sequence[str], environ: Mapping[str, str]) -> Result:
    """Run the program until its output is complete, stop it by SIGTERM, and verify.

    Raises:
        Wrong: it ended early, was too slow, did not end in order, or its output or its offsets are not right.
    """
    observer = _Observer(job)
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environ},
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        usage = _Usage(process.pid)
        try:
            result = _watch(job, observer, process, usage)
            process.terminate()
            if process.wait(20) != 0:
                raise Wrong(f"exit code {process.returncode}")
        except (Wrong, subprocess.TimeoutExpired) as error:
            log.seek(0)
            raise Wrong(f"{error}; it said: {log.read()[-2000:].decode(errors='replace')}") from None
        finally:
            usage.close()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    observer.read_to_the_end()
    observer.close()
    _verify(job, observer)
    return result._replace(duplicates=observer.records - len(observer.values))


def _watch(job: Job, observer: _Observer, process: subprocess.Popen[bytes], usage: _Usage) -> Result:
    started = time.monotonic()
    first: tuple[float, int, float] | None = None
    while len(observer.values) < job.records:
        observer.read(0.05)
        now = time.monotonic() - started
        if observer.values and first is None:
            first = now, len(observer.values), usage.cpu()
        if process.poll() is not None or now > TIMEOUT_SECONDS:
            raise Wrong(f"{len(observer.values):,} of {job.records:,} records after {now:.0f} s")
    last, cpu = time.monotonic() - started, usage.cpu()
    if first is None or first[1] == job.records:
        raise Wrong("all output became visible at once: use more checkpoints")
    records = job.records - first[1]
    return Result(
        records_per_second=records / (last - first[0]),
        cpu_seconds_per_10000=(cpu - first[2]) / records * 10_000,
        peak_bytes=usage.peak_bytes,
        first_seconds=first[0],
        wall_seconds=last,
        total_cpu_seconds=cpu,
        duplicates=0,
    )


def _verify(job: Job, observer: _Observer) -> None:
    numbers = {int(key) for key in observer.values}
    if numbers != set(range(job.records)):
        raise Wrong(f"the keys are not 0 to {job.records - 1:,}")
    for number in random.Random(0).sample(sorted(numbers), min(VERIFIED, job.records)):
        value = observer.values[str(number).encode()]
        found = fastavro.schemaless_reader(io.BytesIO(value[len(FRAME) :]), SCHEMA, None)
        if not value.startswith(FRAME) or found != summary(job.source(number)):
            raise Wrong(f"checkpoint {number} was published as {found!r}")
    committed = _committed(job)
    if committed != job.records:
        raise Wrong(f"{committed:,} of {job.records:,} checkpoints are committed")


def _committed(job: Job) -> int:
    """Input offsets that the group has committed; the input holds no transaction markers, so they count records."""
    admin = AdminClient({"bootstrap.servers": job.bootstrap, "log_level": 0})
    asked = [ConsumerGroupTopicPartitions(job.group, [TopicPartition(job.input, at) for at in range(PARTITIONS)])]
    answer = admin.list_consumer_group_offsets(asked, require_stable=True, request_timeout=30)[job.group].result()
    return sum(max(at.offset, 0) for at in answer.topic_partitions or [])


class _Observer:
    """Reads the output topic while it grows, as any read_committed consumer would see it."""

    def __init__(self, job: Job) -> None:
        self.records = 0
        self.values: dict[bytes, bytes] = {}
        """By key, the first record that came."""
        self._next = dict.fromkeys(range(PARTITIONS), 0)
        self._topic = job.output
        self._consumer = Consumer({"bootstrap.servers": job.bootstrap, "group.id": "benchmark-observer", **OBSERVER})
        self._consumer.assign([TopicPartition(job.output, at, 0) for at in range(PARTITIONS)])
        self.read(1.0)  # connected before the clock starts

    def read(self, seconds: float) -> None:
        for message in self._consumer.consume(20_000, seconds):
            error, at, offset = message.error(), message.partition() or 0, message.offset() or 0
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                self._next[at] = offset
                continue
            if error is not None:
                raise KafkaException(error)
            self.records += 1
            self._next[at] = offset + 1
            self.values.setdefault(message.key() or b"", message.value() or b"")

    def read_to_the_end(self) -> None:
        """What comes after the output was complete are duplicates."""
        for at in range(PARTITIONS):
            _, end = self._consumer.get_watermark_offsets(TopicPartition(self._topic, at), timeout=10)
            while self._next[at] < end:
                self.read(0.05)

    def close(self) -> None:
        self._consumer.close()


class _Usage:
    """CPU time and memory of a process and all below it."""

    def __init__(self, pid: int) -> None:
        self.peak_bytes = 0
        self._root = psutil.Process(pid)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def cpu(self) -> float:
        """User and system seconds so far."""
        total = 0.0
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def close(self) -> None:
        self._ending.set()
        self._thread.join()

    def _tree(self) -> list[psutil.Process]:
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _sample(self) -> None:
        while not self._ending.wait(SAMPLE_SECONDS):
            total = 0
            for process in self._tree():
                with suppress(psutil.NoSuchProcess):
                    total += process.memory_info().rss
            self.peak_bytes = max(self.peak_bytes, total)
