"""Metrics: one table of all that exist, the numbers of one member, and their sum over a group as Prometheus text.

A member counts in its own `Metrics` and sends `snapshot()` to the supervisor, whose `Aggregate` adds up the members
of each group: a counter never goes down when a member dies or is restarted, a gauge counts live members only.
"""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import msgspec

__all__ = ["CONTENT_TYPE", "TABLE", "Aggregate", "Definition", "Metrics", "ProcessMetrics"]

PREFIX = "checkpoint_consumer_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Counter = Literal[
    "records_consumed_total",
    "records_processed_total",
    "messages_published_total",
    "dead_letters_total",
    "retries_total",
    "transactions_total",
    "transaction_errors_total",
    "sequence_anomalies_total",
    "rebalances_total",
    "time_seconds_total",
    "member_restarts_total",
    "process_cpu_seconds_total",
]
Gauge = Literal[
    "lag_records",
    "next_sequence_number",
    "memory_bytes",
    "paused_partitions",
    "assigned_partitions",
    "members",
    "build_info",
    "process_resident_memory_bytes",
]
Histogram = Literal["transaction_seconds", "batch_records", "processing_seconds", "record_age_seconds"]
Name = Counter | Gauge | Histogram


class Definition(NamedTuple):
    """One metric; `group` is a label of every one and not named here."""

    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    highest: bool = False
    """A gauge of which the highest member counts; otherwise the sum."""


_FAST = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 120, 600)
"""From a small decode to an hour's work in steps that a slow worker still shows in."""
_COMMIT = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_AGE = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 86400)
_RECORDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)

TABLE: dict[Name, Definition] = {
    "records_consumed_total": Definition("Records read from the input topic."),
    "records_processed_total": Definition("Records whose processing ended, by how it ended.", ("outcome",)),
    "messages_published_total": Definition("Records written to the output topic in committed transactions."),
    "dead_letters_total": Definition("Records written to the dead-letter topic, by class of error.", ("error",)),
    "retries_total": Definition("Calls of user code that were repeated after an error."),
    "transactions_total": Definition("Transactions, by how they ended.", ("outcome",)),
    "transaction_errors_total": Definition("Errors of the client in transactions, by its name.", ("error",)),
    "transaction_seconds": Definition("From the begin of a transaction to its end.", buckets=_COMMIT),
    "batch_records": Definition("Input records that one transaction commits.", buckets=_RECORDS),
    "processing_seconds": Definition("One checkpoint from decoding to encoding.", buckets=_FAST),
    "record_age_seconds": Definition("Commit time minus the input record's timestamp.", buckets=_AGE),
    "lag_records": Definition("Offsets between the last commit and the end.", ("topic", "partition"), highest=True),
    "next_sequence_number": Definition("Sequence number expected next.", ("topic", "partition"), highest=True),
    "sequence_anomalies_total": Definition("Repeats, regressions and gaps of sequence numbers.", ("kind",)),
    "memory_bytes": Definition("Bytes held, by where they wait.", ("stage",)),
    "paused_partitions": Definition("Assigned partitions that are not read at the moment."),
    "assigned_partitions": Definition("Partitions that the members own."),
    "rebalances_total": Definition("Changes of the assignment, by kind.", ("kind",)),
    "time_seconds_total": Definition("Where each thread's wall time went.", ("thread", "activity")),
    "members": Definition("Member processes that run here."),
    "member_restarts_total": Definition("Member processes started again, by why the one before ended.", ("reason",)),
    "process_resident_memory_bytes": Definition("Resident memory of a member process.", ("member",)),
    "process_cpu_seconds_total": Definition("CPU time of member processes.", ("member",)),
    "build_info": Definition("Always 1; says what runs.", ("version", "python"), highest=True),
}

_COUNTERS, _GAUGES, _HISTOGRAMS = (frozenset(get_args(kind)) for kind in (Counter, Gauge, Histogram))

_Key = tuple[Name, tuple[str, ...]]
"""A metric's name and its labels' values in the table's order."""
_Series = dict[_Key, list[float]]
"""A counter or gauge is one number; a histogram a count per bucket, those above all, and the sum."""


class _Snapshot(msgspec.Struct, array_like=True):
    incarnation: int
    series: list[tuple[Name, tuple[str, ...], list[float]]]


