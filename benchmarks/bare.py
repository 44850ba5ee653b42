"""The loop that people write by hand, to compare with: one process, confluent-kafka, orjson and fastavro.

`python -m benchmarks.bare BOOTSTRAP INPUT OUTPUT GROUP exactly_once|at_least_once [WHAT]` runs until SIGTERM. WHAT:
`summaries`, what SummaryWorker publishes; `transactions`, what TransactionWorker does; `typed`, summaries decoded by
msgspec, only what they need; `cut`, the same of what stands before the transactions alone; `nothing`, no decoding: the
limit that fetching and publishing set. It gives the same guarantee and is written to be fast, not to be kept: what
fails ends it.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from benchmarks.jobs import SUMMARIES, WORKS, summary
from benchmarks.peers import projected

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


def encoder(what: str) -> Callable[[bytes], list[bytes]]:
    """From a checkpoint to its output records; `nothing` decodes the first one and publishes that again and again.

    Raises ValueError where `what` is none of the five.
    """
    if what == "typed":
        return lambda value: [SUMMARIES.framed(projected.summary(value))]
    if what == "cut":
        return lambda value: [SUMMARIES.framed(projected.summary_of_cut(value))]
    if what == "nothing":
        made: dict[str, list[bytes]] = {}
        return lambda value: made.get("first") or made.setdefault("first", [SUMMARIES.framed(summary(value))])
    if what not in WORKS:
        raise ValueError(f"{', '.join(WORKS)}, typed, cut or nothing, not {what}")
    return WORKS[what].encode


class Loop:
    """Reads, publishes and commits, all on one thread."""

    def __init__(
        self, bootstrap: str, source: str, target: str, group: str, delivery: str, what: str = "summaries"
    ) -> None:
        self.stopped = False
        self._encode = encoder(what)
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
        for value in self._encode(message.value()):
            while True:
                try:
                    self._producer.produce(self._target, value, message.key(), message.partition())
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
    loop = Loop(*sys.argv[1:7])
    signal.signal(signal.SIGTERM, lambda *_: setattr(loop, "stopped", True))
    loop.run()


if __name__ == "__main__":
    main()
