"""The transaction's steps on a producer that answers what a test says."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from consumer.core.messages import Outcome, Transact, TransactionEnded
from consumer.errors import Fenced
from consumer.kafka.transactor import FENCED_STARTS, Ready, Transactor
from consumer.records import OutRecord

TRANSACTION = Transact([OutRecord("out", 0, None, b"value", [], 1)], {0: (1, "")})


class FakeProducer:
    """Does everything at once; `fails[call]`: the errors of its next calls; `raises[call]`: what all raise."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fails: dict[str, list[KafkaError]] = {}
        self.raises: dict[str, Exception] = {}

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*args: Any, **named: Any) -> int:
            self.calls.append(name)
            if name in self.raises:
                raise self.raises[name]
            if self.fails.get(name):
                raise KafkaException(self.fails[name].pop(0))
            return 0

        return call


class Rig:
    def __init__(self, timeout_seconds: float = 10.0) -> None:
        self.producers: list[FakeProducer] = []
        self.woken = Event()
        self.transactor = Transactor(self._make, "in", object, timeout_seconds, self.woken.set)
        self.transactor.rebuild()
        assert isinstance(self.transactor.step(), Ready)

    def _make(self, delivered: Callable[..., None]) -> Producer:
        self.producers.append(FakeProducer())
        return cast(Producer, self.producers[-1])

    def run(self) -> TransactionEnded:
        """Begin a transaction and step until it has ended."""
        self.transactor.begin(TRANSACTION)
        for _ in range(10):
            assert self.transactor.busy, "nobody would ask for the outcome"
            result = self.transactor.step()
            if isinstance(result, TransactionEnded):
                return result
        raise AssertionError("the transaction does not end")

    def run_slowly(self) -> TransactionEnded:
        """The same, in as many short steps as it takes."""
        self.transactor.begin(TRANSACTION)
        while not isinstance(ended := self.transactor.step(0.01), TransactionEnded):
            pass
        return ended


def test_a_transaction_publishes_flushes_sends_offsets_and_commits_in_this_order() -> None:
    rig = Rig()
    assert rig.run().outcome is Outcome.COMMITTED
    assert not rig.transactor.busy
    wanted = ["begin_transaction", "produce", "flush", "send_offsets_to_transaction", "commit_transaction"]
    assert rig.producers[0].calls == ["init_transactions", *wanted]


def test_no_offset_goes_out_before_all_records_are_delivered() -> None:
    rig = Rig()
    left = [2, 1, 1, 0]
    producer = rig.producers[0]
    producer.__dict__["flush"] = lambda seconds: left.pop(0)
    rig.transactor.begin(TRANSACTION)
    while left:
        assert producer.calls[-1] in ("init_transactions", "produce")
        rig.transactor.step()
    assert producer.calls[-2:] == ["send_offsets_to_transaction", "commit_transaction"]


def test_after_a_commit_that_took_two_calls_the_next_transaction_asks_for_a_new_producer() -> None:
    rig = Rig()
    rig.producers[0].fails["commit_transaction"] = [KafkaError(KafkaError._TIMED_OUT, "slow", retriable=True)]
    assert rig.run().outcome is Outcome.COMMITTED

    assert rig.run().outcome is Outcome.UNKNOWN
    assert not rig.transactor.busy
    assert rig.producers[0].calls.count("begin_transaction") == 1

    rig.transactor.rebuild()
    assert isinstance(rig.transactor.step(), Ready)
    assert rig.run().outcome is Outcome.COMMITTED


def test_nothing_but_the_same_commit_follows_a_commit_that_timed_out() -> None:
    rig = Rig()
    rig.producers[0].fails["commit_transaction"] = [KafkaError(KafkaError._TIMED_OUT, "slow", retriable=True)] * 3
    rig.transactor.begin(TRANSACTION)
    assert rig.transactor.step() is None
    rig.transactor.give_up("revoked")
    for _ in range(3):
        result = rig.transactor.step()
    assert isinstance(result, TransactionEnded)
    assert result.outcome is Outcome.COMMITTED
    assert "abort_transaction" not in rig.producers[0].calls


def test_without_a_generation_no_offsets_are_sent() -> None:
    rig = Rig()
    rig.transactor._group_metadata = lambda: None
    ended = rig.run()
    assert ended.outcome is Outcome.ABORTED
    assert "send_offsets_to_transaction" not in rig.producers[0].calls
    assert rig.producers[0].calls[-1] == "abort_transaction"


