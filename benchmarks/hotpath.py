"""What one checkpoint costs a member without any broker: the poll thread's logic and the work thread, both real.

Input is of the client's own record type, made beforehand; what would be published is dropped: the client's fetching,
producing and committing is not in it. Run it twice under `valgrind --tool=callgrind` with different counts, and the
difference is instructions per checkpoint, whatever else the machine does: `tests/test_hotpath.py`.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast

import orjson
from confluent_kafka import Message

from consumer.avro import Encoder, compile_schema
from consumer.checkpoint import decoder_for
from consumer.core import messages as m
from consumer.core.audit import SequencePolicy
from consumer.core.flush import FlushPolicy
from consumer.core.history import DeadLetterLimits
from consumer.core.machine import Policy
from consumer.generate import generate
from consumer.kafka.source import Other, Source
from consumer.kafka.transactor import Result
from consumer.limits import Limits
from consumer.member import Member
from consumer.partitioning import Partitioning
from consumer.process import SWITCH_SECONDS
from consumer.schemas import resolve_schema, search_path
from consumer.settings.model import BatchSettings
from consumer.telemetry import Telemetry
from consumer.work.bench import Bench
from consumer.work.job import Job
from consumer.work.publish import DeadLetters, Publisher, Target
from consumer.worker import Context, Worker
from consumer.workers import SummaryWorker, TransactionWorker

WORKERS: dict[str, type[Worker[Any]]] = {"summary": SummaryWorker, "transactions": TransactionWorker}


class Replay:
    """A source that has everything already: `count` records, as `Source.poll` returns them."""

    joined = True

    def __init__(
        self, value: bytes, count: int, partitions: int, at_once: int, assign: Callable[[Sequence[int]], None]
    ) -> None:
        self._assign: Callable[[Sequence[int]], None] | None = assign
        self._partitions = partitions
        self._records = [
            Message("in", at % partitions, at // partitions, b"%d" % at, value, timestamp=(1, 1_700_000_000_000))
            for at in range(count)
        ]
        self._at_once = at_once
        self._next = 0
        self._fetching: set[int] = set()

    def poll(self, seconds: float, most: int) -> tuple[m.Records, list[Other]]:
        if self._assign is not None:
            self._assign(range(self._partitions))
            self._assign = None
        records: list[Message] = []
        if self._fetching:
            stop = self._next + min(most, self._at_once)
            records = self._records[self._next : stop]
            self._next = stop
        if not records:
            time.sleep(seconds)
            return m.Records(()), []
        return Source._sort(cast(Source, self), records, len(records) == most)

    def locate_some(self, partitions: Sequence[int]) -> dict[int, tuple[int | None, str]]:
        return dict.fromkeys(partitions, (0, ""))

    def seek(self, partition: int, offset: int | None) -> bool:
        return True

    def pause(self, partitions: Collection[int]) -> None:
        self._fetching.difference_update(partitions)

    def resume(self, partitions: Collection[int]) -> None:
        self._fetching.update(partitions)


class Patient(SimpleQueue[Any]):
    """Waits for the next report however long that takes: how often the poll thread looks depends on no clock."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        return super().get(block, timeout and 60.0)


class Devnull:
    """A sink whose transactions are committed at the next step."""

    def __init__(self) -> None:
        self.busy = False
        self.published = self.accounted = 0

    def begin(self, transaction: m.Transact) -> None:
        self.busy = True
        self.published += len(transaction.outs)
        self.accounted += sum(item.records for item in transaction.items)

    def step(self, seconds: float) -> Result:
        self.busy = False
        return m.TransactionEnded(m.Outcome.COMMITTED, "", 0.01)

    def rebuild(self) -> None: ...
    def give_up(self, why: str) -> None: ...
    def discard(self) -> None: ...


def job_for(worker: type[Worker[Any]], partitions: int) -> Job:
    """The job of one member with default settings and this shipped worker; topics have so many partitions."""
    schema = compile_schema(resolve_schema(worker, worker.schema, search_path([])))
    batch = BatchSettings()
    return Job(
        make_worker=worker,
        make_reducer=None,
        decoder=lambda made: decoder_for(type(made).checkpoint_type),
        publisher=Publisher(Target("out", partitions, 1_048_588, Encoder(schema, 1).encode), {}),
        dead_letters=DeadLetters("dlq", partitions, 1_048_588, "group", "in"),
        limits=Limits(),
        sequence=SequencePolicy("ignore", Partitioning.parse("unknown"), partitions),
        dead_letter_limits=DeadLetterLimits(),
        context=Context("group", 0, "in"),
        max_in_flight=1,
        max_messages=batch.max_messages,
        max_bytes=batch.max_bytes,
    )


def run(
    value: bytes, count: int, worker: type[Worker[Any]], partitions: int, at_once: int, outbox: SimpleQueue[Any]
) -> float:
    """Work on `value`, `count` times; the CPU seconds that took."""
    bench = Bench(job_for(worker, partitions), outbox)
    sink = Devnull()
    batch = BatchSettings()
    flush = FlushPolicy(batch.max_messages, batch.max_bytes, batch.max_seconds, batch.linger_seconds)

    def listen() -> list[m.Event]:
        return [m.Stop(time.monotonic() + 60)] if sink.accounted == count else []

    member = Member(Policy(flush=flush), bench, outbox, sink, Telemetry("in", 0), listen, lambda _: None)
    source = Replay(value, count, partitions, at_once, member.assigned)
    gc.collect()
    gc.freeze()
    since = time.process_time()
    bench.start()
    member.run(cast(Source, source))
    return time.process_time() - since


def main() -> None:
    """Print CPU microseconds per checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, help="checkpoints")
    parser.add_argument("--worker", choices=WORKERS, default="summary")
    parser.add_argument("--steady", action="store_true", help="a clock that moves 2 us when it is asked, not by itself")
    parser.add_argument("--at-once", type=int, default=50, help="records that a poll returns at most")
    parser.add_argument("--partitions", type=int, default=4, help="that the member has (default: %(default)s)")
    parser.add_argument("--number", type=int, default=1, help="of the generated checkpoint; 99 ends an epoch")
    parser.add_argument("--checkpoint", type=Path, help="a file with one in place of it, taken without spaces")
    args = parser.parse_args()
    value = generate(args.number)
    if args.checkpoint:
        value = orjson.dumps(orjson.loads(args.checkpoint.read_bytes()))
    outbox: SimpleQueue[Any] = SimpleQueue()
    if args.steady:
        outbox = Patient()
        ticks = itertools.count()
        time.monotonic = time.perf_counter = lambda: 2e-6 * next(ticks)
    sys.setswitchinterval(10.0 if args.steady else SWITCH_SECONDS)
    seconds = run(value, args.count, WORKERS[args.worker], args.partitions, args.at_once, outbox)
    print(f"{1e6 * seconds / args.count:.1f} CPU us per checkpoint, {args.count} checkpoints")


if __name__ == "__main__":
    main()
