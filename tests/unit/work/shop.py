"""A Bench on its real thread, with fake records in and a queue out: what a test of the work thread needs."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Self

from consumer.checkpoint import Position
from consumer.core import messages as m
from consumer.core.audit import SequencePolicy
from consumer.core.history import DeadLetterLimits, History
from consumer.core.item import Item
from consumer.errors import DecodeError, SchemaViolation
from consumer.limits import Limits
from consumer.records import Headers, OutRecord
from consumer.reducer import Batch, Reducer
from consumer.work.bench import Bench
from consumer.work.job import Job
from consumer.work.publish import DeadLetters, Publisher, Target
from consumer.work.report import Broken, Opened
from consumer.worker import Context, Worker

SECONDS = 5.0
"""How long a report is waited for before the test fails."""
MAX_BYTES = 2000
NOTHING = History()
NO_LIMIT = DeadLetterLimits(10**9, 1)


@dataclass(frozen=True)
class Checkpoint:
    """What the fake decoder makes of a value: `number`, or `number/epoch`, or `number/epoch/end`."""

    sequence_number: int
    epoch: int
    end_of_epoch: bool
    position: Position


def decode(value: bytes | None, position: Position) -> Checkpoint:
    if not value:
        raise DecodeError("the record's value is " + ("null" if value is None else "empty"))
    number, *rest = value.decode().rstrip(".").split("/")
    if not number.isdigit():
        raise DecodeError(f"{number} is no number")
    return Checkpoint(int(number), int(rest[0]) if rest else 0, len(rest) > 1, position)


def encode(message: Any) -> bytes:
    if message == "violation":
        raise SchemaViolation("field x: 1.5 is no long")
    return str(message).encode()


@dataclass(eq=False)
class FakeRecord:
    at: int
    data: bytes | None
    number: int = 0
    name: bytes | None = b"key"
    found: Headers | None = None

    def partition(self) -> int:
        return self.number

    def offset(self) -> int:
        return self.at

    def key(self) -> bytes | None:
        return self.name

    def value(self) -> bytes | None:
        return self.data

    def headers(self) -> Headers | None:
        return self.found

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_700_000_000_000


def chunk_of(records: Sequence[FakeRecord]) -> m.Chunk:
    size = sum(len(record.data or b"") for record in records)
    return m.Chunk(records[0].number, records, [record.at for record in records], size)


class Shop:
    """Post commands, read reports. Use as a context manager: it ends the thread and closes its loop."""

    def __init__(
        self,
        worker: Worker[Any],
        reducer: Reducer[Any, Any] | None = None,
        *,
        max_in_flight: int = 1,
        max_messages: int = 1000,
        max_bytes: int = 1_000_000,
        limits: Limits | None = None,
        sequence: SequencePolicy | None = None,
        dead_letter_limits: DeadLetterLimits = NO_LIMIT,
        by_type: dict[type, Target] | None = None,
        default: bool = True,
    ) -> None:
        target = Target("out", 4, MAX_BYTES, encode) if default else None
        job = Job(
            make_worker=lambda: worker,
            make_reducer=None if reducer is None else lambda: reducer,
            decoder=lambda made: decode,
            publisher=Publisher(target, by_type or {}),
            dead_letters=DeadLetters("dlq", 2, MAX_BYTES, "group", "in"),
            limits=limits or Limits(),
            sequence=sequence or SequencePolicy(),
            dead_letter_limits=dead_letter_limits,
            context=Context("group", 0, "in"),
            max_in_flight=max_in_flight,
            max_messages=max_messages,
            max_bytes=max_bytes,
        )
        self.outbox: SimpleQueue[Any] = SimpleQueue()
        self.bench = Bench(job, self.outbox)
        self.opened: set[tuple[int, int]] = set()
        self.items: dict[int, list[Item]] = {}
        self.processed: dict[int, int] = {}
        self.freed: dict[int, int] = {}
        self.seen: list[Any] = []

    def __enter__(self) -> Self:
        self.bench.start()
        self.until(Opened)
        return self

    def __exit__(self, *exception: object) -> None:
        self.bench.post([None])
        self.bench._thread.join(SECONDS)
        assert not self.bench._thread.is_alive(), "the thread does not end"
        self.bench._loop.close()

    # ---------------------------------------------------------------------------------------------- commands

    def submit(
        self, values: Iterable[Any], *, number: int = 0, start: int = 0, epoch: int = 1, condemned: Any = None
    ) -> None:
        """Submit one record per value, at offsets from `start` on; a record is taken as it is."""
        records = [
            value if isinstance(value, FakeRecord) else FakeRecord(at, _bytes(value), number)
            for at, value in enumerate(values, start)
        ]
        if (number, epoch) not in self.opened:
            self.open(number, epoch)
        self.bench.post([m.Submit(chunk_of(records), epoch, condemned or {})])

    def open(self, number: int = 0, epoch: int = 1, history: History = NOTHING) -> None:
        """Begin a lane; a first `submit` does it as well."""
        self.opened.add((number, epoch))
        self.post(m.Open(number, epoch, history))

    def post(self, *commands: m.Command) -> None:
        self.bench.post(commands)

    def ask(self, processed: int, number: int = 0, epoch: int = 1) -> None:
        """Ask the reducer once this many records of the partition are done with, as the machine does."""
        self.until_processed(processed, number)
        self.post(m.Ask(number, epoch))

    # ----------------------------------------------------------------------------------------------- reports

    def until(self, wanted: type | Callable[[Any], bool]) -> Any:
        """Take reports in until the wanted one, and return it."""
        while True:
            try:
                report = self.outbox.get(timeout=SECONDS)
            except Empty:
                raise AssertionError(f"no {wanted} came, but {self.seen}, items {self.items}") from None
            self._take(report)
            if isinstance(report, wanted) if isinstance(wanted, type) else wanted(report):
                return report
            assert not isinstance(report, Broken), report.error

    def until_items(self, count: int, number: int = 0) -> list[Item]:
        """Take reports in until the partition has finished this many items, or more in one report."""
        while len(self.items.get(number, ())) < count:
            self.until(m.Worked)
        return self.items[number]

    def until_processed(self, count: int, number: int = 0) -> None:
        """Take reports in until this many records of the partition are done with, or more in one report."""
        while self.processed.get(number, 0) < count:
            self.until(m.Worked)

    def quiet(self) -> list[Any]:
        """Everything that comes until the thread has nothing to do but wait for user code or commands."""

        async def turns() -> None:
            for _ in range(50):
                await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(turns(), self.bench._loop).result(SECONDS)
        found = []
        while not self.outbox.empty():
            found.append(self.outbox.get())
            self._take(found[-1])
        return found

    def _take(self, report: Any) -> None:
        self.seen.append(report)
        if isinstance(report, m.Worked):
            number = report.partition
            self.items.setdefault(number, []).extend(report.items)
            self.processed[number] = self.processed.get(number, 0) + report.processed
            self.freed[number] = self.freed.get(number, 0) + report.freed_bytes

    def values(self, number: int = 0) -> list[bytes | None]:
        """The values of the partition's output so far."""
        return [out.value for item in self.items.get(number, ()) for out in item.outs]


