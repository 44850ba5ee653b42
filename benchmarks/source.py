"""The checkpoints of a benchmark: made on the spot, or real ones numbered anew; and the topic that holds them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import orjson
from confluent_kafka import KafkaError, Message, Producer

from consumer.generate import generate

LARGEST = 90 * 1024 * 1024
"""What topics and producers admit, in bytes."""

Source = Callable[[int], bytes]
"""From a sequence number to the checkpoint."""


class Shape(NamedTuple):
    """The input: how many checkpoints, how large, in how many partitions."""

    records: int = 20_000
    partitions: int = 4
    size_bytes: int = 40_000
    transactions: int = 4

    def generated(self) -> Source:
        """Synthetic checkpoints of this size."""
        return partial(generate, size_bytes=self.size_bytes, transactions=self.transactions)


def from_folder(folder: Path) -> Source:
    """The files of `folder` over and over, each time with another sequence number. Raises ValueError: none there."""
    documents = [path.read_bytes() for path in sorted(folder.glob("*.json"))]
    if not documents:
        raise ValueError(f"{folder} holds no .json file: give a folder of checkpoints, one per file")
    return renumbered(documents)


def renumbered(documents: Iterable[bytes]) -> Source:
    """The documents over and over, each time with another sequence number; a few microseconds each."""
    halves: list[list[bytes]] = []
    for document in map(orjson.loads, documents):
        document["checkpoint_summary"]["data"]["sequence_number"] = "@@"
        halves.append(orjson.dumps(document).split(b'"@@"'))
    return lambda number: (b"%d" % number).join(halves[number % len(halves)])


def fill(bootstrap: str, topic: str, source: Source, shape: Shape, compression: str) -> int:
    """Publish checkpoints 0 to N-1, the number as key, number % partitions as partition; returns the bytes.

    Raises RuntimeError where one was not delivered.
    """
    failed: list[KafkaError] = []

    def on_delivery(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(error)

    conf = {"bootstrap.servers": bootstrap, "compression.type": compression, "linger.ms": 20, "log_level": 0}
    limits = {"message.max.bytes": LARGEST, "queue.buffering.max.kbytes": 4 * LARGEST // 1024}
    producer = Producer({**conf, **limits, "enable.idempotence": True}, on_delivery=on_delivery)
    size = 0
    for number in itertools.takewhile(lambda _: not failed, range(shape.records)):
        value = source(number)
        size += len(value)
        put(producer, topic, value, number, shape.partitions)
    if producer.flush(60) or failed:
        raise RuntimeError(f"the input topic could not be filled: {failed or 'no answer for 60 s'}")
    return size


def put(producer: Producer, topic: str, value: bytes, number: int, partitions: int) -> None:
    """Hand one checkpoint to the producer, once its queue has room."""
    while True:
        try:
            producer.produce(topic, value, str(number), number % partitions)
            break
        except BufferError:
            producer.poll(0.1)
    producer.poll(0)