@pytest.mark.parametrize("call", ["flush", "poll"])
def test_a_fatal_error_among_delivery_reports_is_itself_and_not_the_death_of_the_member(call: str) -> None:
    rig = Rig()
    producer = rig.producers[0]
    if call == "poll":
        producer.raises["produce"] = BufferError("queue full")
    fatal = SystemError("a delivery report returned a result with an exception set")
    fatal.__cause__ = KafkaException(KafkaError(KafkaError._FENCED, "fenced by a newer instance", fatal=True))
    producer.raises[call] = fatal
    assert rig.run().outcome is Outcome.FENCED


@pytest.mark.parametrize("full", [False, True])
def test_what_is_not_delivered_in_time_is_told_as_that(full: bool) -> None:
    rig = Rig(0.0)
    if full:
        rig.producers[0].raises["produce"] = BufferError("queue full")
    else:
        rig.producers[0].__dict__["flush"] = lambda seconds: 1
    ended = rig.run()
    assert ended.outcome is Outcome.LATE
    assert ended.error.startswith("1 records were not delivered within the 0.0 s that transaction.timeout.ms allows")
    assert rig.producers[0].calls[-1] == "abort_transaction"


def test_a_flush_is_asked_for_no_longer_than_there_is_time() -> None:
    asked: list[float] = []

    def unfinished(seconds: float) -> int:
        asked.append(seconds)
        return 1

    rig = Rig(0.15)
    rig.producers[0].__dict__["flush"] = unfinished
    assert rig.run_slowly().outcome is Outcome.LATE
    assert max(asked[:-1]) <= 0.05  # the last one is the abort's


def test_a_system_error_of_another_kind_stays_one() -> None:
    rig = Rig()
    rig.producers[0].raises["flush"] = SystemError("of Python's own")
    with pytest.raises(SystemError, match="own"):
        rig.run()


class Hanging(Rig):
    """Its first producer's `send_offsets_to_transaction` does not return before `goes_on` is set."""

    def __init__(self, timeout_seconds: float) -> None:
        super().__init__(timeout_seconds)
        self.called, self.goes_on = Event(), Event()
        self.producers[0].__dict__["send_offsets_to_transaction"] = self._send_offsets

    def _send_offsets(self, *args: Any) -> None:
        self.called.set()
        self.goes_on.wait(30)


def test_offsets_behind_what_was_delivered_just_in_time_have_time_of_their_own() -> None:
    """Else they would be late, and the same batch again and again: only what is not delivered is sent in halves."""
    rig, asked = Rig(60.0), []

    def flush(seconds: float) -> int:
        rig.transactor._deadline = 0.0  # it has passed meanwhile
        return 0

    rig.producers[0].__dict__["flush"] = flush
    rig.producers[0].__dict__["send_offsets_to_transaction"] = lambda *given: asked.append(given[2])
    assert rig.run().outcome is Outcome.COMMITTED
    assert 19 < asked[0] <= 20


def test_asking_for_the_offsets_again_gives_them_no_more_time() -> None:
    rig, deadlines = Rig(0.15), []
    again = KafkaException(KafkaError(KafkaError.COORDINATOR_NOT_AVAILABLE, "soon", retriable=True))

    def send_offsets(*_: Any) -> None:
        deadlines.append(rig.transactor._deadline)
        raise again

    rig.producers[0].__dict__["send_offsets_to_transaction"] = send_offsets
    assert rig.run_slowly().outcome is Outcome.ABORTED
    assert len(deadlines) > 1
    assert len(set(deadlines)) == 1


def test_an_abort_lets_the_records_go_out_first_even_where_its_step_has_no_time() -> None:
    asked: list[float] = []

    def flush(seconds: float) -> int:
        asked.append(seconds)
        return 0

    rig = Rig()
    rig.producers[0].__dict__["flush"] = flush
    rig.transactor.begin(TRANSACTION)
    rig.transactor.give_up("revoked")
    ended = rig.transactor.step(0.0)
    assert isinstance(ended, TransactionEnded)
    assert ended.outcome is Outcome.ABORTED
    assert asked == [0.1]


@pytest.mark.parametrize("why", ["late", "given back"])
def test_offsets_that_hang_do_not_hold_the_member_and_their_producer_is_not_used_again(why: str) -> None:
    rig = Hanging(0.05 if why == "late" else 60.0)
    try:
        rig.transactor.begin(TRANSACTION)
        while not rig.called.is_set():
            assert rig.transactor.step(0.01) is None
        if why == "given back":
            rig.transactor.give_up(why)
        ended = rig.transactor.step(0.01)
        while ended is None:
            ended = rig.transactor.step(0.01)
        assert isinstance(ended, TransactionEnded)
        assert ended.outcome is Outcome.UNKNOWN

        used = list(rig.producers[0].calls)
        rig.transactor.rebuild()
        assert isinstance(rig.transactor.step(), Ready)
        assert rig.run().outcome is Outcome.COMMITTED
        assert rig.producers[0].calls == [*used, "purge"]
    finally:
        rig.goes_on.set()


