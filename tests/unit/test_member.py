"""The poll thread's loop with a broker, a producer and a work thread that only do what a test says."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from types import SimpleNamespace
from typing import Any, cast

import pytest

from consumer import member as member_module
from consumer.core import messages as m
from consumer.core.flush import FlushPolicy
from consumer.core.history import History
from consumer.core.item import Item
from consumer.core.machine import Policy
from consumer.errors import Fenced, PolicyStop, Stop
from consumer.kafka.source import Other, Rejoin, Source
from consumer.kafka.transactor import Ready, Result
from consumer.kafka.watch import Ends
from consumer.member import SETTLE_SECONDS, Member
from consumer.records import OutRecord
from consumer.telemetry import Telemetry
from consumer.work.bench import Bench
from consumer.work.report import Broken, Woken
from consumer.work.underway import WORKER, Underway


class FakeSink:
    """Remembers what it was told; `results` are what its steps return, one after the other."""

    def __init__(self) -> None:
        self.busy = False
        self.begun: list[m.Transact] = []
        self.given_up: list[str] = []
        self.results: list[Result] = []

    def begin(self, transaction: m.Transact) -> None:
        self.begun.append(transaction)
        self.busy = True

    def rebuild(self) -> None:
        self.busy = True

    def step(self, seconds: float) -> Result:
        result = self.results.pop(0) if self.results else None
        self.busy = result is None
        return result

    def give_up(self, why: str) -> None:
        self.given_up.append(why)

    def discard(self) -> None:
        self.busy = False


class FakeSource:
    def __init__(self, committed: dict[int, int]) -> None:
        self.committed = committed
        self.at: dict[int, int] = {}
        self.polled = True
        self.asked = 0

    def poll_no_more(self) -> None:
        self.polled = False

    def positions(self, partitions: Sequence[int]) -> dict[int, int]:
        return {number: at for number, at in self.at.items() if number in partitions}

    def pause(self, partitions: Sequence[int]) -> None: ...

    def locate_some(self, partitions: Sequence[int]) -> dict[int, tuple[int | None, str]]:
        self.asked += 1
        return self.locate(partitions)

    def seek(self, partition: int, offset: int | None) -> bool:
        return True

    def resume(self, partitions: Sequence[int]) -> None: ...

    def locate(self, partitions: Sequence[int]) -> dict[int, tuple[int | None, str]]:
        return {number: (self.committed[number], "") for number in partitions if number in self.committed}


class FakeBench:
    def __init__(self) -> None:
        self.underway = Underway("in")

    def post(self, commands: Sequence[Any]) -> None: ...


class Rig:
    """A member that owns partitions 4 and 5, and has finished 50 records of each."""

    def __init__(self) -> None:
        self.sink = FakeSink()
        self.told: list[m.Event] = []
        self.bench = FakeBench()
        policy = Policy(topic="in", flush=FlushPolicy(max_messages=10))
        self.member = Member(
            policy,
            cast(Bench, self.bench),
            SimpleQueue(),
            self.sink,
            Telemetry("in", 0),
            listen=lambda: self.told,
            report=lambda member: None,
            revoke_seconds=60.0,
        )
        self.source = FakeSource({4: 0, 5: 0})
        self.member.source = cast(Source, self.source)
        self.own()

    def own(self) -> None:
        self.member.assigned([4, 5])
        for number, partition in self.member.machine.partitions.items():
            self.member.handle(m.Located(number, partition.epoch, 0, ""))
            partition.trusted = True  # its start is counted

    def fetch(self, number: int, count: int) -> None:
        """The partition's first `count` records come in."""
        chunk = m.Chunk(number, cast(Any, [None] * count), list(range(count)), count)
        self.member.handle(m.Records([chunk], False))

    def work(self, number: int, count: int) -> None:
        """The work thread finishes the partition's first `count` records."""
        partition = self.member.machine.partitions[number]
        offsets = list(range(count))
        self.fetch(number, count)
        items = [Item(at, at, 1, [OutRecord("out", number, None, b"x", [], 1)], 1) for at in offsets]
        self.member.handle(m.Worked(number, partition.epoch, items, count, count))


def test_the_transaction_goes_on_before_input_is_polled_for() -> None:
    """Every poll costs waits for the interpreter lock, and the next transaction waits for this one."""
    rig = Rig()
    rig.work(4, 10)
    rig.fetch(5, 1)
    assert rig.sink.busy
    rig.sink.results = [m.TransactionEnded(m.Outcome.COMMITTED)]
    rig.member._outbox.put(Woken())

    def poll(seconds: float, most: int) -> tuple[m.Records, list[Other]]:
        assert seconds == 0.0
        assert rig.member.machine.partitions[4].committed == 10
        return m.Records(()), []

    rig.source.__dict__["poll"] = poll
    rig.member._poll(cast(Source, rig.source))
    assert not rig.sink.busy


