"""`at_least_once`: an idempotent producer, flush, then the commit. The same steps as a transaction, without one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from consumer.core.messages import Outcome, Transact, TransactionEnded
from consumer.errors import ConfigError
from consumer.failpoints import failpoint
from consumer.kafka.errors import Step, Verdict, classify, remedy
from consumer.kafka.transactor import LATE, Ready, Result, produce_all, serve
from consumer.records import OutRecord


class AtLeastOnce:
    """Publishes records, waits until every one is delivered, then commits the offsets by `commit` (`Source.commit`)."""

    def __init__(
        self,
        make: Callable[[Callable[..., None]], Producer],
        topic: str,
        commit: Callable[[list[TopicPartition]], Callable[[float], bool]],
        timeout_seconds: float,
    ) -> None:
        self._make = make
        self._topic = topic
        self._commit = commit
        self._timeout = timeout_seconds
        self._producer: Producer | None = None
        self._outs: Sequence[OutRecord] = ()
        self._offsets: Mapping[int, tuple[int, str]] = {}
        self._next = 0
        self._failures: list[KafkaError] = []
        self._started = self._deadline = 0.0
        self._current: Callable[[Producer, float], Result] | None = None
        self._committed: Callable[[float], bool] | None = None

    @property
    def busy(self) -> bool:
        """Whether a step is due."""
        return self._current is not None

    def rebuild(self) -> None:
        """A new producer; there is nothing to settle."""
        self.discard()
        self._producer = self._make(self._delivered)
        self._current = lambda producer, seconds: self._end(Ready())

    def begin(self, transaction: Transact) -> None:
        """Start to publish; `step` returns the TransactionEnded."""
        self._outs, self._offsets, self._next = transaction.outs, transaction.offsets, 0
        self._failures = []
        self._started = time.monotonic()
        self._deadline = self._started + self._timeout / 3  # as of a transaction, and before a delivery report
        self._current = self._produce

    def step(self, seconds: float) -> Result:
        """Go on for at most `seconds`."""
        until = time.monotonic() + seconds
        while self._current is not None and self._producer is not None:
            before = self._current
            result = before(self._producer, max(0.0, until - time.monotonic()))
            if result is not None or self._current == before:
                return result
        return None

    def give_up(self, why: str) -> None:
        """Do not commit; `step` returns the TransactionEnded."""
        if self._current is not None and self._current != self._await_commit:
            self._current = lambda producer, seconds: self._end(self._ended(Outcome.ABORTED, why))

    def discard(self) -> None:
        """Drop the producer without waiting."""
        producer, self._producer = self._producer, None
        self._current = None
        if producer is not None:
            producer.purge()

    def _produce(self, producer: Producer, seconds: float) -> Result:
        try:
            produce_all(producer, self._outs, self._next, self._advanced)
        except BufferError:
            return self._make_room(producer, seconds)
        except KafkaException as error:
            return self._fail(Step.PRODUCE, error.args[0])
        self._current = self._flush
        self._point("after-produce")
        return None

    def _make_room(self, producer: Producer, seconds: float) -> Result:
        try:
            serve(producer.poll, min(seconds, 0.05))
        except KafkaException as error:
            return self._fail(Step.DELIVERY, error.args[0])
        return self._late(len(self._outs))

    def _advanced(self, count: int) -> None:
        self._next = count

    def _flush(self, producer: Producer, seconds: float) -> Result:
        try:
            left = serve(producer.flush, seconds)
        except KafkaException as error:
            return self._fail(Step.DELIVERY, error.args[0])
        if self._failures:
            return self._fail(Step.DELIVERY, self._failures[0])
        if left:
            return self._late(left)
        self._point("after-flush")
        offsets = [TopicPartition(self._topic, at, offset, text) for at, (offset, text) in self._offsets.items()]
        try:
            self._committed = self._commit(offsets)
        except KafkaException as error:
            return self._fail(Step.OFFSETS, error.args[0])
        self._current = self._await_commit
        return None

    def _await_commit(self, producer: Producer, seconds: float) -> Result:
        assert self._committed is not None
        try:
            committed = self._committed(seconds)
        except KafkaException as error:
            return self._fail(Step.OFFSETS, error.args[0])
        if not committed:  # in the end it is unknown: it may still arrive
            late = time.monotonic() > self._started + self._timeout
            return self._end(self._ended(Outcome.UNKNOWN, "the commit was not answered in time")) if late else None
        self._point("after-commit")
        return self._end(self._ended(Outcome.COMMITTED, ""))

    def _fail(self, step: Step, error: KafkaError) -> Result:
        verdict = classify(step, error)
        text = f"{step.value}: {error.name()}: {error.str()}"
        if verdict is Verdict.CONFIG:
            raise ConfigError(remedy(step, error))
        if verdict is Verdict.REFUSED:
            return self._end(self._ended(Outcome.REFUSED, text))
        if step is not Step.OFFSETS and (error.fatal() or verdict in (Verdict.REBUILD, Verdict.FENCED)):
            return self._end(self._ended(Outcome.UNKNOWN, text))
        return self._end(self._ended(Outcome.ABORTED, text))

    def _late(self, left: int) -> Result:
        late = time.monotonic() > self._deadline
        return self._end(self._ended(Outcome.LATE, LATE.format(left, self._timeout / 3))) if late else None

    def _ended(self, outcome: Outcome, text: str) -> TransactionEnded:
        return TransactionEnded(outcome, text, time.monotonic() - self._started)

    def _end(self, result: Any) -> Result:
        self._current, self._outs = None, ()
        ended: Result = result
        return ended

    def _point(self, name: str) -> bool:
        return bool(self._outs) and failpoint(name)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and error.code() not in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
            self._failures.append(error)
