"""One partition on the work thread: what waits, what runs, what is done and not yet released. Pure bookkeeping."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import msgspec

from consumer.checkpoint import Position
from consumer.core.audit import Audit
from consumer.core.history import History
from consumer.core.item import Item
from consumer.core.messages import Chunk, Fail, Worked
from consumer.records import Headers, OutRecord, Record, headers_of
from consumer.reducer import Batch


class Stage(Enum):
    """Where a checkpoint is: QUEUED → RUNNING → DONE, or HELD until the state machine says what becomes of it."""

    QUEUED = "queued"
    RUNNING = "running"
    HELD = "held"
    DONE = "done"


class Slot(msgspec.Struct, eq=False):
    """One input record on its way through the worker. A Struct, since one is made for each: in C."""

    record: Record
    offset: int
    size_bytes: int
    stage: Stage = Stage.QUEUED
    headers: Headers | None = None
    """Of the record, once it has been begun; None: it has none, or they cannot be read."""
    checkpoint: Any = None
    error: BaseException | str = ""
    failed_stage: str = ""
    messages: Sequence[Any] = ()
    outs: Sequence[OutRecord] = ()
    sequence_number: int | None = None
    ended_epoch: int | None = None
    dead: bool = False
    skipped: bool = False
    """A repeat that is done without work; it tells nothing about the worker's health."""

    def position_in(self, topic: str) -> Position:
        """Where the record came from, as the decoded checkpoint tells it; raises DecodeError (`headers_of`)."""
        record = self.record
        headers = self.headers = self.headers or headers_of(record)
        return Position(topic, record.partition(), self.offset, record.timestamp()[1], record.key(), tuple(headers))


@dataclass(slots=True, eq=False)
class OpenBatch:
    """The messages of a reducer's open batch and what its results will say about their input."""

    batch: Batch[Any]
    count: int = 0
    timestamp_ms: int = -1
    size_bytes: int = 0
    asked_messages: int = 0
    asked_bytes: int = 0
    key: bytes | None = None
    headers: Headers | None = None
    dead_letters: list[OutRecord] = field(default_factory=list)
    """Of checkpoints in the middle of the batch: published with it, since nothing else cuts a batch."""

    def add(self, slot: Slot) -> None:
        """Take in one checkpoint: its messages, none of them included, or its dead letter."""
        self.batch._add(slot.offset, slot.sequence_number, slot.messages)  # noqa: SLF001 - not for users
        if not self.count:
            self.timestamp_ms = slot.record.timestamp()[1]
        self.count += 1
        if slot.dead:
            self.dead_letters.extend(slot.outs)
            return
        self.size_bytes += sum(map(estimate_bytes, slot.messages))
        self.key = slot.record.key()
        self.headers = slot.headers


