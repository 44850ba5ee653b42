"""The model of the work thread: it does what the contract says of each command, and the schedule says when."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from consumer.core import messages as m
from consumer.core.history import History
from consumer.core.item import Item
from consumer.errors import ExitCode
from consumer.records import OutRecord

if TYPE_CHECKING:
    from tests.unit.core.model import World

OUT_BYTES = 10
TOO_MANY = "CONSUMER_DLQ__MAX_CONSECUTIVE"


@dataclass(eq=False)
class Slot:
    record: Any
    state: str = "waiting"  # waiting, then running, then done or held; again once its retry has come; refused for good
    message: int | None = None
    dead: bool = False


@dataclass(eq=False)
class Lane:
    number: int
    epoch: int
    history: History
    slots: deque[Slot] = field(default_factory=deque)
    batch: list[Slot] = field(default_factory=list)
    """Released into the open batch."""
    committing: str = ""  # "", running, held
    condemned: dict[int, str] = field(default_factory=dict)
    draining: bool = False
    ending: bool = False
    drained: bool = False
    past_limit: bool = False
    met_limit: bool = False
    items: list[Item] = field(default_factory=list)
    processed: int = 0
    freed: int = 0

    def startable(self) -> list[Slot]:
        states = ("running",) if self.draining or self.committing else ("waiting", "again", "running")
        return [slot for slot in self.slots if slot.state in states]

    @property
    def messages(self) -> int:
        return sum(slot.message is not None for slot in self.batch)


class ModelBench:
    """Takes one checkpoint at a time, of any lane, also such that lie behind one that failed."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.lanes: dict[int, Lane] = {}

    def handle(self, command: Any) -> None:  # noqa: C901, PLR0912 - one case per command
        number = command.chunk.partition if isinstance(command, m.Submit) else command.partition
        lane = self.lanes.get(number)
        if isinstance(command, m.Open):
            assert lane is None, "a lane that was never dropped"
            self.lanes[number] = Lane(number, command.epoch, command.history)
            return
        if lane is not None and lane.epoch != command.epoch:
            assert not isinstance(command, m.Submit), "a lane that was never dropped"
            lane = None
        match command:
            case m.Submit(chunk, _, condemned):  # whether it is read makes no difference here
                assert lane is not None, "submitted to a lane that is not open"
                assert not lane.draining, "submitted to a lane that drains"
                assert not lane.ending, "submitted to a lane that ends"
                lane.condemned |= condemned
                lane.slots.extend(Slot(record) for record in chunk.records)
                if lane.past_limit:
                    self._discard(lane)
            case m.Drop():
                self.lanes.pop(number, None) if lane else None
            case _ if lane is None or lane.drained:
                pass
            case m.Retry(_, _, offset):
                self._again(lane, offset)
            case m.DeadLetter(_, _, offset, attempts):
                assert attempts >= 1
                self._bury(lane, offset)
            case m.Ask():
                if lane.batch and not lane.committing and self._closes():
                    self._commit(lane)
                declined = bool(lane.batch) and not lane.committing
                self._report(lane)
                self.world.outbox.append(m.Answered(number, lane.epoch, declined))
            case m.Drain():
                lane.draining, lane.ending = True, False
                self._discard(lane)
            case m.End():
                lane.ending = True
        if lane is not None and self.lanes.get(number) is lane:
            self._advance(lane)

    def work_all(self) -> None:
        for lane in list(self.lanes.values()):
            if lane.committing == "running":
                self.work(lane.number, 0)
            while lane.startable():
                self.work(lane.number, 0)

    def work(self, number: int, ahead: int) -> None:
        """Finish the commit that runs, or work on one checkpoint: the head, or one that lies behind it."""
        lane = self.lanes.get(number)
        if lane is None or lane.drained:
            return
        if lane.committing == "running":
            self._commit_ends(lane)
        elif startable := lane.startable():
            for slot in startable[: ahead + 1]:
                slot.state = "running"  # they start in order
            self._try(lane, startable[: ahead + 1][-1])
        self._advance(lane)

    # ----------------------------------------------------------------------------------------------- checkpoints

    def _try(self, lane: Lane, slot: Slot) -> None:
        limits, record = self.world.policy.limits, slot.record
        if limits.bounded and self._cut_off(lane, slot):
            return
        where = (lane.number, record.at)
        if lane.condemned.pop(record.at, None) is not None:
            slot.state, slot.dead = "done", True
            return
        failures = self.world.failures.get(where)
        if failures:
            slot.state = "held"
            kind = failures.pop(0)
            self._report(lane)
            self.world.outbox.append(m.Failed(lane.number, lane.epoch, record.at, kind, "no", "process_checkpoint"))
            return
        slot.state = "done"
        slot.message = None if where in self.world.filtered else record.at

    def _cut_off(self, lane: Lane, slot: Slot) -> bool:
        limits, record = self.world.policy.limits, slot.record
        index = lane.slots.index(slot)
        if limits.past(record):
            lane.past_limit, slot.state = True, "waiting"
            self._discard(lane, index)
            return True
        ended = record.epoch if record.end_of_epoch else None
        lane.met_limit = lane.met_limit or limits.reached(record.sequence_number, ended)
        if limits.ended(lane.number, record.sequence_number):
            lane.past_limit = True
            self._discard(lane, index + 1)
        return False

    def _discard(self, lane: Lane, start: int = 0) -> None:
        """Forget what waits, from slot number `start` on."""
        kept = list(lane.slots)[:start]
        for slot in list(lane.slots)[start:]:
            if slot.state == "waiting":
                lane.processed += 1
                lane.freed += slot.record.size
            else:
                kept.append(slot)
        lane.slots = deque(kept)

    def _again(self, lane: Lane, offset: int) -> None:
        if lane.committing == "held" and lane.batch and lane.batch[-1].record.at == offset:
            lane.committing = "running"
        for slot in lane.slots:
            if slot.record.at == offset:
                assert slot.state == "held", "a retry of what did not fail"
                slot.state = "again"

    def _bury(self, lane: Lane, offset: int) -> None:
        for slot in lane.slots:
            if slot.record.at == offset:
                assert slot.state == "held", "a dead letter of what did not fail"
                slot.state, slot.dead = "done", True

    # ------------------------------------------------------------------------------------------------ releasing

    def _advance(self, lane: Lane) -> None:
        reduces = self.world.policy.reduces
        while not lane.committing and lane.slots and lane.slots[0].state == "done":
            if reduces and lane.slots[0].message is not None and lane.messages and self._closes():
                self._commit(lane)
                continue
            slot = lane.slots[0]
            history = after(lane.history, slot.record, slot.dead)
            if slot.dead and self.world.dead_letter_limits.refuses(history):
                slot.state = "refused"
                self._report(lane)
                self.world.outbox.append(m.Halted(lane.number, lane.epoch, m.Fail(ExitCode.POLICY, TOO_MANY)))
                break
            lane.slots.popleft()
            lane.processed += 1
            lane.freed += slot.record.size
            lane.history = history
            if not reduces or (slot.message is None and not lane.batch):
                lane.items.append(self._item(lane, [slot]))
            else:
                lane.batch.append(slot)
        self._report(lane)
        if lane.drained or lane.committing == "running" or any(slot.state == "running" for slot in lane.slots):
            return
        if lane.draining or (lane.ending and not lane.slots and not lane.committing):
            if lane.batch and not lane.committing and (lane.ending or self._closes()):
                self._commit(lane)
                if lane.committing:
                    return
            lane.drained = True
            self._report(lane)
            self.world.outbox.append(m.Drained(lane.number, lane.epoch))

    def _closes(self) -> bool:
        return not self.world.reducer_declines or self.world.random.random() < 0.2

    def _commit(self, lane: Lane) -> None:
        """At once, or beside the lane, which waits for it."""
        lane.committing = "running"
        if self.world.random.random() < 0.5:
            self._commit_ends(lane)

    def _commit_ends(self, lane: Lane) -> None:
        last = lane.batch[-1].record.at
        failures = self.world.failures.get((lane.number, -1 - last))
        if failures:
            lane.committing = "held"
            self._report(lane)
            self.world.outbox.append(m.Failed(lane.number, lane.epoch, last, failures.pop(0), "no", "commit"))
            return
        lane.committing = ""
        lane.items.append(self._item(lane, lane.batch))
        lane.batch = []

    def _item(self, lane: Lane, slots: list[Slot]) -> Item:
        number = slots[0].record.number
        ok = [str(slot.message) for slot in slots if slot.message is not None]
        outs = [OutRecord("out", number, None, f"ok:{','.join(ok)}".encode(), [], 1)] if ok else []
        dead = [slot.record.at for slot in slots if slot.dead]
        outs += [OutRecord("dlq", number, None, f"dead:{at}".encode(), [], 1) for at in dead]
        first, last = slots[0].record, slots[-1].record
        size = OUT_BYTES * len(outs)
        return Item(first.at, last.at, len(slots), outs, size, lane.history, slots[0].dead)

    def _report(self, lane: Lane) -> None:
        size = sum(OUT_BYTES for slot in lane.batch if slot.message is not None)
        report = m.Worked(
            lane.number,
            lane.epoch,
            lane.items,
            lane.processed,
            lane.freed,
            lane.messages,
            size,
            lane.met_limit,
            lane.past_limit,
        )
        if lane.processed or lane.items or lane.past_limit:
            self.world.outbox.append(report)
        lane.items, lane.processed, lane.freed = [], 0, 0


def after(history: History, record: Any, dead: bool) -> History:
    if dead and record.unread:
        return history.after(None, None, dead)
    return history.after(record.sequence_number, record.epoch if record.end_of_epoch else None, dead)
