"""The producer's side of a member: one transaction at a time, in steps that never block for long.

    ┌─▶ STARTING ──ready──▶ IDLE ──begin──▶ PRODUCING ─▶ FLUSHING ─▶ OFFSETS ─▶ COMMITTING ──▶ IDLE
    │                                          └────────────┴──────────┴─▶ ABORTING ──▶ IDLE
    └── any step whose producer is of no further use; `rebuild` makes a new one

Every step ends within the time it is given; a call that ran out of time is made again ("resumable", librdkafka
INTRODUCTION.md). After a commit that timed out nothing but the same commit may follow on this producer; after
`transaction.timeout.ms` of it, a new producer, and the committed offsets say what became of it.

`flush`, `send_offsets_to_transaction` and `commit_transaction` are made on a thread of their own, so that the member
goes on polling meanwhile. The second must be: where the coordinator goes away in the middle of it, it does not return
before a broker is back, whatever its timeout says (librdkafka #5456, open in 2.16; measured: over 300 s).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from enum import Enum
from functools import partial
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from consumer.core.messages import Outcome, Transact, TransactionEnded
from consumer.errors import ConfigError, Fenced
from consumer.failpoints import failpoint
from consumer.kafka.errors import Step, Verdict, classify, remedy
from consumer.records import OutRecord

STEP_SECONDS = 1.0
FLUSH_SECONDS = 0.5  # one call; what failed is seen after it
COMMIT_SECONDS = 5.0
"""One call; after more than one the producer is made anew."""
LATE = (
    "{} records were not delivered within the {:.1f} s that transaction.timeout.ms allows: see that the leaders of the "
    "output topics are well; over a slow link raise it in CONSUMER_KAFKA__OPTIONS"
)
FENCED_STARTS = 4


class Ready:
    """A new producer is ready and whatever an older one left open has an outcome."""


Result = TransactionEnded | Ready | None


class Sink(Protocol):
    """How outputs and offsets become durable: `Transactor`, or `AtLeastOnce`."""

    @property
    def busy(self) -> bool: ...
    def rebuild(self) -> None: ...
    def begin(self, transaction: Transact) -> None: ...
    def step(self, seconds: float) -> Result: ...
    def give_up(self, why: str) -> None: ...
    def discard(self) -> None: ...


class Phase(Enum):
    """What is under way."""

    IDLE = "idle"
    STARTING = "starting"
    PRODUCING = "producing"
    FLUSHING = "flushing"
    OFFSETS = "offsets"
    COMMITTING = "committing"
    ABORTING = "aborting"


class Transactor:
    """Publishes records and commits offsets in one Kafka transaction.

    `make` makes a producer whose delivery callback is the one given; `group_metadata` returns the consumer's fresh
    group metadata, or None while it must not be used; `wake` is called, on another thread, when a step is worth while.
    """

    def __init__(
        self,
        make: Callable[[Callable[..., None]], Producer],
        topic: str,
        group_metadata: Callable[[], Any | None],
        timeout_seconds: float,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._make, self._topic = make, topic
        self._group_metadata = group_metadata
        self._wake, self._timeout = wake, timeout_seconds
        self._producer: Producer | None = None
        self._phase = Phase.IDLE
        self._outs: Sequence[OutRecord] = ()
        self._offsets: Mapping[int, tuple[int, str]] = {}
        self._failures: list[KafkaError] = []
        self._started = self._deadline = self._retry_at = 0.0
        self._commit_calls = self._starts = self._next = 0
        self._recycle = False
        self._ended: TransactionEnded | None = None
        self._caller = ThreadPoolExecutor(1, "transaction")
        self._call: Future[Any] | None = None
        self._steps: dict[Phase, Callable[[Producer, float], Result]] = {
            Phase.STARTING: self._start,
            Phase.PRODUCING: self._produce,
            Phase.FLUSHING: self._flush,
            Phase.OFFSETS: self._send_offsets,
            Phase.COMMITTING: self._commit,
            Phase.ABORTING: self._abort,
        }

    @property
    def busy(self) -> bool:
        """Whether a step is due, or an outcome is still to be fetched by one."""
        return self._phase is not Phase.IDLE or self._ended is not None

    def rebuild(self) -> None:
        """Give up the producer and make a new one; `step` returns Ready when it is."""
        self.discard()
        self._failures = []
        self._producer = self._make(self._delivered)
        self._phase = Phase.STARTING

    def begin(self, transaction: Transact) -> None:
        """Start a transaction; `step` returns its TransactionEnded."""
        self._outs, self._offsets = transaction.outs, transaction.offsets
        self._next, self._commit_calls = -1, 0
        self._ended = None
        self._started = time.monotonic()
        self._deadline = self._started + self._timeout / 3
        if self._recycle:
            # A delayed EndTxn of the last commit could end this transaction (KAFKA-17754): only a new producer
            # epoch fences it.
            self._recycle = False
            self._finish(Outcome.UNKNOWN, "the last commit took more than one call")
        else:
            self._phase = Phase.PRODUCING

    def step(self, seconds: float = STEP_SECONDS) -> Result:
        """Go on for at most `seconds`; returns what has ended.

        Raises:
            ConfigError: the broker refuses in a way that no retry can mend.
        """
        until = time.monotonic() + seconds
        while self._phase is not Phase.IDLE and self._producer is not None:
            before = self._phase
            result = self._steps[before](self._producer, max(0.0, until - time.monotonic()))
            if result is not None or self._phase is before:
                return result
        ended, self._ended = self._ended, None
        return ended

    def give_up(self, why: str) -> None:
        """Abort, unless the outcome is in the broker's hands already; `step` returns the TransactionEnded."""
        if self._phase is Phase.OFFSETS and self._call is not None:
            self._finish(Outcome.UNKNOWN, why)  # no other call may be made on this producer
        elif self._phase in (Phase.PRODUCING, Phase.FLUSHING, Phase.OFFSETS):
            self._give_up(Outcome.ABORTED, why)

    def discard(self) -> None:
        """Drop the producer without waiting: what it holds is thrown away, its transaction is settled by the next."""
        producer, self._producer = self._producer, None
        self._phase, self._ended = Phase.IDLE, None
        if self._call is not None:  # left behind, with its thread
            self._caller.shutdown(wait=False)
            self._caller, self._call = ThreadPoolExecutor(1, "transaction"), None
        if producer is not None:
            producer.purge()

    # ------------------------------------------------------------------------------------------------- steps

    def _start(self, producer: Producer, seconds: float) -> Result:
        now = time.monotonic()
        if now < self._retry_at:
            return None
        failpoint("before-init")
        try:
            producer.init_transactions(max(0.1, seconds))
        except KafkaException as error:
            verdict = self._verdict(Step.INIT, error)
            if verdict is Verdict.RESUME:
                return None
            # Fenced while it starts: another instance starts as well, or an old transaction still ends (librdkafka
            # #3928). Only when it stays so is there a second instance.
            self._starts += 1
            if verdict is Verdict.FENCED and self._starts >= FENCED_STARTS:
                raise Fenced(
                    f"another instance keeps taking this member's transactional.id ({_text(error)}): "
                    "give each process its own CONSUMER_INSTANCE_ID"
                ) from None
            self._retry_at = now + min(5.0, 0.1 * 2**self._starts)
            producer.purge()
            self._producer = self._make(self._delivered)
            return None
        self._starts = 0
        self._phase = Phase.IDLE
        return Ready()

    def _produce(self, producer: Producer, seconds: float) -> Result:
        try:
            if self._next < 0:
                producer.begin_transaction()
                self._next = 0
                if self._point("after-begin"):
                    return self._give_up(Outcome.ABORTED, "failpoint")
            produce_all(producer, self._outs, self._next, partial(setattr, self, "_next"))
        except BufferError:
            return self._make_room(producer, seconds)
        except KafkaException as error:
            return self._fail(Step.PRODUCE, error)
        self._phase = Phase.FLUSHING
        if self._point("after-produce"):
            return self._give_up(Outcome.ABORTED, "failpoint")
        return None

    def _make_room(self, producer: Producer, seconds: float) -> Result:
        try:
            serve(producer.poll, min(seconds, 0.05))
        except KafkaException as error:
            return self._fail(Step.DELIVERY, error)
        if time.monotonic() > self._deadline:
            return self._give_up(Outcome.LATE, LATE.format(len(self._outs), self._timeout / 3))
        return None

    def _flush(self, producer: Producer, seconds: float) -> Result:
        if self._call is None:
            self._call = self._aside(serve, producer.flush, min(FLUSH_SECONDS, self._left()))
        try:
            left = self._call.result(seconds)
        except TimeoutError:
            return None
        except KafkaException as error:
            self._call = None
            return self._fail(Step.DELIVERY, error)
        self._call = None
        if self._failures:
            return self._fail(Step.DELIVERY, KafkaException(self._failures[0]))
        if left or self._point("in-flush"):
            if time.monotonic() > self._deadline:
                return self._give_up(Outcome.LATE, LATE.format(left, self._timeout / 3))
            return None
        # A third of its own, once: behind records that came in just in time, offsets would be late each time again.
        self._phase, self._deadline = Phase.OFFSETS, time.monotonic() + self._timeout / 3
        if self._point("after-flush"):
            return self._give_up(Outcome.ABORTED, "failpoint")
        return None

    def _send_offsets(self, producer: Producer, seconds: float) -> Result:
        if self._call is None:
            # Fresh each time: metadata kept from before a rebalance is refused, and a generation of -1 would not be
            # fenced at all (classic groups accept it in any state).
            metadata = self._group_metadata()
            if metadata is None:
                return self._give_up(Outcome.ABORTED, "this member is not in the group")
            offsets = [TopicPartition(self._topic, at, offset, text) for at, (offset, text) in self._offsets.items()]
            self._call = self._aside(producer.send_offsets_to_transaction, offsets, metadata, max(0.1, self._left()))
        try:
            self._call.result(seconds)
        except TimeoutError:
            late = time.monotonic() > self._deadline
            return self._finish(Outcome.UNKNOWN, "offsets: the brokers do not answer") if late else None
        except KafkaException as error:
            self._call = None
            return self._fail(Step.OFFSETS, error)
        self._call, self._phase = None, Phase.COMMITTING
        self._deadline = time.monotonic() + self._timeout
        if self._point("after-send-offsets"):
            return self._give_up(Outcome.ABORTED, "failpoint")
        return None

    def _commit(self, producer: Producer, seconds: float) -> Result:
        if self._call is None:
            self._commit_calls += 1
            if self._point("commit-in-flight"):
                return self._finish(Outcome.UNKNOWN, "failpoint: the outcome is lost")
            self._call = self._aside(producer.commit_transaction, COMMIT_SECONDS)
        try:
            self._call.result(seconds)
        except TimeoutError:
            late = time.monotonic() > self._deadline
            return self._finish(Outcome.UNKNOWN, "commit: the brokers do not answer") if late else None
        except KafkaException as error:
            self._call = None
            return self._fail(Step.COMMIT, error)
        self._call = None
        if self._point("after-commit"):
            return self._finish(Outcome.UNKNOWN, "failpoint: the outcome is lost")
        self._recycle = self._commit_calls > 1
        return self._finish(Outcome.COMMITTED, "")

    def _aside(self, call: Callable[..., Any], *args: Any) -> Future[Any]:
        made = self._caller.submit(call, *args)
        made.add_done_callback(lambda _: self._wake())
        return made

    def _abort(self, producer: Producer, seconds: float) -> Result:
        until = time.monotonic() + seconds
        if self._call is not None and not wait([self._call], seconds).done:
            return None  # a flush goes on, for FLUSH_SECONDS at most; its reports are of this transaction
        self._call = None
        try:
            # An abort that overtakes the first AddPartitionsToTxn is fatal (librdkafka #4849): let that one arrive.
            serve(producer.flush, max(0.1, min(until - time.monotonic(), 0.2)))
            producer.abort_transaction(max(0.1, until - time.monotonic()))
        except KafkaException as error:
            if self._verdict(Step.ABORT, error) is Verdict.RESUME and time.monotonic() <= self._deadline:
                return None
            assert self._ended is not None
            return self._finish(Outcome.UNKNOWN, f"{self._ended.error}; then {_text(error)}")
        self._phase, self._failures = Phase.IDLE, []
        return None

    # ----------------------------------------------------------------------------------------------- outcomes

    def _fail(self, step: Step, error: KafkaException) -> Result:
        verdict = self._verdict(step, error)
        text = f"{step.value}: {_text(error)}"
        match verdict:
            case Verdict.RESUME:
                if time.monotonic() <= self._deadline:
                    return None
                if step is Step.COMMIT:  # a client may never find its coordinator again (seen: 60 s, the broker well)
                    return self._finish(Outcome.UNKNOWN, text)
                return self._give_up(Outcome.ABORTED, text)
            case Verdict.ABORT:
                return self._give_up(Outcome.ABORTED, text)
            case Verdict.REFUSED:
                return self._finish(Outcome.REFUSED, text)
            case Verdict.FENCED:
                return self._finish(Outcome.FENCED, text)
            case _:
                return self._finish(Outcome.UNKNOWN, text)

    def _verdict(self, step: Step, error: KafkaException) -> Verdict:
        cause = error.args[0]
        verdict = classify(step, cause)
        if verdict is Verdict.CONFIG:
            raise ConfigError(remedy(step, cause))
        return verdict

    def _give_up(self, outcome: Outcome, text: str) -> Result:
        """Abort; the result comes when that is done."""
        self._ended = self._result(outcome, text)
        self._phase = Phase.ABORTING
        self._deadline = time.monotonic() + self._timeout
        return None

    def _finish(self, outcome: Outcome, text: str) -> Result:
        """The transaction has ended here; no further step follows until the next `begin` or `rebuild`."""
        self._phase = Phase.IDLE
        self._failures, self._outs = [], ()
        self._ended = self._result(outcome, text)
        return None

    def _result(self, outcome: Outcome, text: str) -> TransactionEnded:
        return TransactionEnded(outcome, text, time.monotonic() - self._started)

    def _left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def _point(self, name: str) -> bool:
        """Where tests stop it: not in a transaction that publishes nothing."""
        return bool(self._outs) and failpoint(name)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and error.code() not in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
            self._failures.append(error)


def produce_all(producer: Any, outs: Sequence[OutRecord], start: int, advanced: Callable[[int], None]) -> None:
    """Hand `outs` from `start` on to the producer; `advanced` is told how many are done, also on an exception."""
    done = start
    try:
        for out in outs[start:] if start else outs:
            producer.produce(out.topic, out.value, out.key, out.partition, headers=out.headers)
            done += 1
    finally:
        advanced(done)


def serve(call: Callable[[float], int], seconds: float) -> int:
    """A producer's `poll` or `flush`; what is fatal to the producer is raised as the KafkaException that it is.

    The client raises it in the middle of the delivery reports and serves the next of them with it pending, which
    Python turns into a SystemError (confluent-kafka 2.16, measured).
    """
    try:
        return call(seconds)
    except SystemError as error:
        if isinstance(error.__cause__, KafkaException):
            raise error.__cause__ from None
        raise


def _text(error: KafkaException) -> str:
    cause = error.args[0]
    return f"{cause.name()}: {cause.str()}"