class Metrics:
    """One member's numbers. Any thread may call any method.

    An unknown name is a KeyError, a wrong set of labels a ValueError, at once. What has no labels starts at 0,
    so that a rate is right from the first event on.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Tells the supervisor that counting began anew; a process id alone may come again.
        self._incarnation = time.time_ns()
        self._series: _Series = {(name, ()): _zero(name) for name in TABLE if _starts_at_zero(name)}

    def inc(self, name: Counter, /, by: float = 1, **labels: object) -> None:
        """Add to a counter; a negative number is a ValueError."""
        if by < 0:
            raise ValueError(f"{name} is a counter and cannot go down by {-by}")
        with self._lock:
            self._one(name, labels)[0] += by

    def set(self, name: Gauge, /, value: float, **labels: object) -> None:
        """Set a gauge."""
        with self._lock:
            self._one(name, labels)[0] = value

    def observe(self, name: Histogram, /, value: float, times: int = 1) -> None:
        """Count `value` in a histogram, `times` times."""
        with self._lock:
            numbers = self._one(name, {})
            numbers[bisect_left(TABLE[name].buckets, value)] += times
            numbers[-1] += value * times

    def clear_labels(self, name: Gauge, /, **labels: object) -> None:
        """Remove the series of a gauge that have these labels, as when a partition is revoked."""
        at = [(TABLE[name].labels.index(label), str(value)) for label, value in labels.items()]
        with self._lock:
            for key in [key for key in self._series if key[0] == name and all(key[1][i] == value for i, value in at)]:
                del self._series[key]

    def snapshot(self) -> bytes:
        """All numbers, for `Aggregate.update`."""
        with self._lock:
            return msgspec.msgpack.encode(
                _Snapshot(self._incarnation, [(name, values, list(n)) for (name, values), n in self._series.items()])
            )

    def _one(self, name: Name, labels: dict[str, object]) -> list[float]:
        expected = TABLE[name].labels
        if len(labels) != len(expected) or any(label not in labels for label in expected):
            raise ValueError(f"{name} takes the labels {expected}, not {tuple(labels)}")
        key = (name, tuple(str(labels[label]) for label in expected))
        numbers = self._series.get(key)
        if numbers is None:
            numbers = self._series[key] = _zero(name)
        return numbers


class ProcessMetrics:
    """Memory and CPU time of this process; call `update` before a snapshot."""

    def __init__(self, metrics: Metrics, member: int) -> None:
        self._metrics = metrics
        self._member = member
        self._counted = 0.0
        self._statm = Path("/proc/self/statm")

    def update(self) -> None:
        """Measure; where there is no /proc the memory is left out."""
        used = time.process_time()
        self._metrics.inc("process_cpu_seconds_total", used - self._counted, member=self._member)
        self._counted = used
        if self._statm.exists():
            resident = int(self._statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            self._metrics.set("process_resident_memory_bytes", resident, member=self._member)


class Aggregate:
    """The numbers of all members of all groups here. One thread may update while another renders."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: dict[tuple[str, str], tuple[int, _Series]] = {}
        self._past: dict[str, _Series] = {}
        """Per group the counters and histograms of members that are gone."""

    def update(self, group: str, member: str, snapshot: bytes) -> None:
        """Take a member's newest snapshot; one of a new process is added to what its predecessor counted."""
        taken = msgspec.msgpack.decode(snapshot, type=_Snapshot)
        series = {(name, labels): numbers for name, labels, numbers in taken.series}
        with self._lock:
            known = self._live.get((group, member))
            if known is not None and known[0] != taken.incarnation:
                self._settle(group, known[1])
            self._live[(group, member)] = (taken.incarnation, series)

    def remove(self, group: str, member: str) -> None:
        """The member is gone: its gauges go, its counters stay."""
        with self._lock:
            known = self._live.pop((group, member), None)
            if known is not None:
                self._settle(group, known[1])

    def render(self) -> str:
        """Everything in Prometheus' text format 0.0.4."""
        with self._lock:
            groups = {group: self._merged(group) for group in sorted({*self._past, *(g for g, _ in self._live)})}
        return "".join(f"{line}\n" for name in TABLE for line in _lines(name, groups))

    def _settle(self, group: str, series: _Series) -> None:
        past = self._past.setdefault(group, {})
        for key, numbers in series.items():
            if key[0] not in _GAUGES:
                _add(past, key, numbers)

    def _merged(self, group: str) -> _Series:
        merged: _Series = {key: list(numbers) for key, numbers in self._past.get(group, {}).items()}
        for (owner, _), (_, series) in self._live.items():
            if owner == group:
                for key, numbers in series.items():
                    _add(merged, key, numbers)
        return merged


def _starts_at_zero(name: Name) -> bool:
    return not TABLE[name].labels and name not in _GAUGES


def _zero(name: Name) -> list[float]:
    return [0.0] * (len(TABLE[name].buckets) + 2) if name in _HISTOGRAMS else [0.0]


def _add(series: _Series, key: _Key, numbers: list[float]) -> None:
    present = series.get(key)
    if present is None:
        series[key] = list(numbers)
    elif TABLE[key[0]].highest:
        series[key] = [max(present[0], numbers[0])]
    else:
        series[key] = [one + other for one, other in zip(present, numbers, strict=True)]


def _lines(name: Name, groups: dict[str, _Series]) -> Iterator[str]:
    definition = TABLE[name]
    kind = "counter" if name in _COUNTERS else "gauge" if name in _GAUGES else "histogram"
    yield f"# HELP {PREFIX}{name} {_escaped(definition.help)}"
    yield f"# TYPE {PREFIX}{name} {kind}"
    for group, series in groups.items():
        for key in sorted(key for key in series if key[0] == name):
            labels = [("group", group), *zip(definition.labels, key[1], strict=True)]
            if kind == "histogram":
                yield from _histogram_lines(name, labels, definition.buckets, series[key])
            else:
                yield f"{PREFIX}{name}{_labelled(labels)} {_number(series[key][0])}"


def _histogram_lines(
    name: str, labels: list[tuple[str, str]], buckets: tuple[float, ...], numbers: list[float]
) -> Iterator[str]:
    total = 0.0
    for bound, count in zip((*map(_number, buckets), "+Inf"), numbers[:-1], strict=True):
        total += count
        yield f"{PREFIX}{name}_bucket{_labelled([*labels, ('le', bound)])} {_number(total)}"
    yield f"{PREFIX}{name}_sum{_labelled(labels)} {_number(numbers[-1])}"
    yield f"{PREFIX}{name}_count{_labelled(labels)} {_number(total)}"


def _labelled(labels: Iterable[tuple[str, str]]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(value)
