"""A member: the process that polls, works and publishes. This module is its poll thread.

The loop turns Kafka into events for the state machine and its commands into calls. User code never runs here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from random import Random
from typing import Any

from consumer.core import messages as m
from consumer.core.machine import Machine, Policy
from consumer.errors import ExitCode, Stop
from consumer.failpoints import failpoint
from consumer.kafka.source import Other, Rejoin, Source
from consumer.kafka.transactor import Sink
from consumer.kafka.watch import Ends
from consumer.log import RateLimited, get_logger
from consumer.telemetry import Telemetry
from consumer.work.bench import Bench
from consumer.work.report import Broken, Closed, Measured, Opened, Woken

POLL_RECORDS = 500
IDLE_SECONDS = 0.1
BUSY_SECONDS = 0.005
REVOKE_SECONDS = 3.0
GIVE_UP_SECONDS = 0.5
ANSWER_SECONDS = 0.001
MARKS_SECONDS = 1.0
SETTLE_SECONDS = 30.0
"""So long the offsets of a lost transaction are asked for; then its partitions start over, each by itself: one whose
offset is not told keeps no other from going on."""
LATE_SECONDS = 30.0
"""A transaction, or the start of a producer, that takes so long is in the log: brokers are waited for without limit."""

log = get_logger("consumer.member")
_WORK = (m.Open, m.Submit, m.Retry, m.DeadLetter, m.Ask, m.Drain, m.End, m.Drop, m.Position)


class Member:
    """Runs one member until its machine is finished.

    Both are called every turn: `listen` returns the events that the supervisor wants handled, `report` may tell it
    something.
    """

    def __init__(
        self,
        policy: Policy,
        bench: Bench,
        outbox: SimpleQueue[Any],
        sink: Sink,
        telemetry: Telemetry,
        listen: Callable[[], Iterable[m.Event]],
        report: Callable[[Member], None],
        revoke_seconds: float = REVOKE_SECONDS,
    ) -> None:
        self.machine = Machine(policy, Random())  # noqa: S311 jitter, no secret
        self.telemetry = telemetry
        self.source: Source | None = None
        self._bench = bench
        self._outbox = outbox
        self._sink = sink
        self._listen = listen
        self._report = report
        self._revoke_seconds = revoke_seconds
        self._locating: dict[int, int] = {}
        self._ask_at = 0.0
        self._settling: Sequence[int] | None = None
        self._settle_until: float | None = None
        self._seeks: dict[int, int | None] = {}
        self._resumes: set[int] = set()
        self._average_bytes = 50_000
        self._more = False
        self._looked = False
        self._rejoin = False
        self._busy_since: float | None = None
        self._repeats = RateLimited(log, 10.0)
        self._do: dict[type, Callable[[Any], None]] = {
            m.Locate: lambda c: self._locating.__setitem__(c.partition, c.epoch),
            m.Seek: lambda c: self._seeks.__setitem__(c.partition, c.offset),
            m.Pause: self._pause,
            m.Resume: lambda c: self._resumes.update(c.partitions),
            m.Transact: self._transact,
            m.Rebuild: self._rebuild,
            m.Finish: lambda c: None,
            m.Stuck: self._stuck,
        }

    # ----------------------------------------------------------------------------------------------- the loop

    def run(self, source: Source) -> None:
        """Poll and work until the machine is finished.

        Raises:
            Stop: the member must end with this exit code.
            Rejoin: it goes on with another source.
        """
        self.source, self._rejoin = source, False
        self._give_back(list(self.machine.partitions))  # none, unless the last source failed while it was closed
        try:
            while not self.machine.finished:
                if self._rejoin:
                    raise Rejoin
                self._looked = False
                self.handle(*self._listen())
                self._poll(source)
                self._collect()
                self._step(0.0 if self.machine.in_work or self._more else BUSY_SECONDS)
                self._place(source)
                if not self._looked:  # after whatever it handles, the machine looks at its partitions and the time
                    self.handle(m.Tick())
                self._report(self)
        except Stop as stop:
            if stop.exit_code is not ExitCode.FENCED:
                source.poll_no_more()
                self._take_marks_back()
            raise

    def _take_marks_back(self) -> None:
        """It ends for a reason of its own: the next owner must not take it for a process that died of its records."""
        deadline = time.monotonic() + MARKS_SECONDS
        with suppress(Stop):  # the first one counts
            while self.machine.marked and not self.machine.finished and time.monotonic() < deadline:
                self.handle(m.Stop(deadline))
                self._collect(BUSY_SECONDS)
                self._step(BUSY_SECONDS)

    def handle(self, *events: m.Event) -> None:
        """Feed the machine and carry out its commands."""
        if not events:
            return
        self._looked = True
        work: list[m.Command | None] = []
        fails: list[m.Fail] = []
        for command in self.machine.handle_all(events, time.monotonic()):
            if isinstance(command, _WORK):
                work.append(command)
            elif isinstance(command, m.Fail):
                fails.append(command)
            else:
                self._do[type(command)](command)
        if work:
            self._bench.post(work)
        if fails:  # last: a transaction that is not begun would never end, and no mark be taken back
            self._fail(fails[0])

    def _poll(self, source: Source) -> None:
        machine = self.machine
        now = time.monotonic()
        wait = max(0.0, min(machine.wake_at(now) - now, IDLE_SECONDS))
        if machine.holding:
            self._collect(max(wait, BUSY_SECONDS))
            self.telemetry.spend("hold", now)
            return
        if machine.in_work and not self._more:
            # Results are nearer than input: they wake this thread, where new input would have to wait for a poll. Or
            # the sink has woken it: its next step is not to wait until a poll has had the interpreter lock twice.
            self._collect(min(wait, BUSY_SECONDS))
            self.telemetry.spend("poll", now)
            if self._sink.busy:
                self._step(0.0)
            now, wait = time.monotonic(), 0.0
        elif machine.in_work or self._seeks or (self._locating and now >= self._ask_at):
            wait = min(wait, BUSY_SECONDS)
        elif self._sink.busy:
            wait = min(wait, ANSWER_SECONDS)  # it is the sink that is waited for, in `_step`
        most = max(1, min(POLL_RECORDS, machine.budget.room // self._average_bytes))
        records, others = source.poll(wait, most)
        if self._seeks:
            records, others = self._placed(records, others)
        self._more = records.more
        polled = self.telemetry.spend("poll", now)
        for chunk in records.chunks:
            mean = chunk.size_bytes // len(chunk.offsets) + 1
            self._average_bytes += (mean - self._average_bytes) // 8
            self.telemetry.consumed(chunk)
        self.handle(records, *others)
        self.telemetry.spend("handle", polled)

    def _placed(self, records: m.Records, others: list[Other]) -> tuple[m.Records, list[Other]]:
        """Without what was fetched from before a seek that is still to be made: it would look like a hole."""
        chunks = [chunk for chunk in records.chunks if chunk.partition not in self._seeks]
        return m.Records(chunks, records.more), [event for event in others if event.partition not in self._seeks]

    def _collect(self, wait: float = 0.0) -> None:
        """Take in what the work thread reported, waiting for the first report for at most `wait` seconds."""
        events: list[m.Event] = []
        try:
            while True:
                report = self._outbox.get(timeout=wait) if wait else self._outbox.get_nowait()
                wait = 0.0
                if (event := self._take(report)) is not None:
                    events.append(event)
        except Empty:
            pass
        finally:  # also what came before the news that the work thread is broken
            self.handle(*events)

    def _take(self, report: Any) -> m.Event | None:
        match report:
            case Measured(tally) | Closed(tally):
                self.telemetry.measured(tally)
            case Broken(error):
                raise error
            case Opened() | Woken():
                pass
            case Ends(ends):
                self.telemetry.reach(ends)
                return self._reach(ends)
            case m.Failed():
                self._say_failed(report)
                self.telemetry.failed(report)
                return report
            case _:
                event: m.Event = report
                return event
        return None

    def _reach(self, ends: Mapping[int, int]) -> m.Reach:
        assert self.source is not None
        partitions = self.machine.partitions
        at = self.source.positions([number for number in ends if number in partitions])
        behind = {n for n, end in ends.items() if n in partitions and max(at.get(n, 0), partitions[n].position) < end}
        underway = self._bench.underway
        return m.Reach(behind, underway.partitions(), underway.begun())

    def _say_failed(self, failed: m.Failed) -> None:
        self._repeats.warning(
            "checkpoint failed",
            key=(failed.stage, failed.error),
            topic=self.machine.policy.topic,
            partition=failed.partition,
            offset=failed.offset,
            stage=failed.stage,
            kind=failed.kind.value,
            error=failed.error,
        )

    def _step(self, seconds: float) -> None:
        """Go on with the transaction that is under way, or with what a new producer must settle."""
        if not self._sink.busy:
            self._busy_since = None
        else:
            since = time.monotonic()
            self._busy_since = self._busy_since or since
            if since - self._busy_since > LATE_SECONDS:
                self._repeats.warning("transaction is not over yet", seconds=round(since - self._busy_since))
            if self.machine.stop_deadline is not None:
                seconds = max(0.0, min(seconds, self.machine.stop_deadline - since))
            result = self._sink.step(seconds)
            self.telemetry.spend("transaction", since)
            if isinstance(result, m.TransactionEnded):
                self._busy_since = None
                self._ended(result)
        if self._settling is not None and not self._sink.busy:
            self._settle(self._settling)

    def _ended(self, result: m.TransactionEnded) -> None:
        self.telemetry.transaction(result)
        if result.outcome is not m.Outcome.COMMITTED:
            outcome = result.outcome.value
            if self.machine.flusher.only_marks:  # nothing that anyone waits for, and it is sent again
                log.info("transaction failed", outcome=outcome, error=result.error)
            else:
                self._repeats.warning("transaction failed", key=result.error, outcome=outcome, error=result.error)
        self.handle(result)

    def _settle(self, partitions: Sequence[int]) -> None:
        """A new producer is ready: the committed offsets decide what the last transaction did."""
        owned = [number for number in partitions if number in self.machine.partitions]
        found = self.source.locate(owned) if owned and self.source is not None else {}
        now = time.monotonic()
        self._settle_until = self._settle_until or now + SETTLE_SECONDS
        if owned and not found and now < self._settle_until:
            return  # not known yet: again next turn
        self._settling = self._settle_until = None
        self.handle(m.Settled({number: offset for number, (offset, _) in found.items()}))

    def _place(self, source: Source) -> None:
        """Look up where new partitions start, seek, and let them run; what is not possible yet is tried again."""
        now = time.monotonic()
        if self._locating and now >= self._ask_at and self.machine.stop_deadline is None:
            found = source.locate_some(list(self._locating))
            for number, (offset, metadata) in found.items():
                self.handle(m.Located(number, self._locating.pop(number), offset, metadata))
            if not found:  # as long as that took, what runs is polled
                self._ask_at = 2 * time.monotonic() - now
        for number, offset in list(self._seeks.items()):
            if source.seek(number, offset):
                del self._seeks[number]
        ready = [number for number in self._resumes if number not in self._seeks]
        if ready:
            self._resumes.difference_update(ready)
            source.resume(ready)

    # ------------------------------------------------------------------------------------------------ commands

    def _pause(self, command: m.Pause) -> None:
        assert self.source is not None
        self._resumes.difference_update(command.partitions)
        self.source.pause(command.partitions)

    def _transact(self, command: m.Transact) -> None:
        self.telemetry.batch(command)
        self._sink.begin(command)

    def _rebuild(self, command: m.Rebuild) -> None:
        self._settling = command.partitions
        self._sink.rebuild()

    def _stuck(self, command: m.Stuck) -> None:
        self._rejoin = self._rejoin or command.remedy == "rejoin"
        self.telemetry.stuck(command)
        log.error(
            "partition does not move",
            topic=self.machine.policy.topic,
            partition=command.partition,
            offset=command.offset,
            why=command.why,
            remedy=command.remedy,
        )

    def _fail(self, command: m.Fail) -> None:
        stop = Stop(command.message)
        stop.exit_code = ExitCode(command.exit_code)
        raise stop

    # ---------------------------------------------------------------------------------------------- rebalances

    def assigned(self, partitions: Sequence[int]) -> None:
        """From inside `poll`: new partitions, paused."""
        log.info("partitions assigned", partitions=sorted(partitions))
        self.telemetry.rebalance("assigned")
        self.handle(m.Assigned(partitions))

    def revoked(self, partitions: Sequence[int]) -> None:
        """From inside `poll` or `close`: finish or abort before returning, within a short budget."""
        self.telemetry.rebalance("revoked")
        deadline = time.monotonic() + self._revoke_seconds
        try:
            self.handle(m.Revoking(partitions))
            failpoint("in-revoke")
            # Finished, it has no producer any more, and what is left is for the next owner.
            while not (self.machine.finished or self.machine.drained(partitions)) and time.monotonic() < deadline:
                self.handle(*self._listen())  # a stop makes the time shorter
                self._collect(BUSY_SECONDS)
                self._step(max(0.0, min(0.5, deadline - time.monotonic())))
                self.handle(m.Tick())
            drained = self.machine.drained(partitions)
        finally:  # also where the member ends: it commits once more before it does
            self._give_back(partitions)
        log.info("partitions revoked", partitions=sorted(partitions), drained=drained)

    def lost(self, partitions: Sequence[int]) -> None:
        """From inside `poll`: the partitions belong to others already."""
        self.telemetry.rebalance("lost")
        log.warning("partitions lost", partitions=sorted(partitions))
        self._give_back(partitions)

    def _give_back(self, partitions: Sequence[int]) -> None:
        """The machine forgets them first: whatever ends from here on starts no transaction with their results.

        The broker checks the group's generation, not who owns a partition, so a member that has joined again could
        commit what it gave back. A transaction that is committing already is in the broker's hands.
        """
        taken = any(number in self.machine.flusher.taken for number in partitions)
        for number in partitions:
            self._locating.pop(number, None)
            self._seeks.pop(number, None)
            self._resumes.discard(number)
        self.handle(m.Revoked(partitions))
        if taken and self._sink.busy:
            self._sink.give_up("its partitions were given back")
            self._step(GIVE_UP_SECONDS)
