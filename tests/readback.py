"""What a group left behind on a real broker, read back: records as read_committed shows them, committed offsets."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka import ConsumerGroupTopicPartitions as GroupPartitions
from confluent_kafka.admin import AdminClient

__all__ = [
    "Collected",
    "ConcurrentReader",
    "Place",
    "Record",
    "collect",
    "committed_offsets",
    "end_offsets",
    "read_topic",
]

Place = tuple[str, int]
"""Topic and partition."""


class Record(NamedTuple):
    """One record as a reader saw it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def place(self) -> Place:
        return self.topic, self.partition

    def header(self, name: str) -> str | None:
        """The header's text; None where there is none, the last where there are several."""
        return dict(self.headers)[name].decode() if name in dict(self.headers) else None

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


class Collected(NamedTuple):
    """What a group at rest left behind."""

    inputs: list[Record]
    outputs: list[Record]
    dead_letters: list[Record]
    committed: dict[Place, int]


def collect(
    bootstrap: str, group: str, *, inputs: str, outputs: Sequence[str], dead_letters: str, timeout: float = 60
) -> Collected:
    """Read what `check` needs from a real broker on which `group` and whoever fed it have come to rest.

    Raises TimeoutError after `timeout` seconds where a transaction stays open or an offset stays unstable.
    """
    return Collected(
        read_topic(bootstrap, [inputs], timeout),
        read_topic(bootstrap, outputs, timeout),
        read_topic(bootstrap, [dead_letters], timeout),
        committed_offsets(bootstrap, group, timeout),
    )


def read_topic(bootstrap: str, topics: Sequence[str], timeout: float = 60) -> list[Record]:
    """Everything a read_committed reader finds, up to the present ends; no transaction may be open there."""
    reader = _Reader(bootstrap, topics)
    try:
        reader.read_to(end_offsets(bootstrap, topics), timeout)
    finally:
        reader.close()
    return reader.records


def end_offsets(bootstrap: str, topics: Sequence[str]) -> dict[Place, int]:
    """Where the next record would go, whatever transactions are open: the high watermarks."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "checker", "isolation.level": "read_uncommitted"})
    try:
        ends = {}
        for at in _partitions(consumer, topics):
            ends[at.topic, at.partition] = consumer.get_watermark_offsets(at, timeout=10)[1]
        return ends
    finally:
        consumer.close()


def committed_offsets(bootstrap: str, group: str, timeout: float = 60) -> dict[Place, int]:
    """The group's next offsets, once none of them is part of an open transaction."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    deadline = time.monotonic() + timeout
    while True:
        asked = admin.list_consumer_group_offsets(
            [GroupPartitions(group)], require_stable=True, request_timeout=timeout
        )
        try:
            answer = asked[group].result()
            break
        except KafkaException as error:  # a new broker has to make the group's topic first
            if error.args[0].code() != KafkaError.COORDINATOR_LOAD_IN_PROGRESS or time.monotonic() > deadline:
                raise
    found: dict[Place, int] = {}
    for at in answer.topic_partitions or []:
        if at.error is not None:
            raise KafkaException(at.error)
        if at.offset >= 0:
            found[at.topic, at.partition] = at.offset
    return found


class ConcurrentReader:
    """Reads `topics` as read_committed on a thread of its own, while others write; `finish` gives what it saw."""

    def __init__(self, bootstrap: str, topics: Sequence[str]) -> None:
        self._bootstrap, self._topics = bootstrap, topics
        self._reader = _Reader(bootstrap, topics)
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="concurrent-reader", daemon=True)
        self._thread.start()

    def finish(self, timeout: float = 60) -> list[Record]:
        """Read on to the present ends, stop, and return every record in the order it was seen."""
        self._stop.set()
        self._thread.join()
        try:
            if self._error is not None:
                raise self._error
            self._reader.read_to(end_offsets(self._bootstrap, self._topics), timeout)
        finally:
            self._reader.close()
        return self._reader.records

    def wait_for(self, count: int, timeout: float = 60) -> None:
        """Return once at least `count` records have been seen; TimeoutError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while len(self._reader.records) < count and self._thread.is_alive():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self._reader.records)} of {count} records after {timeout} s")
            self._thread.join(0.05)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._reader.read(0.2)
        except BaseException as error:  # noqa: BLE001 - raised again by `finish`
            self._error = error


class _Reader:
    """A consumer without a group that starts at the beginning of every partition of `topics`."""

    def __init__(self, bootstrap: str, topics: Sequence[str]) -> None:
        conf = {"bootstrap.servers": bootstrap, "group.id": "checker", "enable.auto.commit": False}
        conf |= {"isolation.level": "read_committed", "auto.offset.reset": "error", "enable.partition.eof": True}
        self.records: list[Record] = []
        self._next: dict[Place, int] = {}
        self._consumer = Consumer({**conf, "check.crcs": True, "fetch.queue.backoff.ms": 10, "fetch.wait.max.ms": 20})
        self._consumer.assign(list(_partitions(self._consumer, topics)))

    def close(self) -> None:
        self._consumer.close()

    def read_to(self, ends: Mapping[Place, int], timeout: float) -> None:
        """Read until every partition's end is reached; TimeoutError names the first that is not."""
        deadline = time.monotonic() + timeout
        while behind := [place for place, end in ends.items() if self._next.get(place, 0) < end]:
            if time.monotonic() > deadline:
                place = behind[0]
                found = f"{self._next.get(place, 0)} of {ends[place]}"
                raise TimeoutError(
                    f"{place[0]}/{place[1]}: readable to {found} after {timeout} s: an open transaction?"
                )
            self.read(0.2)

    def read(self, timeout: float) -> None:
        """Take in what arrives within `timeout` seconds."""
        for message in self._consumer.consume(500, timeout):
            error = message.error()
            place, offset = (message.topic() or "", message.partition() or 0), message.offset() or 0
            if error is None:
                self.records.append(_record(message, place, offset))
                self._next[place] = offset + 1
            elif error.code() == KafkaError._PARTITION_EOF:
                self._next[place] = offset
            else:
                raise KafkaException(error)


def _record(message: Message, place: Place, offset: int) -> Record:
    headers = cast(list[tuple[str, bytes | None]], message.headers() or [])
    topic, partition = place
    return Record(topic, partition, offset, message.key(), message.value(), tuple((n, v or b"") for n, v in headers))


def _partitions(consumer: Consumer, topics: Sequence[str]) -> Iterator[TopicPartition]:
    for topic in topics:
        metadata = consumer.list_topics(topic, timeout=10).topics[topic]
        if metadata.error is not None:
            raise KafkaException(metadata.error)
        yield from (TopicPartition(topic, partition, 0) for partition in sorted(metadata.partitions))
