"""The reducer's side of a lane: asking, closing, committing, and what becomes of an open batch at the end."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from consumer.errors import PolicyStop
from consumer.failpoints import failpoint
from consumer.reducer import Batch, Reducer
from consumer.work.calls import FAILURES, on_thread
from consumer.work.job import Job
from consumer.work.lane import Lane, OpenBatch, Slot
from consumer.work.publish import Source, described
from consumer.work.underway import Underway

COMMIT_THREADS = 32


class Reducing:
    """Runs one reducer for all lanes. A commit that is not the default runs beside the lane, which waits for it."""

    def __init__(
        self,
        reducer: Reducer[Any, Any],
        job: Job,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        done: Callable[[Lane], None],
        failed: Callable[[Lane, int, str, BaseException], None],
        underway: Underway,
    ) -> None:
        self._reducer = reducer
        self._job = job
        self._spawn = spawn
        self._done = done
        self._failed = failed
        self._underway = underway
        self._inline = type(reducer).commit is Reducer.commit
        self._is_async = inspect.iscoroutinefunction(reducer.commit)
        self._threads = ThreadPoolExecutor(COMMIT_THREADS, thread_name_prefix="commit")

    def ready_for(self, lane: Lane, slot: Slot) -> bool:
        """Ask whether the open batch ends before the slot; False: it does, and its commit is under way."""
        closes = lane.open is not None and slot.messages and self._closes(lane.open.batch, slot.messages[0])
        return not closes or self.commit(lane)

    def add(self, lane: Lane, slot: Slot) -> bool:
        """Take the slot into the batch; False: that made the reducer close it, and its commit is under way."""
        if not slot.messages and lane.open is None:
            lane.emit_single(slot)  # part of no batch: its offset moves at once
            return True
        if lane.open is None:
            lane.open = OpenBatch(Batch(self._job.context.input_topic, lane.number))
        lane.open.add(slot)
        return self._at_limit(lane)

    def _at_limit(self, lane: Lane) -> bool:
        batch = lane.open
        assert batch is not None
        messages, size = len(batch.batch) - batch.asked_messages, batch.size_bytes - batch.asked_bytes
        if messages < self._job.max_messages and size < self._job.max_bytes:
            return True
        batch.asked_messages, batch.asked_bytes = len(batch.batch), batch.size_bytes
        return self.ask(lane)

    def ask(self, lane: Lane) -> bool:
        """Ask with None, and commit if the reducer says so; False: a commit is under way."""
        if lane.open is None or not self._closes(lane.open.batch, None):
            return True
        return self.commit(lane)

    def finish(self, lane: Lane) -> bool:
        """The lane's last batch: ask once more (unasked in a bounded run), drop it if declined; False: committing."""
        if lane.open is not None and not lane.commit_failed and (lane.ending or self._closes(lane.open.batch, None)):
            return self.commit(lane)
        lane.open, lane.commit_failed = None, False
        return True

    def start_offset(self, partition: int) -> int | None:
        """Where the sink wants the partition to start; PolicyStop for what is no offset: Kafka's -1 is the end."""
        topic = self._job.context.input_topic
        offset = self._reducer.start_offset(topic, partition)
        if offset is not None and (type(offset) is not int or offset < 0):
            raise PolicyStop(
                f"start_offset of {type(self._reducer).__name__} says {offset!r} for {topic}/{partition}: nothing was "
                "skipped: let it return the next offset, from 0 up, or None for the committed one"
            )
        return offset

    def close(self) -> None:
        """Let the threads end; a commit that still runs is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _closes(self, batch: Batch[Any], next_message: Any) -> bool:
        try:
            return bool(self._reducer.should_close_batch(batch, next_message))
        except FAILURES as error:
            raise PolicyStop(
                f"should_close_batch of {type(self._reducer).__name__} failed for batch {batch.id}: "
                f"{described(error)}; nothing was skipped: mend the reducer and start again"
            ) from error

    def commit(self, lane: Lane) -> bool:
        """Commit the open batch; False: it goes on beside the lane and `done` is called at its end."""
        assert lane.open is not None
        lane.commit_failed = False
        failpoint("in-reducer")
        if self._inline:
            try:
                self._publish(lane, self._reducer.commit(lane.open.batch))
            except FAILURES as error:
                self._commit_failed(lane, error)
                return False
            return True
        lane.committing = True
        self._spawn(self._commit(lane, lane.open.batch))
        return False

    async def _commit(self, lane: Lane, batch: Batch[Any]) -> None:
        try:
            with self._underway.during("the reducer's commit", lane.number, batch.last_offset):
                if self._is_async:
                    results = await self._reducer.commit(batch)
                else:
                    results = await on_thread(self._threads, self._reducer.commit, batch)
            lane.committing = False
            if not lane.dropped:
                self._publish(lane, results)
        except FAILURES as error:
            lane.committing = False
            self._commit_failed(lane, error)
        else:
            self._done(lane)

    def _commit_failed(self, lane: Lane, error: BaseException) -> None:
        assert lane.open is not None
        lane.commit_failed = True
        self._failed(lane, lane.open.batch.last_offset, "commit", error)

    def _publish(self, lane: Lane, results: Any) -> None:
        """Turn the results into the lane's next item."""
        batch = lane.open
        assert batch is not None
        first, last = batch.batch.first_offset, batch.batch.last_offset
        outs = []
        if results:
            source = Source(self._job.context.input_topic, lane.number, first, last, batch.key, batch.headers)
            outs = self._job.publisher.records(list(results), source)
        outs.extend(batch.dead_letters)
        lane.emit(first, last, batch.count, outs, batch.timestamp_ms)
        lane.open = None