def test_a_flush_holds_nothing_up_and_an_abort_waits_for_it() -> None:
    """Its reports come on another thread: after the abort they would be taken for the next transaction's."""
    rig = Rig()
    called, goes_on = Event(), Event()

    def flush(seconds: float) -> int:
        called.set()
        goes_on.wait(30)
        rig.transactor._delivered(KafkaError(KafkaError._MSG_TIMED_OUT), cast(Message, None))
        return 0

    rig.producers[0].__dict__["flush"] = flush
    try:
        rig.transactor.begin(TRANSACTION)
        while not called.is_set():
            assert rig.transactor.step(0.01) is None
        rig.transactor.give_up("revoked")
        assert rig.transactor.step(0.01) is None
        assert "abort_transaction" not in rig.producers[0].calls
        rig.woken.clear()
    finally:
        goes_on.set()
    assert rig.woken.wait(10), "the member would look again only later"
    del rig.producers[0].__dict__["flush"]
    ended = rig.transactor.step()
    assert isinstance(ended, TransactionEnded)
    assert ended.outcome is Outcome.ABORTED
    assert rig.run().outcome is Outcome.COMMITTED


def test_a_commit_under_way_holds_nothing_up_and_is_not_given_up() -> None:
    rig = Rig()
    called, goes_on = Event(), Event()

    def commit(seconds: float) -> None:
        called.set()
        goes_on.wait(30)

    rig.producers[0].__dict__["commit_transaction"] = commit
    try:
        rig.transactor.begin(TRANSACTION)
        while not called.is_set():
            assert rig.transactor.step(0.01) is None
        rig.transactor.give_up("revoked")
        assert rig.transactor.step(0.0) is None
        rig.woken.clear()
    finally:
        goes_on.set()
    assert rig.woken.wait(10), "the member would look again only later"
    ended = rig.transactor.step()
    assert isinstance(ended, TransactionEnded)
    assert ended.outcome is Outcome.COMMITTED


@pytest.mark.parametrize("hangs", [True, False])
def test_a_commit_that_no_broker_answers_is_left_to_the_next_producer(hangs: bool) -> None:
    rig = Rig(0.1)
    goes_on = Event()
    timed_out = KafkaException(KafkaError(KafkaError._TIMED_OUT, "slow", retriable=True))
    if hangs:
        rig.producers[0].__dict__["commit_transaction"] = lambda seconds: goes_on.wait(30)
    else:
        rig.producers[0].raises["commit_transaction"] = timed_out
    try:
        assert rig.run_slowly().outcome is Outcome.UNKNOWN
        assert "abort_transaction" not in rig.producers[0].calls
        rig.transactor.rebuild()
        assert isinstance(rig.transactor.step(), Ready)
        assert rig.run().outcome is Outcome.COMMITTED
    finally:
        goes_on.set()


def test_an_abort_that_no_broker_answers_is_left_to_the_next_producer() -> None:
    rig = Rig(0.1)
    rig.producers[0].fails["produce"] = [KafkaError(KafkaError._STATE, "must be aborted", txn_requires_abort=True)]
    rig.producers[0].raises["abort_transaction"] = KafkaException(
        KafkaError(KafkaError._TIMED_OUT, "slow", retriable=True)
    )
    ended = rig.run_slowly()
    assert ended.outcome is Outcome.UNKNOWN
    assert "must be aborted" in ended.error


@pytest.mark.parametrize(("times", "another"), [(FENCED_STARTS - 1, False), (FENCED_STARTS, True)])
def test_fenced_again_and_again_while_it_starts_there_is_another_instance(times: int, another: bool) -> None:
    rig = Rig()
    fences = [KafkaError(KafkaError._FENCED, "fenced by a newer instance", fatal=True) for _ in range(times)]
    making = rig.transactor._make

    def make(delivered: Callable[..., None]) -> Producer:
        producer = making(delivered)
        cast(FakeProducer, producer).fails["init_transactions"] = [fences.pop()] if fences else []
        return producer

    rig.transactor._make = make
    rig.transactor.rebuild()
    results: list[object] = []

    def start() -> None:
        while not results or results[-1] is None:
            rig.transactor._retry_at = 0.0
            results.append(rig.transactor.step())

    if another:
        with pytest.raises(Fenced, match="give each process its own CONSUMER_INSTANCE_ID"):
            start()
    else:
        start()
        assert isinstance(results[-1], Ready)
