"""Finds where a checkpoint number lies: a binary search over offsets, partition by partition."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from consumer.checkpoint import CheckpointHeader, Position, decoder_for
from consumer.errors import ConfigError, DecodeError
from consumer.kafka.conf import make_client, reader_conf, unneeded
from consumer.partitioning import Partitioning
from consumer.settings import Settings

READ_SECONDS = 30.0
LOOK_SECONDS = 1.0


def find_checkpoint(
    settings: Settings,
    number: int,
    partitions: int,
    partitioning: Partitioning,
    ask: Callable[[Callable[[], tuple[int, int]]], tuple[int, int]],
    check_stop: Callable[[], None],
) -> dict[int, int]:
    """Per partition the offset of its first checkpoint from `number` on; its end where there is none.

    Numbers must rise with the offsets within a partition, as every known partitioning has it. `ask` asks the brokers,
    again where they do not answer.

    Raises:
        ConfigError: the partitioning is unknown, or the topic cannot be read.
    """
    if not partitioning.known:
        raise ConfigError(
            "CONSUMER_START=checkpoint:N needs to know how numbers lie in the partitions: set "
            "CONSUMER_SEQUENCE__PARTITIONING to modulo or range:N"
        )
    search = _Search(settings, ask, check_stop)
    try:
        return {
            partition: search.first(partition, partitioning.first_number(partition, partitions, number))
            for partition in range(partitions)
        }
    finally:
        search.close()


class _Search:
    def __init__(
        self,
        settings: Settings,
        ask: Callable[[Callable[[], tuple[int, int]]], tuple[int, int]],
        check_stop: Callable[[], None],
    ) -> None:
        self._topic = settings.input_topic
        self._ask = ask
        self._check_stop = check_stop
        self._decode = decoder_for(CheckpointHeader)
        self._reader: Consumer = make_client(Consumer, reader_conf(settings), logging.getLogger("librdkafka"))

    def close(self) -> None:
        self._reader.close()

    def first(self, partition: int, number: int) -> int:
        """The lowest offset whose checkpoint is `number` or above; the end offset where there is none."""
        low, end = self._ask(
            lambda: self._reader.get_watermark_offsets(TopicPartition(self._topic, partition), LOOK_SECONDS)
        )
        high = end
        while low < high:
            middle = (low + high) // 2
            found = self._number_from(partition, middle, high)
            if found is None or found[1] >= number:
                high = middle
            else:
                low = found[0] + 1
        return low

    def _number_from(self, partition: int, start: int, end: int) -> tuple[int, int] | None:
        """Offset and number of the first readable checkpoint in [start, end)."""
        self._reader.assign([TopicPartition(self._topic, partition, start)])
        deadline = time.monotonic() + READ_SECONDS
        while time.monotonic() < deadline:
            self._check_stop()
            message = self._reader.poll(0.2)
            if message is None:
                continue
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    return None
                if unneeded(error):
                    continue
                raise KafkaException(error)
            offset = message.offset() or 0
            if offset >= end:
                return None
            try:
                header = self._decode(message.value(), Position(self._topic, partition, offset))
            except DecodeError:
                continue  # not a checkpoint: its neighbour tells as much
            return offset, header.summary.sequence_number
        raise ConfigError(
            f"{self._topic}/{partition} offset {start} could not be read within {READ_SECONDS:.0f} s while looking for "
            "CONSUMER_START=checkpoint:N: check that the brokers are healthy and start again"
        )
