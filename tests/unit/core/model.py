"""A model of everything around the state machine: a broker, a poll thread, a work thread. Nothing runs by itself.

`World` drives one `Machine` and judges what it publishes and commits. Its methods are the steps of a schedule; every
step may come at any time, events and commands wait in queues in between, as they do between the threads.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from consumer.core import messages as m
from consumer.core.flush import FlushPolicy, Phase
from consumer.core.history import DeadLetterLimits, History, Mark
from consumer.core.item import Item
from consumer.core.machine import Machine, Policy
from consumer.core.partition import Partition, State
from consumer.core.retry import Backoff
from consumer.core.starts import _on_trial
from consumer.limits import Limits
from consumer.records import OutRecord
from tests.unit.core.lanes import ModelBench, after

POLICY = Policy(
    topic="in",
    flush=FlushPolicy(max_messages=5, max_bytes=200, backoff=Backoff(0.1, 2.0, 1.0)),
    memory_bytes=1000,
    retry=Backoff(0.5, 1.5, 5.0),
    retry_attempts=3,
    retry_elapsed_seconds=1e9,
)
NO_LIMIT = DeadLetterLimits(10**9, 1)


@dataclass(eq=False)
class FakeRecord:
    """One input record; it is its own decoded checkpoint."""

    number: int
    at: int
    sequence_number: int
    epoch: int
    end_of_epoch: bool
    size: int
    unread: bool = False
    """Dead-lettered without being decoded: it tells nothing."""

    def partition(self) -> int:
        return self.number

    def offset(self) -> int:
        return self.at

    def key(self) -> bytes | None:
        return None

    def value(self) -> bytes | None:
        return b"x" * self.size if self.size else None

    def headers(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 0, 0


@dataclass
class Log:
    """One input partition on the broker, and what its group has done with it."""

    records: list[FakeRecord] = field(default_factory=list)
    end: int = 0
    committed: int | None = None
    metadata: str = ""
    published: list[tuple[str, int]] = field(default_factory=list)
    """What a read_committed reader sees: (ok or dead, input offset), in order."""

    def after(self, offset: int) -> list[FakeRecord]:
        return [record for record in self.records if record.at >= offset]


@dataclass
class Fetch:
    """The consumer's state of one owned partition."""

    position: int | None = None
    paused: bool = True
    seek: list[int | None] = field(default_factory=list)
    resume: bool = False


