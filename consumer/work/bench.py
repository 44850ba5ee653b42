"""The work thread: takes commands from the state machine, runs user code, reports what happened.

It starts what may start, up to `max_in_flight` at once, and releases results in input order. A plain `def` worker
at `max_in_flight` 1 runs inline, without a task or a thread of its own; anything else runs on this thread's event
loop or on a pool of threads. Reports leave in chunks, after a turn of one partition: REPORT_RECORDS, REPORT_SECONDS, or
until something is posted, which comes next.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from queue import SimpleQueue
from typing import Any

from consumer.checkpoint import numbers_of
from consumer.core import messages as m
from consumer.errors import ProcessKilled, Stop
from consumer.reducer import Reducer
from consumer.work.calls import FAILURES, Calls, kind_of, maybe
from consumer.work.gate import Gate
from consumer.work.job import Job
from consumer.work.lane import Lane, Slot, Stage
from consumer.work.publish import Source, described
from consumer.work.reducing import Reducing
from consumer.work.report import Broken, Closed, Measured, Opened, Tally
from consumer.work.underway import WORKER, Underway
from consumer.worker import Worker

REPORT_RECORDS = 256
REPORT_SECONDS = 0.01
"""Each report wakes the poll thread, which takes the interpreter lock, and with it the caches, to another core. With 64
records, and turns of 0.5 ms (`process.SWITCH_SECONDS`), a checkpoint took a fifth more CPU."""
MEASURE_SECONDS = 1.0
CANCEL_SECONDS = 1.0
"""For `async def` calls that are cancelled at the end; one that takes longer is left."""


class Bench:
    """The work thread of one member. `post` may be called from any thread; everything else happens on its own."""

    def __init__(self, job: Job, outbox: SimpleQueue[Any]) -> None:
        self.job = job
        self.outbox = outbox
        self.tally = Tally()
        self.underway = Underway(job.context.input_topic)
        self.lanes: dict[int, Lane] = {}
        self._inbox: deque[m.Command | None] = deque()
        self._loop = asyncio.new_event_loop()
        self._wake = asyncio.Event()
        self._gate = Gate(job)
        self._running = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._reducing: Reducing | None = None
        self._thread = threading.Thread(target=self._main, name="work", daemon=True)
        self._handlers: dict[type, Callable[[Any], None]] = {
            m.Open: self._open_lane,
            m.Submit: self._submit,
            m.Retry: self._retry,
            m.DeadLetter: self._dead_letter,
            m.Ask: self._ask,
            m.Drain: self._drain,
            m.End: self._end,
            m.Drop: self._drop,
            m.Position: self._position,
        }

    def start(self) -> None:
        """Start the thread; it answers with Opened, or Broken."""
        self._thread.start()

    def post(self, commands: Sequence[m.Command | None]) -> None:
        """Hand over commands; None ends the thread after `close`, and it answers with Closed."""
        self._inbox.extend(commands)
        self._loop.call_soon_threadsafe(self._wake.set)

    # ---------------------------------------------------------------------------------------------- the thread

    def _main(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:  # noqa: BLE001 - the poll thread decides what it means
            self.outbox.put(Broken(error))

    async def _serve(self) -> None:
        worker, reducer = await self._open()
        self.outbox.put(Opened())
        self._measure()
        idle_since = time.perf_counter()
        while True:
            await self._wake.wait()
            self._wake.clear()
            self.tally.spend("idle", idle_since)
            while self._inbox:
                command = self._inbox.popleft()
                if command is None:
                    return await self._close(worker, reducer)
                asks = "start_offset" if type(command) is m.Position else "should_close_batch"
                with self.underway.during(asks, getattr(command, "partition", -1)):
                    self._handlers[type(command)](command)
                del command  # it would keep its records in memory until the next one
            if self._pump():
                self._wake.set()
                await asyncio.sleep(0)
            idle_since = time.perf_counter()

    def _measure(self) -> None:
        """Hand the measurements over, once a second."""
        if self.tally.seconds:
            self.outbox.put(Measured(self.tally))
            self.tally = Tally()
        self._loop.call_later(MEASURE_SECONDS, self._measure)

    async def _open(self) -> tuple[Worker[Any], Reducer[Any, Any] | None]:
        job = self.job
        worker = job.make_worker()
        reducer = job.make_reducer() if job.make_reducer is not None else None
        self._calls = Calls(worker, job.max_in_flight)
        self._decode = job.decoder(worker)
        for one in (worker, reducer):
            if one is not None:
                with self.underway.during(f"open of {type(one).__name__}"):
                    await maybe(one.open(job.context))
        if reducer is not None:
            self._reducing = Reducing(reducer, job, self._spawn, self._commit_done, self._fail, self.underway)
        return worker, reducer

    async def _close(self, worker: Worker[Any], reducer: Reducer[Any, Any] | None) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:  # their `finally` comes before the `close` that takes away what it needs
            await asyncio.wait(self._tasks, timeout=CANCEL_SECONDS)
        for one in (reducer, worker):
            if one is not None:
                with self.underway.during(f"close of {type(one).__name__}"):
                    await maybe(one.close())
        self._calls.close()
        if self._reducing is not None:
            self._reducing.close()
        self.outbox.put(Closed(self.tally))

    # ------------------------------------------------------------------------------------------------ commands

    def _open_lane(self, command: m.Open) -> None:
        history = command.history.keeping_seen(self.job.sequence.skips)
        audit = self.job.sequence.audit(command.partition, history)
        self.lanes[command.partition] = Lane(command.partition, command.epoch, history, audit)

    def _submit(self, command: m.Submit) -> None:
        lane = self.lanes[command.chunk.partition]
        lane.condemned.update(command.condemned)
        lane.unread.update(command.unread)
        lane.submit(command.chunk)

    def _retry(self, command: m.Retry) -> None:
        lane = self._lane(command)
        if lane is None:
            return
        if (slot := lane.find_held(command.offset)) is not None:
            lane.again.append(slot)
        elif lane.commit_failed and self._reducing is not None and self._reducing.commit(lane):
            self._advance(lane)

    def _dead_letter(self, command: m.DeadLetter) -> None:
        lane = self._lane(command)
        slot = lane.find_held(command.offset) if lane is not None else None
        if lane is not None and slot is not None:
            lane.held -= 1
            self._bury(lane, slot, command.attempts)
            self._advance(lane)

    def _ask(self, command: m.Ask) -> None:
        lane = self._lane(command)
        if lane is not None and self._reducing is not None:
            if not lane.committing and not lane.commit_failed:
                self._reducing.ask(lane)
            declined = lane.open is not None and not lane.committing and not lane.commit_failed
            self._report(lane)
            self.outbox.put(m.Answered(lane.number, lane.epoch, declined))

    def _drain(self, command: m.Drain) -> None:
        lane = self.lanes[command.partition]
        lane.draining, lane.ending = True, False
        lane.discard_queue()
        self._advance(lane)

    def _end(self, command: m.End) -> None:
        lane = self.lanes[command.partition]
        lane.ending = True
        self._advance(lane)

    def _drop(self, command: m.Drop) -> None:
        lane = self._lane(command)
        if lane is not None:
            lane.dropped = True
            del self.lanes[lane.number]

    def _position(self, command: m.Position) -> None:
        reducing = self._reducing
        assert reducing is not None  # the machine asks only where the reducer has a start_offset
        offset = reducing.start_offset(command.partition)
        self.outbox.put(m.Positioned(command.partition, command.epoch, offset))

    def _lane(self, command: Any) -> Lane | None:
        lane = self.lanes.get(command.partition)
        return lane if lane is not None and lane.epoch == command.epoch else None

    # -------------------------------------------------------------------------------------------------- working

    def _pump(self) -> bool:
        """Start what may start; True: there is more to do at once."""
        more = False
        until = time.perf_counter() + REPORT_SECONDS
        for lane in list(self.lanes.values()):
            if not lane.startable():
                self._report(lane)
                continue
            slot = None
            for _ in range(REPORT_RECORDS):
                if self._running >= self.job.max_in_flight or not lane.startable():
                    break
                slot = lane.start()
                call = self.underway.begin(WORKER, lane.number, slot.offset)
                if slot.checkpoint is not None or self._begin(lane, slot):
                    self._launch(lane, slot, call)
                else:
                    self.underway.end(call)
                if self._inbox or time.perf_counter() > until:
                    break
            if slot is not None:  # to the end of the line: none may take every place that becomes free
                self.lanes[lane.number] = self.lanes.pop(lane.number)
            self._report(lane)  # before another call, which may take however long
            if slot is not None and (self._inbox or time.perf_counter() > until):
                return True  # commands first, and other tasks: they would have to wait for a call of every other lane
            more = more or (lane.startable() and self._running < self.job.max_in_flight)
        return more or bool(self._inbox)

    def _begin(self, lane: Lane, slot: Slot) -> bool:
        """Decode, and see whether the run ends here; True: the slot is ready for user code."""
        if slot.offset in lane.unread:
            return self._condemned(lane, slot, ProcessKilled(lane.condemned.pop(slot.offset)), "process")
        since = time.perf_counter()
        try:
            checkpoint = self._decode(slot.record.value(), slot.position_in(self.job.context.input_topic))
            slot.sequence_number, slot.ended_epoch = numbers_of(checkpoint)
        except FAILURES as error:
            self._failed(lane, slot, "decode", error)
            return False
        finally:
            self.tally.spend("decode", since)
        slot.checkpoint = checkpoint
        if not self._gate.admits(lane, slot, self.tally):
            self._advance(lane)
            return False
        reason = lane.condemned.pop(slot.offset, None)
        if reason is None:
            return True
        return self._condemned(lane, slot, reason, "publish")

    def _condemned(self, lane: Lane, slot: Slot, error: BaseException | str, stage: str) -> bool:
        slot.error, slot.failed_stage = error, stage
        lane.running -= 1
        self._bury(lane, slot, 1)
        self._advance(lane)
        return False

    def _launch(self, lane: Lane, slot: Slot, call: int) -> None:
        if self._calls.inline:
            self._work_inline(lane, slot)
            self.underway.end(call)
            return
        self._running += 1
        lane.hooking = self._calls.hooked
        self._spawn(self._work(lane, slot, call))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.outbox.put(Broken(error))

    def _work_inline(self, lane: Lane, slot: Slot) -> None:
        since, stage = time.perf_counter(), "preprocess_hook"
        try:
            if self._calls.hooked:
                self._calls.hook(slot.checkpoint)
            stage = "process_checkpoint"
            result = self._calls.process(slot.checkpoint)
            done = self.tally.spend("process", since)
            self.tally.durations.append(done - since)
            stage = "encode"
            self._take(lane, slot, result, done)
        except FAILURES as error:
            self._failed(lane, slot, stage, error)
        else:
            self._advance(lane)

    async def _work(self, lane: Lane, slot: Slot, call: int) -> None:
        since, stage = time.perf_counter(), "preprocess_hook"
        try:
            try:
                await self._calls.hook_beside(slot.checkpoint)
            finally:
                lane.hooking = False
            self._wake.set()
            stage = "process_checkpoint"
            result = await self._calls.process_beside(slot.checkpoint)
            self.tally.took(since)
            stage = "encode"
            if not lane.dropped:
                self._take(lane, slot, result, time.perf_counter())
        except FAILURES as error:
            self._failed(lane, slot, stage, error)
        else:
            self._advance(lane)
            self._report(lane)
        finally:
            self.underway.end(call)
            self._running -= 1
            self._wake.set()

    def _take(self, lane: Lane, slot: Slot, result: Any, since: float) -> None:
        """The worker returned: encode in direct mode, keep the messages for the reducer otherwise."""
        messages = result if type(result) is list else [] if result is None else [result]
        if self._reducing is None:
            if messages:
                topic, key = self.job.context.input_topic, slot.record.key()
                source = Source(topic, lane.number, slot.offset, slot.offset, key, slot.headers)
                slot.outs = self.job.publisher.records(messages, source)
                self.tally.spend("encode", since)
        else:
            slot.messages = messages
        lane.settle(slot, Stage.DONE)

    def _failed(self, lane: Lane, slot: Slot, stage: str, error: BaseException) -> None:
        slot.error, slot.failed_stage = error, stage
        lane.settle(slot, Stage.HELD)
        self._report(lane)
        self._fail(lane, slot.offset, stage, error)

    def _fail(self, lane: Lane, offset: int, stage: str, error: BaseException) -> None:
        if isinstance(error, Stop):
            self.outbox.put(Broken(error))
            return
        if not lane.dropped:
            self.outbox.put(m.Failed(lane.number, lane.epoch, offset, kind_of(error), described(error), stage))
        self._advance(lane)

    def _bury(self, lane: Lane, slot: Slot, attempts: int) -> None:
        slot.outs = [self.job.dead_letters.record(slot.record, slot.headers, slot.error, slot.failed_stage, attempts)]
        slot.dead = True
        slot.messages = []
        slot.stage = Stage.DONE

    # -------------------------------------------------------------------------------------------------- releasing

    def _advance(self, lane: Lane) -> None:
        """Release what is done, in input order, and say when a draining or ending lane has nothing left."""
        if lane.dropped:
            return
        while not lane.committing and not lane.commit_failed and (slot := lane.release_head()) is not None:
            if slot.dead and not self._gate.releases(lane, slot):
                break
            if self._reducing is not None and not self._reducing.ready_for(lane, slot):
                return  # a batch is being committed; its end calls again
            self.tally.processed(slot)
            lane.processed_one(slot)
            if self._reducing is None:
                lane.emit_single(slot)
            elif not self._reducing.add(lane, slot):
                return
        if lane.drained or lane.committing or lane.running:
            return
        if lane.draining or (lane.ending and not lane.queue and not lane.window and not lane.commit_failed):
            if self._reducing is not None and not self._reducing.finish(lane):
                return
            lane.drain()
            self._report(lane)
            self.outbox.put(m.Drained(lane.number, lane.epoch))

    def _commit_done(self, lane: Lane) -> None:
        self._advance(lane)
        self._report(lane)
        self._wake.set()

    def _report(self, lane: Lane) -> None:
        if lane.dropped:
            return
        if (report := lane.report()) is not None:
            self.outbox.put(report)
        if lane.halted is not None:
            self.outbox.put(m.Halted(lane.number, lane.epoch, lane.halted))
            lane.halted = None
