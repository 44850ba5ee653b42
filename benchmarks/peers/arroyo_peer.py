"""Arroyo. PROCESSES (0: all in the main process) decode; offsets follow the delivery reports of the outputs."""

from __future__ import annotations

import os
import signal
from typing import Any

from arroyo.backends.kafka import KafkaConsumer, KafkaPayload, KafkaProducer
from arroyo.backends.kafka.configuration import (
    build_kafka_consumer_configuration,
    build_kafka_producer_configuration,
)
from arroyo.processing import StreamProcessor
from arroyo.processing.strategies import (
    CommitOffsets,
    ProcessingStrategyFactory,
    Produce,
    RunTask,
    RunTaskWithMultiprocessing,
)
from arroyo.processing.strategies.run_task_with_multiprocessing import MultiprocessingPool
from arroyo.types import Topic

from benchmarks.peers.common import CONSUMER, PRODUCER, arguments, summarise

MIB = 1024 * 1024


def task(message: Any) -> KafkaPayload:
    """The output record, with the input's key."""
    return KafkaPayload(message.payload.key, summarise(message.payload.value), [])


class Factory(ProcessingStrategyFactory):
    """Decode, produce, commit."""

    def __init__(self, producer: KafkaProducer, target: Topic, processes: int) -> None:
        self._producer, self._target = producer, target
        self._pool = MultiprocessingPool(processes) if processes else None

    def create_with_partitions(self, commit: Any, partitions: Any) -> Any:
        produce = Produce(self._producer, self._target, CommitOffsets(commit))
        if self._pool is None:
            return RunTask(task, produce)
        blocks = {"input_block_size": 16 * MIB, "output_block_size": 2 * MIB}
        return RunTaskWithMultiprocessing(
            task, produce, max_batch_size=200, max_batch_time=0.2, pool=self._pool, **blocks
        )

    def shutdown(self) -> None:
        if self._pool is not None:
            self._pool.close()


def main() -> None:
    """Run until SIGTERM."""
    told = arguments("at_least_once")
    consumer = build_kafka_consumer_configuration(
        {},
        group_id=told.group,
        auto_offset_reset="earliest",
        bootstrap_servers=[told.bootstrap],
        enable_auto_commit=False,
        override_params=CONSUMER,
    )
    producer = KafkaProducer(
        build_kafka_producer_configuration({}, bootstrap_servers=[told.bootstrap], override_params=PRODUCER)
    )
    factory = Factory(producer, Topic(told.output), int(os.environ.get("PROCESSES", "0")))
    processor = StreamProcessor(KafkaConsumer(consumer), Topic(told.input), factory)
    signal.signal(signal.SIGTERM, lambda *_: processor.signal_shutdown())
    processor.run()
    producer.close().result()


if __name__ == "__main__":
    main()
