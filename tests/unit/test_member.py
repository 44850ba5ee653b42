"""The poll thread's loop with a broker, a producer and a work thread that only do what a test says."""

from __future__ import annotations

import time
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any, cast

from consumer.core import messages as m
from consumer.core.flush import FlushPolicy
from consumer.core.item import Item
from consumer.core.machine import Policy
from consumer.kafka.source import Source
from consumer.kafka.transactor import Ready, Result
from consumer.member import Member
from consumer.records import OutRecord
from consumer.telemetry import Telemetry
from consumer.work.bench import Bench


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

    def locate(self, partitions: Sequence[int], seconds: float = 1.0) -> dict[int, tuple[int | None, str]]:
        return {number: (self.committed[number], "") for number in partitions}


class FakeBench:
    def post(self, commands: Sequence[Any]) -> None: ...


class Rig:
    """A member that owns partitions 4 and 5, and has finished 50 records of each."""

    def __init__(self) -> None:
        self.sink = FakeSink()
        self.told: list[m.Event] = []
        policy = Policy(topic="in", flush=FlushPolicy(max_messages=10))
        self.member = Member(
            policy,
            cast(Bench, FakeBench()),
            SimpleQueue(),
            self.sink,
            Telemetry("in", 0),
            listen=lambda: self.told,
            report=lambda member: None,
            revoke_seconds=60.0,
        )
        self.source = FakeSource({4: 0, 5: 0})
        self.member.source = cast(Source, self.source)
        self.member.assigned([4, 5])
        for number, partition in self.member.machine.partitions.items():
            self.member.handle(m.Located(number, partition.epoch, 0, ""))

    def work(self, number: int, count: int) -> None:
        """The work thread finishes the partition's first `count` records."""
        partition = self.member.machine.partitions[number]
        offsets = list(range(count))
        chunk = m.Chunk(number, cast(Any, [None] * count), offsets, count)
        self.member.handle(m.Records([chunk], False))
        items = [Item(at, at, 1, [OutRecord("out", number, None, b"x", [])], 1) for at in offsets]
        self.member.handle(m.Worked(number, partition.epoch, items, count, count))


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


def test_a_transaction_with_what_is_given_back_is_given_up() -> None:
    rig = Rig()
    rig.work(5, 10)
    rig.work(4, 10)
    rig.sink.results = [m.TransactionEnded(m.Outcome.ABORTED, "given up")]

    rig.member.lost([5])

    assert len(rig.sink.given_up) == 1
    assert [list(begun.offsets) for begun in rig.sink.begun] == [[5]]


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