@dataclass(slots=True, eq=False)
class Lane:
    """One partition of one epoch.

    `queue` waits, `window` is started and in input order; only the window's head is released, so results keep the
    input order however many run at once. A HELD slot keeps the queue behind it waiting, and takes no place.
    """

    number: int
    epoch: int
    history: History
    """As of the last record that was released."""
    audit: Audit | None = None
    halted: Fail | None = None
    """Why the member must end: told with the next report."""
    queue: deque[Slot] = field(default_factory=deque)
    window: deque[Slot] = field(default_factory=deque)
    open: OpenBatch | None = None
    running: int = 0
    held: int = 0
    hooking: bool = False
    committing: bool = False
    commit_failed: bool = False
    draining: bool = False
    ending: bool = False
    drained: bool = False
    dropped: bool = False
    past_limit: bool = False
    met_limit: bool = False
    told_limit: bool = False
    again: deque[Slot] = field(default_factory=deque)
    condemned: dict[int, str] = field(default_factory=dict)
    unread: set[int] = field(default_factory=set)
    items: list[Item] = field(default_factory=list)
    processed: int = 0
    freed_bytes: int = 0

    def submit(self, chunk: Chunk) -> None:
        """Queue what was fetched."""
        for record, offset in zip(chunk.records, chunk.offsets, strict=True):
            self.queue.append(Slot(record, offset, len(record.value() or b"")))
        if self.past_limit or self.draining:
            self.discard_queue()

    def startable(self) -> bool:
        """Whether a slot may start now: one whose retry is due, else the queue's head."""
        if self.hooking or self.committing or self.commit_failed or self.draining:
            return False  # one at a time in the hook; and a batch that is committed is waited for
        return bool(self.again) or (bool(self.queue) and not self.held)

    def start(self) -> Slot:
        """Start that slot; it takes its place in the window in input order."""
        if self.again:
            slot = self.again.popleft()
            self.held -= 1
        else:
            slot = self.queue.popleft()
            self.window.append(slot)
        slot.stage = Stage.RUNNING
        self.running += 1
        return slot

    def settle(self, slot: Slot, stage: Stage) -> None:
        """The slot no longer runs: DONE, or HELD."""
        self.running -= 1
        slot.stage = stage
        if stage is Stage.HELD:
            self.held += 1

    def halt(self, slot: Slot, fail: Fail) -> None:
        """The slot is held for good, and with it all that follows."""
        slot.stage = Stage.HELD
        self.held += 1
        self.halted = fail

    def find_held(self, offset: int) -> Slot | None:
        """The held slot of this offset."""
        return next((slot for slot in self.window if slot.offset == offset and slot.stage is Stage.HELD), None)

    def release_head(self) -> Slot | None:
        """The next slot in input order, if it is done."""
        return self.window[0] if self.window and self.window[0].stage is Stage.DONE else None

    def emit(self, first: int, last: int, records: int, outs: Sequence[OutRecord], at: int, dead: bool = False) -> None:
        """One finished piece of work for the next report, up to the last released record."""
        size = outs[0].size_bytes if len(outs) == 1 else sum([out.size_bytes for out in outs])
        self.items.append(Item(first, last, records, outs, size, self.history, dead, at))

    def emit_single(self, slot: Slot) -> None:
        """The finished work of one checkpoint by itself."""
        self.emit(slot.offset, slot.offset, 1, slot.outs, slot.record.timestamp()[1], slot.dead)

    def processed_one(self, slot: Slot) -> None:
        """The window's head is through the worker; its raw input is done with."""
        self.window.popleft()
        if not slot.skipped:
            self.history = self.history.after(slot.sequence_number, slot.ended_epoch, slot.dead)
        self.processed += 1
        self.freed_bytes += slot.size_bytes
        slot.checkpoint, slot.error = None, ""  # its traceback holds the frame that holds the slot

    def cut_off(self) -> None:
        """A bounded run ends here: nothing that waits is part of it."""
        self.past_limit = True
        self.discard_queue()

    def discard_last(self) -> None:
        """The slot that was started last is not part of the run."""
        self.running -= 1
        self._done_with(self.window.pop())

    def discard_queue(self) -> None:
        """Forget what waits: not finished, so never committed, but done with."""
        for slot in self.queue:
            self._done_with(slot)
        self.queue.clear()

    def drain(self) -> None:
        """Nothing runs, nothing is open: forget what is held, and what is done behind it."""
        self.drained = True
        self.window.clear()
        self.again.clear()

    def _done_with(self, slot: Slot) -> None:
        self.processed += 1
        self.freed_bytes += slot.size_bytes

    def report(self) -> Worked | None:
        """What happened since the last report; None: nothing."""
        if not self.processed and not self.items and (self.told_limit or not self.past_limit):
            return None
        self.told_limit = self.past_limit
        batch = self.open
        report = Worked(
            self.number,
            self.epoch,
            self.items,
            self.processed,
            self.freed_bytes,
            len(batch.batch) if batch else 0,
            batch.size_bytes if batch else 0,
            self.met_limit,
            self.past_limit,
        )
        self.items, self.processed, self.freed_bytes = [], 0, 0
        return report


def estimate_bytes(message: Any) -> int:
    """What a message takes in memory, two levels deep: an estimate for the memory budget."""
    size = sys.getsizeof(message)
    fields = getattr(message, "__struct_fields__", None) or getattr(message, "__slots__", None)
    if fields is not None:
        return size + sum(sys.getsizeof(getattr(message, name, None)) for name in fields)
    if isinstance(message, dict):
        return size + sum(map(sys.getsizeof, message.values()))
    return size + sum(map(sys.getsizeof, getattr(message, "__dict__", {}).values()))
