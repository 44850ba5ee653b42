"""The checkpoints of a benchmark: made on the spot, or real ones numbered anew; and the topic that holds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import KafkaError, Message, Producer

from consumer.generate import generate

PARTITIONS = 4

Source = Callable[[int], bytes]
"""From a sequence number to the checkpoint."""


def generated(number: int) -> bytes:
    """About 40 KB, 4 transactions."""
    return generate(number)


def from_folder(folder: Path) -> Source:
    """The files of `folder` over and over, each time with another sequence number. Raises ValueError: none there."""
    documents = [orjson.loads(path.read_bytes()) for path in sorted(folder.glob("*.json"))]
    if not documents:
        raise ValueError(f"{folder} holds no .json file: give a folder of checkpoints, one per file")

    def numbered(number: int) -> bytes:
        document: Any = documents[number % len(documents)]
        document["checkpoint_summary"]["data"]["sequence_number"] = number
        return orjson.dumps(document)

    return numbered


def fill(bootstrap: str, topic: str, source: Source, count: int, compression: str) -> int:
    """Publish checkpoints 0 to `count` - 1, the number as key, number % partitions as partition; returns the bytes.

    Raises RuntimeError where one was not delivered.
    """
    failed: list[KafkaError] = []

    def on_delivery(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(error)

    conf = {"bootstrap.servers": bootstrap, "compression.type": compression, "linger.ms": 20, "log_level": 0}
    producer = Producer({**conf, "enable.idempotence": True, "message.max.bytes": 16_000_000}, on_delivery=on_delivery)
    size = 0
    for number in range(count):
        value = source(number)
        size += len(value)
        while not failed:
            try:
                producer.produce(topic, value, str(number), number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if producer.flush(60) or failed:
        raise RuntimeError(f"the input topic could not be filled: {failed or 'no answer for 60 s'}")
    return size