def _bytes(value: Any) -> bytes | None:
    return value if value is None or isinstance(value, bytes) else str(value).encode()


def headers_of(out: OutRecord) -> dict[str, bytes]:
    names = [name for name, _ in out.headers]
    assert len(names) == len(set(names)), f"a header twice: {names}"
    return dict(out.headers)


class Plain(Worker[int]):
    """Publishes the number, in a plain `def`."""

    def process_checkpoint(self, checkpoint: Any) -> Any:
        return checkpoint.sequence_number


class Script(Worker[Any]):
    """A plain worker that does what it is told per sequence number: raise, return, or call."""

    def __init__(self, **steps: Any) -> None:
        self.steps = {int(name[1:]): list(step) if isinstance(step, list) else [step] for name, step in steps.items()}
        self.calls: list[int] = []

    def process_checkpoint(self, checkpoint: Any) -> Any:
        self.calls.append(checkpoint.sequence_number)
        steps = self.steps.get(checkpoint.sequence_number)
        step = steps.pop(0) if steps else checkpoint.sequence_number
        if isinstance(step, BaseException):
            raise step
        return step() if callable(step) else step


class Gates:
    """Calls that wait until the test lets them go on, from any thread or loop."""

    def __init__(self) -> None:
        self.entered: SimpleQueue[Any] = SimpleQueue()
        self._events: dict[Any, threading.Event] = {}
        self._lock = threading.Lock()

    def _event(self, name: Any) -> threading.Event:
        with self._lock:
            return self._events.setdefault(name, threading.Event())

    def wait(self, name: Any) -> None:
        """Called by the code under test."""
        self.entered.put(name)
        assert self._event(name).wait(SECONDS), f"{name} was never let go on"

    def let(self, *names: Any) -> None:
        for name in names:
            self._event(name).set()

    def next(self, count: int = 1) -> set[Any]:
        """The next names that are waiting."""
        return {self.entered.get(timeout=SECONDS) for _ in range(count)}

    def empty(self) -> bool:
        return self.entered.empty()


class Listener(Reducer[Any, Any]):
    """Notes what it is asked and what it commits; closes as told."""

    def __init__(self, closes: Callable[[Batch[Any], Any], bool] | None = None) -> None:
        self.asked: list[tuple[list[Any], Any]] = []
        self.committed: list[list[Any]] = []
        self.batches: list[Batch[Any]] = []
        self.closes = closes or (lambda batch, following: following is None)
        self.results: Callable[[Batch[Any]], Any] = list

    def should_close_batch(self, batch: Batch[Any], next_message: Any) -> bool:
        assert len(batch) > 0, "asked about an empty batch"
        self.asked.append((list(batch), next_message))
        return self.closes(batch, next_message)

    def commit(self, batch: Batch[Any]) -> Any:
        self.committed.append(list(batch))
        self.batches.append(batch)
        return self.results(batch)


def digest(value: bytes) -> bytes:
    return f"size={len(value)};sha256={hashlib.sha256(value).hexdigest()}".encode()