class World:
    """One member against the model; `truth` (below) is what the broker did, whatever the member heard."""

    def __init__(self, policy: Policy = POLICY, partitions: int = 3, seed: int = 0) -> None:
        self.policy = policy
        self.random = random.Random(seed)
        self.logs = {number: Log() for number in range(partitions)}
        self.now = 100.0
        self.failures: dict[tuple[int, int], list[m.FailureKind]] = {}
        self.filtered: set[tuple[int, int]] = set()
        self.poison: set[tuple[int, int]] = set()
        self.reducer_declines = False
        self.dead_letter_limits = NO_LIMIT
        self.marks_at_once = True
        """Transactions that only count a start are committed before anything else happens."""
        self.fails: list[m.Fail] = []
        self.log: list[m.Command] = []
        self.start()

    # ------------------------------------------------------------------------------------------ life and death

    def start(self) -> None:
        """A new process: nothing is owned, nothing is known."""
        self.machine = Machine(self.policy, self.random)
        self.bench = self.make_bench()
        self.inbox: deque[m.Command] = deque()
        self.outbox: deque[m.Event] = deque()
        self.fetch: dict[int, Fetch] = {}
        self.epochs: dict[int, int] = {}
        self.locating: dict[int, int] = {}
        self.located: dict[int, int] = {}
        """Partition → the epoch under which its metadata was read."""
        self.submitted: dict[int, int] = {}
        """Partition → the lowest offset that the machine may submit next."""
        self.transaction: m.Transact | None = None
        self.rebuild: Sequence[int] | None = None
        self.finished = False

    @property
    def held_bytes(self) -> int:
        """Fetched, in flight, batched and unsent bytes."""
        return sum(partition.held_bytes for partition in self.machine.partitions.values())

    def make_bench(self) -> Any:
        """The work thread's stand-in; `handle`, `work`, `work_all`, `lanes`."""
        return ModelBench(self)

    def restart(self) -> None:
        """The process dies: an open transaction is aborted by its successor."""
        self.start()

    # ------------------------------------------------------------------------------------------------- events

    def handle(self, *events: m.Event) -> list[m.Command]:
        """Feed the machine and carry out what it wants, as the poll thread does."""
        commands = self.machine.handle_all(events, self.now)
        self.log += commands
        for command in commands:
            self._do(command)
        self._check()
        self.finished = self.finished or bool(self.fails)
        return commands

    def _do(self, command: m.Command) -> None:  # noqa: C901, PLR0912 - one case per command
        match command:
            case m.Locate(number, epoch):
                self._new_epoch(number, epoch)
                self.locating[number] = epoch
            case m.Seek(number, offset):
                self.fetch[number].seek = [offset]
            case m.Pause(numbers):
                for number in numbers:
                    assert not self.fetch[number].paused or self.fetch[number].resume, "paused twice"
                    self.fetch[number].paused, self.fetch[number].resume = True, False
            case m.Resume(numbers):
                for number in numbers:
                    assert self.fetch[number].paused, "resumed twice"
                    assert not self.fetch[number].resume, "resumed twice"
                    self.fetch[number].resume = True
            case m.Transact():
                assert self.transaction is None, "two transactions at once"
                assert self.rebuild is None, "a transaction without a producer"
                assert command.offsets, "an empty transaction"
                self.transaction = command
                if self.marks_at_once and not command.items:
                    self.end_transaction(m.Outcome.COMMITTED)
            case m.Rebuild(numbers):
                assert self.transaction is None
                assert self.rebuild is None
                self.rebuild = numbers
            case m.Fail():
                self.fails.append(command)
            case m.Finish():
                self.finished = True
            case m.Stuck():
                pass  # in the log
            case m.Submit(chunk, epoch):
                self._submit(chunk, epoch)
                for record in self.logs[chunk.partition].records:
                    if record.at in chunk.offsets:
                        record.unread = record.at in command.unread
                self.inbox.append(command)
            case _:
                assert command.epoch == self.epochs.get(command.partition) or isinstance(command, m.Drop)
                self.inbox.append(command)

    def _new_epoch(self, number: int, epoch: int) -> None:
        assert epoch > self.epochs.get(number, 0), "an epoch that is not new"
        self.epochs[number] = epoch
        self.submitted.pop(number, None)

    def _submit(self, chunk: m.Chunk, epoch: int) -> None:
        """What is submitted is exactly what comes next in the log: nothing skipped, nothing twice."""
        number = chunk.partition
        assert epoch == self.epochs[number]
        start = self.submitted.get(number)
        if start is None:
            start = self.logs[number].committed or 0
        expected = [record.at for record in self.logs[number].after(start)][: len(chunk.offsets)]
        assert list(chunk.offsets) == expected, f"submitted {chunk.offsets}, next were {expected}"
        self.submitted[number] = chunk.offsets[-1] + 1
        self._may_run(chunk)

    def _may_run(self, chunk: m.Chunk) -> None:
        """The metadata names this process first, or this assignment has committed; in a trial it names the record."""
        machine, partition = self.machine, self.machine.partitions[chunk.partition]
        marks = {  # but for one that was lost while it was named: it cannot be changed before it is located again
            number: History.decode(self.logs[number].metadata).mark
            for number, other in machine.partitions.items()
            if self.located.get(number) == other.epoch or other.history.mark.process
        }
        mark = marks[chunk.partition]
        named = mark.process == machine.starts.process
        if partition.trusted:
            assert named or mark == Mark(), "worked on before its start was counted"
            return
        assert len(chunk.offsets) == 1, "several records of a partition on trial"
        assert not any(p.submitted for p in machine.partitions.values() if p is not partition), "it does not run alone"
        suspects = {(number, mark.suspect) for number, mark in marks.items() if mark.process == machine.starts.process}
        if chunk.offsets[0] in partition.unread:
            assert suspects <= {(number, None) for number in marks}, "an innocent record is named"
        else:
            assert (chunk.partition, chunk.offsets[0]) in suspects, "it runs alone and is not named"
            assert len([1 for _, suspect in suspects if suspect is not None]) == 1, "an innocent record is named"

    def _check(self) -> None:
        machine = self.machine
        if not (machine.finished or self.finished or self.fails):
            assert machine.wake_at(self.now) > self.now, "the loop spins"
        assert machine.wake_at(self.now) <= self.now + 1.0
        for number, partition in machine.partitions.items():
            fetch = self.fetch[number]
            assert partition.paused == (fetch.paused and not fetch.resume), "who is paused?"
            assert partition.raw_bytes >= 0
            assert partition.in_work >= 0
            assert (partition.in_work > 0) or partition.raw_bytes == 0
            self._may_be_passed_over(partition)
        assert (machine.flusher.phase is Phase.SENDING) == (self.transaction is not None) or self.fails

    def _may_be_passed_over(self, partition: Partition) -> None:
        """What is at rest, so that a start's bookkeeping does not come by, would not have been changed by it."""
        starts, trusted = self.machine.starts, partition.trusted
        if starts._at_rest(partition):
            for busy in (False, True):
                assert starts._wanted(partition, alone=False, busy=busy) is None, "its mark is missed"
                starts._trust(partition, busy)
                assert partition.trusted == trusted, "its trust is missed"
            assert not partition.waiting, "what waits is missed"
            assert not starts._named(partition), "a trial is missed"
            assert not (partition.submitted and _on_trial(partition)), "a trial is missed"

    # ------------------------------------------------------------------------------------------------ schedule

    def append(self, number: int, count: int, *, hole: int = 0, size: int = 40) -> None:
        """Records come in, after a hole in the offsets."""
        log = self.logs[number]
        log.end += hole
        for _ in range(count):
            sequence = len(log.records) * len(self.logs) + number
            log.records.append(FakeRecord(number, log.end, sequence, 0, False, size))
            log.end += 1

    def assign(self, *numbers: int) -> None:
        for number in numbers:
            self.fetch[number] = Fetch()
        self.handle(m.Assigned(numbers))

    def place(self, *, seeks: bool = True) -> None:
        """The poll thread's turn: committed offsets, seeks, resumes. A locate waits for an open transaction."""
        for number, epoch in list(self.locating.items()):
            if self.transaction is None or number not in self.transaction.offsets:
                del self.locating[number]
                log = self.logs[number]
                self.located[number] = epoch
                self.handle(m.Located(number, epoch, log.committed, log.metadata))
        for number, fetch in self.fetch.items():
            if fetch.seek and seeks:
                fetch.position = fetch.seek.pop() or 0
                self.submitted.setdefault(number, fetch.position)
            if fetch.resume and not fetch.seek:
                fetch.resume, fetch.paused = False, False

    def fetched(self, most: int, numbers: Iterable[int] | None = None) -> list[m.Chunk]:
        """Take what is there of the partitions that are fetched."""
        chunks = []
        for number, fetch in self.fetch.items():
            if fetch.paused or fetch.position is None or (numbers is not None and number not in numbers):
                continue
            records = self.logs[number].after(fetch.position)[:most]
            if records:
                fetch.position = records[-1].at + 1
                offsets = [record.at for record in records]
                chunks.append(m.Chunk(number, records, offsets, sum(record.size for record in records)))
        return chunks

    def poll(self, most: int = 3, *, more: bool = False) -> None:
        if not self.machine.holding:
            chunks = [chunk for chunk in self.fetched(most) if not self.fetch[chunk.partition].seek]
            self.handle(m.Records(chunks, more), *self._ends())

    def _ends(self) -> list[m.Event]:
        ends: list[m.Event] = []
        for number, fetch in list(self.fetch.items()):
            if self.policy.limits.bounded and not fetch.paused and fetch.position is not None:
                log = self.logs[number]
                if fetch.position >= (log.records[-1].at + 1 if log.records else 0):
                    ends.append(m.EndReached(number, log.end))
        return ends

    def revoke(self, numbers: Sequence[int], *, turns: int = 0, others: int = 0) -> None:
        """Inside one call of poll: `others` records of other partitions were taken before, and come after it."""
        stale = self.fetched(others, set(self.fetch) - set(numbers)) if others else []
        self.handle(m.Revoking(numbers))
        for _ in range(turns):
            if self.machine.drained(numbers):
                break
            self.commands()
            self.work_all()
            self.reports()
            if self.transaction is not None and self.random.random() < 0.7:
                self.end_transaction(self.random.choice(list(m.Outcome)), truth=self.random.random() < 0.5)
            if self.finished:
                return
            if self.random.random() < 0.7:
                self.settle()
            self.handle(m.Tick())
        self.lose(numbers)
        if not self.finished:
            self.handle(m.Records([chunk for chunk in stale if not self.fetch[chunk.partition].seek]))

    def lose(self, numbers: Sequence[int]) -> None:
        if self.finished:
            return
        for number in numbers:
            self.locating.pop(number, None)
        self.handle(m.Revoked(numbers))
        for number in numbers:
            del self.fetch[number]

    def other_member(self, number: int, count: int) -> None:
        """The partition's owner of the moment works on it, exactly once as well."""
        assert number not in self.fetch
        if self.transaction is not None and number in self.transaction.offsets:
            return  # it has to wait until that transaction has an outcome
        log = self.logs[number]
        for record in log.after(log.committed or 0)[:count]:
            if (number, record.at) not in self.filtered:
                log.published.append(("ok", record.at))
            log.committed = record.at + 1
            log.metadata = after(History.decode(log.metadata), record, dead=False).encode()

    def commands(self, count: int | None = None) -> None:
        """The work thread takes in commands."""
        for _ in range(len(self.inbox) if count is None else min(count, len(self.inbox))):
            self.bench.handle(self.inbox.popleft())

    def work(self, number: int, ahead: int = 0) -> None:
        self.bench.work(number, ahead)

    def work_all(self) -> None:
        self.bench.work_all()

    def reports(self, count: int | None = None) -> None:
        """The poll thread takes in what the work thread reported, all at once as it does."""
        count = len(self.outbox) if count is None else min(count, len(self.outbox))
        events = [self.outbox.popleft() for _ in range(count)]
        if events and not self.finished:
            self.handle(*events)

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.handle(m.Tick())

    def early_tick(self, fraction: float) -> None:
        """Before the time that the machine named there is nothing to do."""
        wake_at = self.machine.wake_at(self.now)
        now = self.now + fraction * (wake_at - self.now)
        if now < wake_at:
            self.now = now
            commands = self.handle(m.Tick())
            assert commands == [], "something was due before its time"

    # -------------------------------------------------------------------------------------------- transactions

    def end_transaction(self, outcome: m.Outcome, *, truth: bool = True) -> None:
        """The member hears `outcome`; of an unknown one, `truth` is whether the broker committed it."""
        transaction = self.transaction
        assert transaction is not None
        refusable = any(
            kind == "ok" and (out.partition, at) in self.poison
            for out in transaction.outs
            for kind, at in self.offsets_in([out])
        )
        if refusable and outcome is m.Outcome.COMMITTED:
            outcome = m.Outcome.REFUSED
        if not refusable and outcome is m.Outcome.REFUSED:
            outcome = m.Outcome.ABORTED
        unknown = outcome in (m.Outcome.UNKNOWN, m.Outcome.FENCED)
        if outcome is m.Outcome.COMMITTED or (unknown and truth and not refusable):
            self._commit(transaction)
        self.transaction = None
        self.handle(m.TransactionEnded(outcome, "the broker says no", 0.01))

    def settle(self) -> None:
        if self.rebuild is not None:
            owned = [number for number in self.rebuild if number in self.machine.partitions]
            self.rebuild = None
            self.handle(m.Settled({number: self.logs[number].committed for number in owned}))

    def offsets_in(self, outs: Iterable[OutRecord]) -> list[tuple[str, int]]:
        """(ok or dead, input offset) for every input record that these output records account for."""
        found = []
        for out in outs:
            kind, _, offsets = (out.value or b"").decode().partition(":")
            found += [(kind, int(offset)) for offset in offsets.split(",")]
        return found

    def _commit(self, transaction: m.Transact) -> None:
        """The broker makes it visible: every input record below the new offsets is accounted for exactly once."""
        for number, (next_offset, metadata) in transaction.offsets.items():
            log = self.logs[number]
            outs = self.offsets_in(out for out in transaction.outs if out.partition == number)
            if next_offset == (log.records[0].at if log.committed is None else log.committed):
                assert not outs, "published and not committed"
                assert unmarked(metadata) == unmarked(log.metadata), "a mark that changes more"
                log.committed, log.metadata = next_offset, metadata
                continue
            assert next_offset > (log.committed or 0), "a commit that goes backwards"
            inputs = [record.at for record in log.after(log.committed or 0) if record.at < next_offset]
            accounted = sorted(at for _, at in outs)
            must = [at for at in inputs if (number, at) not in self.filtered or at in accounted]
            assert accounted == must, f"partition {number}: published {outs} for the input {inputs}"
            assert inputs, "a commit that moves nothing"
            assert next_offset == inputs[-1] + 1, "a commit past the last record that was delivered"
            assert not {(number, at) for kind, at in outs if kind == "ok"} & self.poison
            history = unmarked(log.metadata)
            for record in log.after(log.committed or 0)[: len(inputs)]:
                dead = ("dead", record.at) in outs
                history = after(history, record, dead=dead)
                assert not (dead and self.dead_letter_limits.refuses(history)), "one dead letter too many"
            assert unmarked(metadata) == history, "the metadata is not of what is committed with it"
            log.published += outs
            log.committed, log.metadata = next_offset, metadata
        assert {out.partition for out in transaction.outs} <= set(transaction.offsets)

    # ---------------------------------------------------------------------------------------------- to the end

    def turn(self, outcome: m.Outcome = m.Outcome.COMMITTED, *, truth: bool = True) -> None:
        """One turn of the loop; nothing goes wrong but, perhaps, the transaction."""
        self.commands()
        self.work_all()
        self.reports()
        if self.transaction is not None:
            self.end_transaction(outcome, truth=truth)
        if not self.finished:
            self.settle()
            self.place()
            self.poll()
        if not self.finished:
            self.early_tick(self.random.random())
        if not self.finished:
            self.now = self.machine.wake_at(self.now)
            self.handle(m.Tick())

    def settle_down(self, turns: int = 500) -> None:
        """Faults are over: everything that came in is published and committed, and nothing is held any more."""
        self.reducer_declines = False
        self.fails = []
        for _ in range(turns):
            if self.finished:
                self.restart()
            missing = [number for number in self.logs if number not in self.fetch]
            if missing:
                self.assign(*missing)
            if self.all_committed() and self.machine.stop_deadline is None:
                break
            self.turn()
            assert not self.fails, self.fails
        assert self.all_committed(), "it does not get to the end"
        for _ in range(4):
            self.turn()
        assert self.held_bytes == 0
        assert self.machine.in_work == 0
        assert all(partition.attempts == {} for partition in self.machine.partitions.values())
        self.check_output()

    def all_committed(self) -> bool:
        return all((log.committed or 0) == (log.records[-1].at + 1 if log.records else 0) for log in self.logs.values())

    def check_output(self) -> None:
        """Every record once, those of one partition in order."""
        for number, log in self.logs.items():
            offsets = [at for _, at in log.published]
            expected = [record.at for record in log.records if record.at < (log.committed or 0)]
            missing = set(expected) - set(offsets)
            assert sorted(offsets) == sorted(set(offsets)), "published twice"
            assert {(number, at) for at in missing} <= self.filtered, "not published"
            results = [at for kind, at in log.published if kind == "ok"]
            assert results == sorted(results), "out of order"

    def stop(self, seconds: float = 5.0) -> None:
        self.handle(m.Stop(self.now + seconds))


def unmarked(metadata: str) -> History:
    return replace(History.decode(metadata).marked(Mark()), topic_id="")


def running(world: World, number: int) -> bool:
    return number in world.machine.partitions and world.machine.partitions[number].state is State.RUNNING


__all__ = ["POLICY", "FakeRecord", "Item", "Limits", "World", "running"]