def test_nothing_of_a_lost_partition_is_published_once_the_old_transaction_is_settled() -> None:
    rig = Rig()
    rig.work(5, 10)
    assert [list(begun.offsets) for begun in rig.sink.begun] == [[5]]
    rig.work(4, 10)  # waits for the next transaction
    rig.sink.results = [m.TransactionEnded(m.Outcome.FENCED, "slept for too long")]
    rig.member._step(1.0)
    rig.source.committed = {4: 77, 5: 77}  # others have gone on
    rig.sink.results = [Ready()]

    rig.member.lost([4, 5])
    rig.member._step(1.0)
    rig.member.handle(m.Tick())

    assert len(rig.sink.begun) == 1, "the member has joined again: the broker would have taken this"


def test_a_member_that_only_waits_for_memory_sees_that_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It polls nothing meanwhile, so nothing is handled but the Tick: without it, it would hold for ever."""

    class Paused(Exception):
        pass

    def pause(partitions: Sequence[int]) -> None:
        raise Paused

    clock = iter(range(1000))
    monkeypatch.setattr(member_module, "time", SimpleNamespace(monotonic=lambda: next(clock) / 100))
    rig = Rig()
    rig.member._outbox = cast(Any, SimpleNamespace(get=never, get_nowait=never))
    rig.member.machine.budget.max_bytes = 1
    monkeypatch.setattr(rig.source, "pause", pause)

    def listen() -> Sequence[m.Event]:
        if not rig.member.machine.partitions:
            rig.own()
            rig.fetch(4, 1)
        return []

    rig.member._listen = listen
    with pytest.raises(Paused):
        rig.member.run(cast(Source, rig.source))


def never(timeout: float = 0.0) -> None:
    raise Empty


def test_a_transaction_with_what_is_given_back_is_given_up() -> None:
    rig = Rig()
    rig.work(5, 10)
    rig.work(4, 10)
    rig.sink.results = [m.TransactionEnded(m.Outcome.ABORTED, "given up")]

    rig.member.lost([5])

    assert len(rig.sink.given_up) == 1
    assert [list(begun.offsets) for begun in rig.sink.begun] == [[5]]


def test_partitions_are_polled_as_long_as_the_offset_of_another_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    rig.source.committed = {}
    now = 1000.0

    def asked(partitions: Sequence[int]) -> dict[int, tuple[int | None, str]]:
        nonlocal now
        rig.source.asked += 1
        now += 0.3
        return {}

    monkeypatch.setattr(rig.source, "locate_some", asked)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    rig.member._locating = {4: 1}
    for _ in range(10):
        rig.member._place(cast(Source, rig.source))
        now += 0.1
    assert rig.source.asked == 4, "0.3 s each, and 0.3 s until the next"


def test_an_offset_that_is_not_told_keeps_no_other_partition_from_going_on(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    rig.member._locating.clear()
    rig.work(4, 10)
    rig.sink.results = [m.TransactionEnded(m.Outcome.UNKNOWN, "no answer"), Ready()]
    rig.source.committed = {}  # a transaction holds that of partition 4
    rig.member._step(1.0)
    rig.member._step(1.0)
    rig.work(5, 10)
    rig.member._step(1.0)
    assert len(rig.sink.begun) == 1

    later = time.monotonic() + SETTLE_SECONDS
    monkeypatch.setattr(time, "monotonic", lambda: later)
    rig.member._step(1.0)

    assert [list(begun.offsets) for begun in rig.sink.begun] == [[4], [5]]
    assert list(rig.member._locating) == [4]


def test_a_finished_member_gives_its_partitions_back_at_once() -> None:
    rig = Rig()
    rig.work(5, 10)
    rig.member.handle(m.Stop(deadline=0.0))
    assert rig.member.machine.finished

    since = time.monotonic()
    rig.member.revoked([4, 5])

    assert time.monotonic() - since < 1.0, "there is nobody to wait for"
    assert rig.member.machine.partitions == {}


def test_a_stop_is_heard_while_partitions_are_given_back() -> None:
    rig = Rig()
    rig.work(5, 10)  # its transaction does not end
    rig.told = [m.Stop(time.monotonic() + 0.05)]
    rig.member.revoked([5])
    assert rig.member.machine.finished


def test_what_ends_the_member_while_partitions_are_given_back_keeps_none_of_them() -> None:
    """It commits once more before it ends, and the broker would take that of a partition that another one has."""
    rig = Rig()
    rig.work(5, 10)
    rig.member._outbox.put(Broken(PolicyStop("the topic is gone")))
    with pytest.raises(PolicyStop):
        rig.member.revoked([5])
    assert list(rig.member.machine.partitions) == [4]


def test_a_partition_is_behind_where_neither_the_client_nor_the_machine_has_come_to_the_end() -> None:
    rig = Rig()
    seen = [rig.member._take(Ends({4: 1, 5: 1, 9: 100}))]
    rig.source.at = {4: 1}  # over a transaction's marker, which is no record
    seen.append(rig.member._take(Ends({4: 1, 5: 1})))
    rig.member.machine.partitions[5].position = 1
    call = rig.bench.underway.begin(WORKER, 4, 0)
    seen.append(rig.member._take(Ends({4: 1, 5: 1})))
    rig.bench.underway.end(call)
    assert seen == [m.Reach({4, 5}, set()), m.Reach({5}, set()), m.Reach(set(), {4}, {4: call})]


def test_the_ladder_is_told_counted_and_leads_to_another_source(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    for remedy in ("seek", "rejoin"):
        rig.member._stuck(m.Stuck(4, 17, remedy, "nobody knows"))
    with pytest.raises(Rejoin):
        run_once(rig)
    assert rig.member.machine.partitions == {}
    fields = [line.__dict__["fields"] for line in caplog.records if line.levelno == logging.ERROR]
    known = {"topic": "in", "partition": 4, "offset": 17, "why": "nobody knows"}
    assert fields == [{**known, "remedy": "seek"}, {**known, "remedy": "rejoin"}]
    numbers = rig.member.telemetry.snapshot(rig.member.machine, {}, {})
    assert numbers["stuck_partitions_total", ("rejoin",)] == [1.0]


def run_once(rig: Rig) -> None:
    """One turn, in which the ladder comes to its second step."""

    def listen() -> tuple[m.Event, ...]:
        rig.member._rejoin = True
        return ()

    rig.member._listen = listen
    rig.member._poll = lambda source: None  # type: ignore[method-assign]
    rig.member.run(cast(Source, rig.source))


def test_a_transaction_that_is_not_over_for_long_is_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig()
    rig.work(5, 10)
    rig.member._step(0.0)
    late = "transaction is not over yet"
    assert late not in caplog.messages
    monkeypatch.setattr(member_module, "LATE_SECONDS", -1.0)
    rig.member._step(0.0)
    assert caplog.messages.count(late) == 1


def unmarked_rig() -> Rig:
    """Partition 5 has been fetched, and the transaction that counts its start is under way."""
    rig = Rig()
    rig.member.machine.partitions[5].trusted = False
    rig.fetch(5, 10)
    assert [begun.items for begun in rig.sink.begun] == [[]]
    return rig


def test_a_mark_that_is_aborted_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    rig = unmarked_rig()
    caplog.set_level(logging.INFO)
    rig.sink.results = [m.TransactionEnded(m.Outcome.ABORTED, "STALE_MEMBER_EPOCH")]
    rig.member._step(1.0)
    assert [line.levelno for line in caplog.records if line.getMessage() == "transaction failed"] == [logging.INFO]


def test_a_mark_is_no_batch_in_the_metrics() -> None:
    rig = unmarked_rig()
    rig.sink.results = [m.TransactionEnded(m.Outcome.COMMITTED)]
    rig.member._step(1.0)
    numbers = rig.member.telemetry.snapshot(rig.member.machine, {}, {})
    assert not any(numbers["batch_records", ()])


@pytest.mark.parametrize(("stop", "taken_back"), [(PolicyStop("enough"), True), (Fenced("another"), False)])
def test_a_member_that_ends_with_a_reason_takes_its_marks_back(
    stop: Stop, taken_back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(member_module, "BUSY_SECONDS", 0.0)
    rig = Rig()
    rig.sink.results = [m.TransactionEnded(m.Outcome.COMMITTED)] * 2

    def poll(source: Source) -> None:
        rig.member.assigned([5])
        rig.member.handle(m.Located(5, rig.member.machine.partitions[5].epoch, 0, ""))
        rig.fetch(5, 10)
        rig.member._step(1.0)
        raise stop

    rig.member._poll = poll  # type: ignore[method-assign]
    with pytest.raises(type(stop)):
        rig.member.run(cast(Source, rig.source))
    assert [begun.offsets for begun in rig.sink.begun[1:]] == ([{5: (0, History().encode())}] if taken_back else [])
    assert rig.source.polled != taken_back


def test_a_transaction_that_is_due_with_the_end_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nothing could end it: the marks would stay, and the member be counted as one that died."""
    monkeypatch.setattr(member_module, "BUSY_SECONDS", 0.0)
    rig = unmarked_rig()
    rig.sink.results = [m.TransactionEnded(m.Outcome.COMMITTED)] * 3
    rig.member._step(1.0)
    assert rig.member.machine.marked

    def poll(source: Source) -> None:
        rig.fetch(4, 10)
        epoch = rig.member.machine.partitions[4].epoch
        items = [Item(at, at, 1, [], 1) for at in range(10)]
        rig.member.handle(m.Worked(4, epoch, items, 10, 10, batch_messages=1, batch_bytes=2**40))

    rig.member._poll = poll  # type: ignore[method-assign]
    rig.member._give_back = lambda partitions: None  # type: ignore[method-assign]
    with pytest.raises(Stop, match="open batch of in/4 holds"):
        rig.member.run(cast(Source, rig.source))
    assert not rig.member.machine.marked
