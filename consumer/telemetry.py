"""What a member counts: from events, commands and the work thread's tallies to metrics."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Mapping, Sequence
from importlib import metadata

from consumer.core.item import Item
from consumer.core.machine import Machine
from consumer.core.messages import Chunk, Failed, FailureKind, Outcome, Stuck, Transact, TransactionEnded
from consumer.core.partition import Partition, State
from consumer.metrics import Metrics, Series
from consumer.work.report import Tally

_CLIENT_ERROR = re.compile(r"\w+: (_?[A-Z][A-Z0-9_]*): ")
"""How a sink begins what it says of an error: step and name. All else may be another text every time: no label."""


class Telemetry:
    """One member's measurements; used by its poll thread only."""

    def __init__(self, topic: str, member: int) -> None:
        self._topic = topic
        self._metrics = Metrics()
        self._outs = 0
        self._items: Sequence[Item] = ()
        self._ends: Mapping[int, int] = {}
        self._since = time.monotonic()
        self._spent = 0.0
        self._metrics.set("build_info", 1, version=_version(), python=platform.python_version())

    def spend(self, activity: str, since: float) -> float:
        """Count the poll thread's time from `since` (monotonic) until now, and return now."""
        now = time.monotonic()
        self._metrics.inc("time_seconds_total", now - since, thread="poll", activity=activity)
        self._spent += now - since
        return now

    def consumed(self, chunk: Chunk) -> None:
        """Records were fetched."""
        self._metrics.inc("records_consumed_total", len(chunk.offsets))

    def reach(self, ends: Mapping[int, int]) -> None:
        """The brokers have said how far partitions reach: a client that fetches no more does not learn it."""
        self._ends = ends

    def failed(self, report: Failed) -> None:
        """A call of user code, or a decode, failed."""
        if report.kind is not FailureKind.PERMANENT:
            self._metrics.inc("retries_total")

    def stuck(self, command: Stuck) -> None:
        """A partition does not move."""
        self._metrics.inc("stuck_partitions_total", step=command.remedy)

    def batch(self, command: Transact) -> None:
        """A transaction begins."""
        self._outs, self._items = len(command.outs), command.items

    def transaction(self, result: TransactionEnded) -> None:
        """A transaction ended."""
        self._metrics.inc("transactions_total", outcome=result.outcome.value)
        self._metrics.observe("transaction_seconds", result.seconds)
        if result.outcome is Outcome.COMMITTED:
            self._metrics.inc("messages_published_total", self._outs)
            if self._items:
                self._metrics.observe("batch_records", sum(item.records for item in self._items))
            now_ms = time.time() * 1000
            timestamps = [item.timestamp_ms for item in self._items if item.timestamp_ms >= 0]
            self._metrics.observe("record_age_seconds", *[max(0.0, (now_ms - at) / 1000) for at in timestamps])
            self._items = ()
        else:
            named = _CLIENT_ERROR.match(result.error)
            self._metrics.inc("transaction_errors_total", error=named[1] if named else "none")

    def rebalance(self, kind: str) -> None:
        """The assignment changed."""
        self._metrics.inc("rebalances_total", kind=kind)

    def measured(self, tally: Tally) -> None:
        """The work thread's second."""
        for activity, seconds in tally.seconds.items():
            self._metrics.inc("time_seconds_total", seconds, thread="work", activity=activity)
        for outcome, count in tally.outcomes.items():
            self._metrics.inc("records_processed_total", count, outcome=outcome)
        for error, count in tally.dead_letters.items():
            self._metrics.inc("dead_letters_total", count, error=error)
        for kind, count in tally.anomalies.items():
            self._metrics.inc("sequence_anomalies_total", count, kind=kind)
        self._metrics.observe("processing_seconds", *tally.durations)

    def snapshot(self, machine: Machine, ends: Mapping[int, int], positions: Mapping[int, int]) -> Series:
        """Everything counted so far, with the gauges as they are now.

        Of the partitions: their end offsets, and how far the client has gone, both as it knows them.
        """
        now = time.monotonic()
        rest = max(0.0, now - self._since - self._spent)
        self._since, self._spent = now, 0.0
        self._metrics.inc("time_seconds_total", rest, thread="poll", activity="other")
        partitions = machine.partitions
        self._metrics.set("assigned_partitions", len(partitions))
        self._metrics.set("paused_partitions", sum(partition.paused for partition in partitions.values()))
        self._metrics.set("memory_bytes", sum(p.raw_bytes for p in partitions.values()), stage="work")
        self._metrics.set("memory_bytes", sum(p.batch_bytes for p in partitions.values()), stage="batch")
        self._metrics.set("memory_bytes", sum(p.finished_bytes for p in partitions.values()), stage="unsent")
        for name in ("lag_records", "next_offset", "next_sequence_number"):
            self._metrics.clear(name)
        for number, partition in partitions.items():
            of: dict[str, object] = {"topic": self._topic, "partition": number}
            end = max(ends.get(number, -1), self._ends.get(number, -1))
            done = _done(partition, positions.get(number, 0))
            if end >= 0 and done is not None and partition.state is not State.ENDED:
                self._metrics.set("lag_records", max(0, end - done), **of)
            if partition.committed is not None:
                self._metrics.set("next_offset", partition.committed, **of)
            if (last := partition.history.sequence_number) is not None:
                self._metrics.set("next_sequence_number", last + 1, **of)
        return self._metrics.snapshot()


def _done(partition: Partition, position: int) -> int | None:
    """Up to where a partition has nothing left to do; None: that is not known yet.

    The client's position counts: the end of a topic may be made of transaction markers, which are never delivered.
    """
    if partition.delivered or partition.finished:
        return partition.next_offset
    if partition.state in (State.LOCATING, State.POSITIONING):
        return partition.committed
    return max(partition.position, position)


def _version() -> str:
    try:
        return metadata.version("checkpoint-consumer")
    except metadata.PackageNotFoundError:
        return "unknown"  # run from a checkout that is not installed
