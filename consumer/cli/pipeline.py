"""The two threads of `demo` beside its main one: the pool's supervisor, and a reader of the output topic."""

from __future__ import annotations

import logging
import threading
from contextlib import closing

from consumer.cli.signals import StopRequest
from consumer.cli.tail import as_avro, line_of, schema_source
from consumer.executor import member_main
from consumer.http import HealthServer
from consumer.kafka.reader import Origin, TopicReader
from consumer.kafka.topics import Topic
from consumer.metrics import PREFIX
from consumer.protocol import Spec
from consumer.records import Record
from consumer.settings import Settings
from consumer.supervisor import Child, Pool, Supervisor

__all__ = ["Output", "Pipeline"]

JOIN_SECONDS = 0.05


class _Background(threading.Thread):
    """A thread whose failure is kept in `error`, for the main thread to raise."""

    def __init__(self) -> None:
        super().__init__(name=type(self).__name__.lower())
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.work()
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self.error = error

    def work(self) -> None:
        """What the thread does."""
        raise NotImplementedError


class Pipeline(_Background):
    """The pool that `run` would start, with what its supervisor knows of it."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings
        specs = [Spec(index, settings, settings.worker, None, None) for index in range(settings.concurrency)]
        self._pool = Pool(
            settings.group_id, [Child(settings.group_id, spec, member_main) for spec in specs], bounded=False
        )
        self._supervisor = Supervisor([self._pool], settings.shutdown.timeout_seconds)

    def work(self) -> None:
        server = self._health()
        try:
            self._supervisor.run()
        finally:
            if server is not None:
                server.close()

    def end(self, stop: StopRequest) -> None:
        """Stop the members in order, at once where `stop` comes a second time, and wait until they are gone."""
        told = 0
        while self.is_alive():
            for _ in range(told, max(1, stop.count)):
                self._supervisor.stop()
                told += 1
            self.join(JOIN_SECONDS)

    def next_offset(self, partition: int) -> int:
        """The committed offset of an input partition."""
        return self._pool.progress.get(partition, (0, None))[0]

    @property
    def committed(self) -> int:
        """Input records that are committed, over all partitions."""
        return sum(offset for offset, _ in list(self._pool.progress.values()))

    def owner(self, partition: int) -> str:
        """The member that reads an input partition; empty where none does."""
        for child in self._pool.children:
            if child.status is not None and partition in child.status.assigned:
                return f"member {child.spec.index}"
        return ""

    def count(self, *metrics: str) -> list[int]:
        """Totals of some of the metrics that /metrics shows, by their names there or those of one series."""
        lines = [line.removeprefix(PREFIX) for line in self._supervisor.metrics().splitlines()]
        return [int(sum(float(line.split()[-1]) for line in lines if line.startswith(name))) for name in metrics]

    def _health(self) -> HealthServer | None:
        http, supervisor = self._settings.http, self._supervisor
        if not http.port:
            return None
        return HealthServer(
            http.host, http.port, livez=supervisor.livez, readyz=supervisor.readyz, metrics=supervisor.metrics
        )


class Output(_Background):
    """Reads the output topic from its beginning as it grows: counts the records, and keeps the first as text."""

    def __init__(self, settings: Settings, partitions: int, shown: int) -> None:
        super().__init__()
        self.published = 0
        self.sources: list[set[int]] = [set() for _ in range(partitions)]
        """Per input partition the offsets that have an output record."""
        self.first: list[str] = []
        """The first `shown` records as `tail` prints them."""
        self._topic = Topic(settings.output_topic or "", "CONSUMER_OUTPUT_TOPIC", partitions)
        self._value = as_avro(schema_source(settings))
        self._settings, self._shown = settings, shown
        self._next = dict.fromkeys(range(partitions), 0)
        self._ending = threading.Event()
        self._ends: dict[int, int] | None = None

    @property
    def distinct(self) -> int:
        """Input records that have an output record."""
        return sum(map(len, self.sources))

    def work(self) -> None:
        with closing(TopicReader(self._settings, self._topic, logging.getLogger("consumer.demo"))) as reader:
            for record in reader.records(Origin("earliest"), follow=True, stop=lambda: self._ended(reader)):
                self._take(record)

    def finish(self) -> None:
        """Read on to what is the end now, and stop; nobody publishes any more."""
        self._ending.set()
        if self.is_alive():
            self.join()

    def _take(self, record: Record) -> None:
        self.published += 1
        self._next[record.partition()] = record.offset() + 1
        _, partition, offsets = dict(record.headers() or ())["checkpoint-source"].decode().rsplit("/", 2)
        self.sources[int(partition)].add(int(offsets.partition("-")[0]))
        if len(self.first) < self._shown:
            self.first.append(line_of(self._topic.name, record, self._value))

    def _ended(self, reader: TopicReader) -> bool:
        if self._ending.is_set() and self._ends is None:
            self._ends = reader.ends()
        return self._ends is not None and all(self._next[at] >= end for at, end in self._ends.items())
