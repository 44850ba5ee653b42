"""The loop that people write by hand, to compare with: one process, confluent-kafka, orjson and fastavro.

`python -m benchmarks.bare BOOTSTRAP INPUT OUTPUT GROUP exactly_once|at_least_once` runs until SIGTERM. It does what
`SummaryWorker` does, with the same guarantee, and is written to be fast, not to be kept: what fails ends it.
"""

from __future__ import annotations

import io
import signal
import sys
import time
from pathlib import Path
from typing import Any

import fastavro
import orjson
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

SCHEMA = fastavro.schema.load_schema(str(Path(__file__).parents[1] / "schemas" / "checkpoint-summary" / "v1.avsc"))
FRAME = bytes([0]) + (1).to_bytes(4, "big")
COMMIT_RECORDS = 1_000
COMMIT_SECONDS = 1.0
TIMEOUT_SECONDS = 30
CONSUMER = {
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    "isolation.level": "read_committed",
    "partition.assignment.strategy": "cooperative-sticky",
    "fetch.queue.backoff.ms": 10,  # its default of a second stops the fetching of large records again and again
}
PRODUCER = {"enable.idempotence": True, "linger.ms": 5, "delivery.report.only.error": True}


def summary(value: bytes) -> dict[str, Any]:
    """What is published of one checkpoint."""
    checkpoint = orjson.loads(value)
    data = checkpoint["checkpoint_summary"]["data"]
    gas = data["epoch_rolling_gas_cost_summary"]
    return {
        "sequence_number": int(data["sequence_number"]),
        "epoch": int(data["epoch"]),
        "timestamp_ms": int(data["timestamp_ms"]),
        "content_digest": data["content_digest"],
        "previous_digest": data.get("previous_digest"),
        "network_total_transactions": int(data["network_total_transactions"]),
        "transaction_count": len(checkpoint["transactions"]),
        "computation_cost": int(gas["computationCost"]),
        "storage_cost": int(gas["storageCost"]),
        "storage_rebate": int(gas["storageRebate"]),
        "non_refundable_storage_fee": int(gas["nonRefundableStorageFee"]),
    }


class Loop:
    """Reads, publishes and commits, all on one thread."""

    def __init__(self, bootstrap: str, source: str, target: str, group: str, delivery: str) -> None:
        self.stopped = False
        self._source, self._target, self._transactional = source, target, delivery == "exactly_once"
        self._failed: list[Any] = []
        self._offsets: dict[int, int] = {}  # per partition, what comes after the last record of the open transaction
        identity = {"transactional.id": f"{group}-0"} if self._transactional else {}
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, **PRODUCER, **identity},
            on_delivery=lambda error, _: self._failed.append(error),
        )
        if self._transactional:
            self._producer.init_transactions(TIMEOUT_SECONDS)
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, **CONSUMER})
        self._consumer.subscribe([source], on_revoke=lambda *_: self._commit(), on_lost=lambda *_: self._abort())

    def run(self) -> None:
        """Until `stopped`."""
        records, since = 0, time.monotonic()
        while not self.stopped:
            messages = self._consumer.consume(500, 0.05)
            if messages and not self._offsets and self._transactional:
                self._producer.begin_transaction()
            for message in messages:
                self._publish(message)
            self._producer.poll(0)
            records += len(messages)
            if records >= COMMIT_RECORDS or time.monotonic() - since >= COMMIT_SECONDS:
                self._commit()
                records, since = 0, time.monotonic()
        self._commit()
        self._consumer.close()

    def _publish(self, message: Any) -> None:
        if message.error():
            raise KafkaException(message.error())
        buffer = io.BytesIO()
        buffer.write(FRAME)
        fastavro.schemaless_writer(buffer, SCHEMA, summary(message.value()))
        while True:
            try:
                self._producer.produce(self._target, buffer.getvalue(), message.key(), message.partition())
                break
            except BufferError:
                self._producer.poll(0.1)
        self._offsets[message.partition()] = message.offset() + 1

    def _commit(self) -> None:
        """Make everything published so far, and the offsets behind it, final: together, or one after the other."""
        if not self._offsets:
            return
        offsets = [TopicPartition(self._source, partition, offset) for partition, offset in self._offsets.items()]
        if self._transactional:
            try:
                metadata = self._consumer.consumer_group_metadata()
                self._producer.send_offsets_to_transaction(offsets, metadata, TIMEOUT_SECONDS)
                self._producer.commit_transaction(TIMEOUT_SECONDS)
            except KafkaException as error:
                if not error.args[0].txn_requires_abort():
                    raise
                self._abort()
        else:
            self._producer.flush()
            if self._failed:
                raise KafkaException(self._failed[0])
            self._consumer.commit(offsets=offsets, asynchronous=False)
        self._offsets.clear()

    def _abort(self) -> None:
        """Forget what is not committed, and read it again."""
        if self._offsets and self._transactional:
            self._producer.abort_transaction(TIMEOUT_SECONDS)
        self._offsets.clear()
        self._failed.clear()
        for partition in self._consumer.committed(self._consumer.assignment(), TIMEOUT_SECONDS):
            self._consumer.seek(TopicPartition(partition.topic, partition.partition, max(partition.offset, 0)))


def main() -> None:
    """Run until SIGTERM."""
    loop = Loop(*sys.argv[1:6])
    signal.signal(signal.SIGTERM, lambda *_: setattr(loop, "stopped", True))
    loop.run()


if __name__ == "__main__":
    main()
