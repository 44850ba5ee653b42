"""Reads a topic outside every group, read_committed, from a chosen place to its end or for as long as one likes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from consumer.errors import ConfigError, Stop
from consumer.kafka.conf import make_client, reader_conf, unneeded
from consumer.kafka.topics import Topic
from consumer.records import Record
from consumer.settings import Settings

__all__ = ["Origin", "TopicReader"]

_TIMEOUT_SECONDS = 10.0


class Origin(NamedTuple):
    """Where to begin: at an end of the topic, an offset, or the first record at or after a time (ms since 1970)."""

    kind: Literal["earliest", "latest", "offset", "time"]
    value: int = 0


class TopicReader:
    """Reads every partition of one topic. The ends are those at its making. Not thread-safe; `close` it.

    Raises:
        ConfigError: no right to read the topic.
    """

    def __init__(self, settings: Settings, topic: Topic, logger: logging.Logger) -> None:
        self._topic = topic
        self._consumer = make_client(Consumer, reader_conf(settings), logger)
        try:
            self._bounds = {partition: self._ends(partition) for partition in range(topic.partitions)}
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop fetching."""
        self._consumer.close()

    def ends(self) -> dict[int, int]:
        """Where every partition ends now, for a read_committed reader."""
        return {partition: self._ends(partition)[1] for partition in self._bounds}

    def records(self, origin: Origin, *, follow: bool, stop: Callable[[], bool]) -> Iterator[Record]:
        """Records as they arrive, until `stop`; without `follow` until every partition's end has been reached.

        Offsets beyond a partition's own first or last record mean that record's place.

        Raises:
            ConfigError: no right to read the topic.
            Stop: the topic was deleted, or its beginning was deleted faster than it was read.
        """
        starts = self._starts(origin)
        self._consumer.assign([TopicPartition(self._topic.name, at, offset) for at, offset in starts.items()])
        open_partitions = {at for at, offset in starts.items() if offset < self._bounds[at][1]}
        while (follow or open_partitions) and not stop():
            for message in self._consumer.consume(500, 0.2):
                partition, reached = message.partition() or 0, message.offset() or 0
                error = message.error()
                if error is None:
                    if not follow and partition not in open_partitions:
                        continue  # arrived after the end that we were to stop at
                    yield cast(Record, message)  # the library's types say less than what it gives
                    reached += 1
                elif error.code() != KafkaError._PARTITION_EOF:
                    self._refuse(error, partition, reached)
                    continue
                if reached >= self._bounds[partition][1]:
                    open_partitions.discard(partition)

    def record_at(self, partition: int, offset: int) -> Record | None:
        """The record at this place; None where there is none: deleted, aborted, a marker, or not written yet.

        Raises:
            ConfigError: no right to read the topic.
            Stop: it could not be read within 10 s.
        """
        low, high = self._bounds.get(partition, (0, 0))
        if not low <= offset < high:
            return None
        self._consumer.assign([TopicPartition(self._topic.name, partition, offset)])
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            for message in self._consumer.consume(1, 0.2):
                error = message.error()
                if error is None:
                    return cast(Record, message) if message.offset() == offset else None
                if error.code() == KafkaError._PARTITION_EOF:
                    return None
                self._refuse(error, partition, offset)
        raise Stop(f"{self._topic.name}/{partition}/{offset} was not read within {_TIMEOUT_SECONDS:.0f} s: try again")

    def _starts(self, origin: Origin) -> dict[int, int]:
        if origin.kind == "time":
            asked = [TopicPartition(self._topic.name, partition, origin.value) for partition in self._bounds]
            found = self._consumer.offsets_for_times(asked, timeout=_TIMEOUT_SECONDS)
            return {at.partition: at.offset if at.offset >= 0 else self._bounds[at.partition][1] for at in found}
        wanted = {"earliest": 0, "latest": 2**63, "offset": origin.value}[origin.kind]
        return {partition: min(max(wanted, low), high) for partition, (low, high) in self._bounds.items()}

    def _ends(self, partition: int) -> tuple[int, int]:
        """The first offset, and the last stable one: the end of what read_committed shows."""
        try:
            return self._consumer.get_watermark_offsets(
                TopicPartition(self._topic.name, partition), timeout=_TIMEOUT_SECONDS
            )
        except KafkaException as error:
            self._refuse(error.args[0], partition, -1)
            raise

    def _refuse(self, error: KafkaError, partition: int, offset: int) -> None:
        name, setting, _ = self._topic
        if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise ConfigError(f"{setting}: no right to read topic {name}: allow this user to read it")
        if error.retriable() or unneeded(error):
            return
        place = f"{name}/{partition}" + (f"/{offset}" if offset >= 0 else "")
        raise Stop(f"{place} cannot be read: {error.str()}; start again, further on if need be")
