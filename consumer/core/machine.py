"""A member's logic: `handle(event, now) -> [command]`, without I/O, threads or a clock of its own.

It owns the partitions' state and the decision what happens next; the poll thread turns Kafka into events and
commands into calls, the work thread runs user code. `now` is monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from random import Random
from typing import Any

from consumer.core import faults, lifecycle, stops
from consumer.core import messages as m
from consumer.core.budget import Budget
from consumer.core.flush import Flusher, Phase
from consumer.core.history import History
from consumer.core.lifecycle import LEAVING
from consumer.core.partition import Partition, State, below
from consumer.core.policy import Policy
from consumer.core.progress import Progress, Remedy
from consumer.core.retrying import Retries
from consumer.core.starts import Starts

__all__ = ["Machine", "Policy"]


class Machine:
    """The state machine of one member."""

    def __init__(self, policy: Policy, random: Random) -> None:
        self.policy = policy
        self.partitions: dict[int, Partition] = {}
        self.flusher = Flusher(policy.flush, random)
        self.retries = Retries(policy, random)
        self.budget = Budget(policy.memory_bytes)
        self.progress = Progress(policy.stuck_seconds)
        self.starts = Starts(random.getrandbits(48) | 1)
        self.stop_deadline: float | None = None
        self.finished = False
        self._end_with: m.Finish | m.Fail = m.Finish()
        self.limit_reached = False
        self._epochs = 0
        self._input_ready = False
        self._progressed_at = 0.0
        self._out: list[m.Command] = []
        self._handlers: dict[type, Callable[[Any, float], None]] = {
            m.Assigned: self._assigned,
            m.Located: self._located,
            m.Positioned: self._positioned,
            m.Revoking: self._revoking,
            m.Revoked: self._revoked,
            m.Records: self._records,
            m.EndReached: self._end_reached,
            m.OutOfRange: self._out_of_range,
            m.FetchFailed: self._fetch_failed,
            m.Reach: self._reach,
            m.Worked: self._worked,
            m.Answered: self._answered,
            m.Drained: self._drained,
            m.Failed: self._failed,
            m.Halted: self._halted,
            m.Tick: lambda event, now: None,
            m.Stop: self._stop,
            m.LimitReached: self._limit_reached,
            m.TransactionEnded: self._transaction_ended,
            m.Settled: self._settled,
        }

    # ------------------------------------------------------------------------------------------- interface

    def handle(self, event: m.Event, now: float) -> list[m.Command]:
        """Take in one event and return the commands that follow from it, in the order in which to run them."""
        return self.handle_all([event], now)

    def handle_all(self, events: Sequence[m.Event], now: float) -> list[m.Command]:
        """The same for events that came together: what follows from the partitions' state is looked for once."""
        self._out = []
        for event in events:
            self._handlers[type(event)](event, now)
        self._housekeep(now)
        return self._out

    def wake_at(self, now: float) -> float:
        """The time at which a Tick is due, at most a second ahead."""
        partitions = self.partitions.values()
        times = [self._due_at(), self.retries.next_at(), self.stop_deadline, self.budget.next_at(partitions, now)]
        if self.policy.reduces:
            times += [self.flusher.ask_at(p, self.budget.full, self._input_ready) for p in partitions]
        return min([now + 1.0, *(at for at in times if at is not None)])

    @property
    def holding(self) -> bool:
        """Whether to wait instead of polling: the budget is full and the partitions are not paused yet."""
        return self.budget.full and any(not p.paused for p in self.partitions.values() if p.state is State.RUNNING)

    @property
    def in_work(self) -> int:
        """Records that the work thread has and has not finished with."""
        return sum(partition.in_work for partition in self.partitions.values())

    @property
    def marked(self) -> bool:
        """Whether this process, if it ended now, would be taken for one that died of a record."""
        return self.starts.marked(self.partitions.values())

    @property
    def ended(self) -> list[int]:
        """The partitions of a bounded run that are done, committed to their end."""
        return [p.number for p in self.partitions.values() if p.state is State.ENDED and not p.finished]

    @property
    def committed(self) -> dict[int, tuple[int, int | None]]:
        """Per partition that has one: the committed offset, and the number after the highest one read."""
        return {
            number: (partition.committed, None if (last := partition.history.sequence_number) is None else last + 1)
            for number, partition in self.partitions.items()
            if partition.committed is not None
        }

    def drained(self, numbers: Sequence[int]) -> bool:
        """Whether these partitions have nothing left to do or to publish."""
        owned = [self.partitions[number] for number in numbers if number in self.partitions]
        return self.flusher.phase is not Phase.SENDING and all(partition.settled for partition in owned)

    # ------------------------------------------------------------------------------------------ assignment

    def _assigned(self, event: m.Assigned, now: float) -> None:
        for number in event.partitions:
            self._epochs += 1
            self.partitions[number] = Partition(number, self._epochs)
            self._emit(m.Locate(number, self._epochs))

    def _located(self, event: m.Located, now: float) -> None:
        partition = self._current(event.partition, event.epoch)
        if partition is None or partition.state is not State.LOCATING:
            return
        partition.committed = event.offset
        partition.history, ours = History.decode(event.metadata).of_topic(self.policy.topic_id)
        if not ours:
            self._emit(stops.other_topic(self.policy.topic, partition))
            return
        self.starts.located(partition)
        if self.policy.limits.reached(partition.history.sequence_number, partition.history.ended_epoch):
            self.limit_reached = True
        if self.policy.positions:
            partition.state = State.POSITIONING
            self._emit(m.Position(partition.number, partition.epoch))
        else:
            self._run(partition, event.offset)

    def _positioned(self, event: m.Positioned, now: float) -> None:
        partition = self._current(event.partition, event.epoch)
        if partition is not None and partition.state is State.POSITIONING:
            self._run(partition, partition.committed if event.offset is None else event.offset)

    def _run(self, partition: Partition, offset: int | None) -> None:
        self._out += lifecycle.run(partition, offset, self.policy.limits, stopping=self.stop_deadline is not None)

    def _revoking(self, event: m.Revoking, now: float) -> None:
        for number in event.partitions:
            partition = self.partitions.get(number)
            if partition is not None:
                self._out += lifecycle.drain(partition)

    def _revoked(self, event: m.Revoked, now: float) -> None:
        for number in event.partitions:
            partition = self.partitions.pop(number, None)
            if partition is not None:
                self.flusher.forget(number)
                self._emit(m.Drop(number, partition.epoch))

    # ------------------------------------------------------------------------------------------------ work

    def _records(self, event: m.Records, now: float) -> None:
        self._input_ready = False
        for fetched in event.chunks:
            partition = self.partitions.get(fetched.partition)
            if partition is None or partition.state is not State.RUNNING:
                continue  # revoked, or ended: not counted as delivered, so never committed
            self._input_ready = event.more
            end = self.policy.limits.ends.get(partition.number)
            inside = fetched if end is None else below(fetched, end)
            chunk = partition.deliver(inside, now) if inside.offsets else None
            if chunk is not None:
                if self.starts.waits(partition):
                    partition.waiting.append(chunk)
                else:
                    self._out += lifecycle.submit(partition, chunk)
            if end is not None and fetched.offsets[-1] >= end - 1:
                self._out += lifecycle.end(partition)

    def _out_of_range(self, event: m.OutOfRange, now: float) -> None:
        partition = self.partitions.get(event.partition)
        if partition is not None and partition.state is State.RUNNING:  # else a fetch from before its start was known
            self._out += faults.out_of_range(self.policy.topic, partition, event, self.retries.random, now)

    def _fetch_failed(self, event: m.FetchFailed, now: float) -> None:
        partition = self.partitions.get(event.partition)
        if partition is not None and partition.state is State.RUNNING:
            self._out += faults.failed(partition, event, self.retries.random, now)

    def _reach(self, event: m.Reach, now: float) -> None:
        """What stands still for no reason is helped, in the end by leaving it to another process."""
        self.flusher.answered()
        excused: Collection[int] = self.retries.waiting()
        if self.flusher.publishing(self.partitions.values()) or (self.starts.trying and excused):
            excused = self.partitions
        for stuck in self.progress.stuck(self.partitions.values(), event, excused, now):
            partition, remedy = stuck.partition, stuck.remedy
            self._emit(m.Stuck(partition.number, partition.position, remedy.value, stuck.why))
            if remedy is Remedy.SEEK:
                self._start_over(partition)
            elif remedy is Remedy.EXIT:
                self._emit(stops.stuck(self.policy.topic, stuck))

    def _worked(self, event: m.Worked, now: float) -> None:
        partition = self._current(event.partition, event.epoch)
        if partition is None:
            return
        self._progressed_at = now
        partition.worked(event, now)
        if partition.batch_bytes > self.policy.memory_bytes:
            self._emit(stops.outgrown(self.policy.topic, self.partitions.values(), self.policy.memory_bytes))
        if event.past_limit:
            self._out += lifecycle.end(partition)

    def _answered(self, event: m.Answered, now: float) -> None:
        partition = self._current(event.partition, event.epoch)
        if partition is not None:
            partition.answered(event, now)

    def _drained(self, event: m.Drained, now: float) -> None:
        partition = self._current(event.partition, event.epoch)
        if partition is not None and partition.state in (State.DRAINING, State.ENDING):
            partition.state = State.DRAINED if partition.state is State.DRAINING else State.ENDED
            partition.abandon()

    def _failed(self, event: m.Failed, now: float) -> None:
        partition = self._current(event.partition, event.epoch)
        if partition is not None and partition.state in (State.RUNNING, State.DRAINING, State.ENDING):
            command = self.retries.failed(partition, event, now)
            if command is not None:
                self._emit(command)

    # ---------------------------------------------------------------------------------------- transactions

    def _transaction_ended(self, event: m.TransactionEnded, now: float) -> None:
        flusher = self.flusher
        if flusher.phase is not Phase.SENDING:
            return
        if event.outcome is m.Outcome.COMMITTED:
            self._moved(flusher.committed(self.partitions, now))
            return
        numbers = list(flusher.taken)
        culprit = flusher.culprit(self.partitions)
        if event.outcome is m.Outcome.FENCED and flusher.fences:
            self._emit(stops.fenced())
        if flusher.failed(event.outcome, self.partitions, now):
            self._emit(m.Rebuild(numbers))
        if culprit is not None and event.outcome is m.Outcome.REFUSED:
            self._condemn(culprit, event.error)
        elif culprit is not None and event.outcome is m.Outcome.LATE and flusher.too_late:
            self._emit(stops.late(self.policy.topic, culprit, event.error))

    def _settled(self, event: m.Settled, now: float) -> None:
        if self.flusher.phase is not Phase.REBUILDING:
            return
        moved, lost = self.flusher.settled(self.partitions, event.committed)
        self._moved(moved)
        for partition in lost:
            self._start_over(partition)

    def _condemn(self, partition: Partition, error: str) -> None:
        """The broker refuses the first finished item of this partition whatever is with it."""
        item = partition.finished[0]
        if item.dead or self.policy.reduces:
            self._emit(stops.refused(self.policy.topic, partition, error))
            return
        partition.condemned[item.first] = error
        self._start_over(partition)

    def _start_over(self, partition: Partition) -> None:
        self.flusher.forget(partition.number)
        self._epochs += 1
        self._out += lifecycle.start_over(partition, self._epochs)

    def _moved(self, partitions: Sequence[Partition]) -> None:
        for partition in partitions:
            if self.policy.limits.reached(partition.history.sequence_number, partition.history.ended_epoch):
                self.limit_reached = True

    # ----------------------------------------------------------------------------------------------- ending

    def _end_reached(self, event: m.EndReached, now: float) -> None:
        partition = self.partitions.get(event.partition)
        if partition is not None and partition.state is State.RUNNING:
            partition.at_end = True
            if event.offset >= self.policy.limits.ends.get(partition.number, float("inf")):
                self._out += lifecycle.end(partition)

    def _limit_reached(self, event: m.LimitReached, now: float) -> None:
        self.limit_reached = True

    def _halted(self, event: m.Halted, now: float) -> None:
        if self._current(event.partition, event.epoch) is not None and self.stop_deadline is None:
            self._end_with = event.fail
            self._stop(m.Stop(now + self.policy.stop_seconds), now)

    def _stop(self, event: m.Stop, now: float) -> None:
        if self.stop_deadline is None:
            self.stop_deadline = event.deadline
            for partition in self.partitions.values():
                self._out += lifecycle.drain(partition)

    # ----------------------------------------------------------------------------------------- housekeeping

    def _housekeep(self, now: float) -> None:
        for retry in self.retries.due(now):
            partition = self._current(retry.partition, retry.epoch)
            if partition is not None and partition.state in (State.RUNNING, State.ENDING):
                self._emit(retry)
        for partition, chunk in self.starts.advance(self.partitions.values()):
            self._out += lifecycle.submit(partition, chunk)
        self._pause(now)
        if self.policy.reduces:
            self._ask(now)
        if self.policy.limits.bounded:
            for partition in self.partitions.values():
                if partition.at_end and (self.limit_reached or partition.met_limit):
                    self._out += lifecycle.end(partition)
        due = self._due_at()
        if due is not None and due <= now:
            self._emit(self.flusher.begin(self.partitions.values(), now))
        stopping = self.stop_deadline is not None and not self.finished
        if stopping and (self.drained(list(self.partitions)) or now >= (self.stop_deadline or 0.0)):
            self.finished = True
            self._emit(self._end_with)

    def _due_at(self) -> float | None:
        idle_at = None
        if not self._input_ready:
            idle_at = self._progressed_at + self.policy.flush.linger_seconds if self.in_work else 0.0
        partitions = self.partitions.values()
        urgent = self.budget.full or any(p.finished and p.state in LEAVING for p in partitions)
        return self.flusher.due_at(partitions, idle_at=idle_at, urgent=urgent)

    def _ask(self, now: float) -> None:
        """Ask with None where nothing more of the partition is ready and the linger has passed, or the batch is old."""
        for partition in self.partitions.values():
            at = self.flusher.ask_at(partition, self.budget.full, self._input_ready)
            if at is not None and at <= now:
                partition.asking = True
                self._emit(m.Ask(partition.number, partition.epoch))

    def _pause(self, now: float) -> None:
        """Fetch what the budget allows to be fetched; end where open batches fill it and are all declined."""
        partitions = [partition for partition in self.partitions.values() if partition.state is State.RUNNING]
        self.budget.update(self.partitions.values(), now)
        self._out += self.budget.changes(partitions, now)
        if self.budget.full and partitions and all(partition.declined for partition in self.partitions.values()):
            self._emit(stops.outgrown(self.policy.topic, partitions, self.policy.memory_bytes))

    def _current(self, number: int, epoch: int) -> Partition | None:
        partition = self.partitions.get(number)
        return partition if partition is not None and partition.epoch == epoch else None

    def _emit(self, command: m.Command) -> None:
        self._out.append(command)
