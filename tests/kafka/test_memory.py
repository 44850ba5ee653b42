"""Resident memory on a real Kafka: what the README's "Limits" promise, with a small budget and a packed backlog."""

from __future__ import annotations

from confluent_kafka import Producer

from benchmarks.memory import MIB, PARTITIONS, VARIANTS, Run, backlog, bound
from consumer.generate import generate
from tests.brokers.find import Broker
from tests.brokers.topics import TopicFactory

BUDGET = 16 * MIB
LARGEST = 8_000_000
SIZES = [(1_000, 5_000), (1_500, 40_000), (4, LARGEST)]
"""Counts and sizes, in the order in which they are fed."""


def test_resident_memory_is_bounded(broker: Broker, topics: TopicFactory) -> None:
    """The input is packed by zstd, to a tenth: what is fetched at a time grows as much when it is unpacked."""
    names = topics(input=PARTITIONS, output=PARTITIONS, dlq=PARTITIONS, config={"max.message.bytes": str(2 * LARGEST)})
    conf = {"bootstrap.servers": broker.bootstrap, "compression.type": "zstd", "linger.ms": 20}
    producer = Producer({**conf, "message.max.bytes": 2 * LARGEST})
    sizes = [size for count, size in SIZES for _ in range(count)]
    for number, size in enumerate(sizes):
        producer.produce(names.input, generate(number, size_bytes=size), str(number), number % PARTITIONS)
    assert producer.flush(30) == 0

    settings = {**VARIANTS["transactions"], "MEMORY__MAX_BYTES": str(BUDGET), "BATCH__MAX_BYTES": str(BUDGET // 2)}
    run = Run(broker.bootstrap, [names.input, names.output, names.dlq], settings)
    backlog(run, len(sizes))
    run.close()

    supervisor, member = run.peaks.values()
    print(f"member {member / 1e6:.0f} MB, supervisor {supervisor / 1e6:.0f} MB")
    assert member < bound(LARGEST, BUDGET)
    assert supervisor < 40_000_000
