"""Metrics: one table of all that exist, the numbers of one member, and their sum over a group as Prometheus text.

A member counts in its own `Metrics` and sends `snapshot()` to the supervisor, whose `Aggregate` adds up the members
of each group: a counter never goes down when a member dies or is restarted, a gauge counts live members only.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import add

__all__ = ["CONTENT_TYPE", "PREFIX", "TABLE", "Aggregate", "Metric", "Metrics", "Series"]

PREFIX = "checkpoint_consumer_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Series = dict[tuple[str, tuple[str, ...]], list[float]]
"""By a metric's name and its labels' values in the table's order: a counter or gauge is one number; a histogram a
count per bucket, those above all, and the sum."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; `group` is a label of every one and not named here. With buckets it is a histogram."""

    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    highest: bool = False
    """A gauge of which the highest member counts; otherwise the sum."""

    @property
    def zero(self) -> list[float]:
        """Its numbers before anything was counted."""
        return [0.0] * (len(self.buckets) + 2 if self.buckets else 1)


_FAST = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 120, 600)
"""From a small decode to an hour's work in steps that a slow worker still shows in."""
_COMMIT = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_AGE = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 86400)
_RECORDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)

TABLE: dict[str, Metric] = {
    "records_consumed_total": Metric("Records read from the input topic."),
    "records_processed_total": Metric("Records whose processing ended, by how it ended.", ("outcome",)),
    "messages_published_total": Metric("Records written to the output topic in committed transactions."),
    "dead_letters_total": Metric("Records written to the dead-letter topic, by class of error.", ("error",)),
    "retries_total": Metric("Calls of user code that were repeated after an error."),
    "transactions_total": Metric("Transactions, by how they ended.", ("outcome",)),
    "transaction_errors_total": Metric(
        "Transactions that failed, by the client's error; none: another reason.", ("error",)
    ),
    "transaction_seconds": Metric("From the begin of a transaction to its end.", buckets=_COMMIT),
    "batch_records": Metric("Input records that one transaction commits.", buckets=_RECORDS),
    "processing_seconds": Metric("One call of process_checkpoint.", buckets=_FAST),
    "record_age_seconds": Metric("Commit time minus the input record's timestamp.", buckets=_AGE),
    "lag_records": Metric("Offsets between the last commit and the end.", ("topic", "partition"), highest=True),
    "next_offset": Metric("Committed offset: where the next owner starts.", ("topic", "partition"), highest=True),
    "next_sequence_number": Metric("Sequence number expected next.", ("topic", "partition"), highest=True),
    "sequence_anomalies_total": Metric("Repeats, regressions and gaps of sequence numbers.", ("kind",)),
    "stuck_partitions_total": Metric(
        "Partitions that did not move, by what was tried: seek, rejoin, exit; wait: the client cannot read on.",
        ("step",),
    ),
    "memory_bytes": Metric("Bytes held, by where they wait.", ("stage",)),
    "paused_partitions": Metric("Assigned partitions that are not read at the moment."),
    "assigned_partitions": Metric("Partitions that the members own."),
    "rebalances_total": Metric("Changes of the assignment, by kind.", ("kind",)),
    "time_seconds_total": Metric("Where each thread's wall time went.", ("thread", "activity")),
    "members": Metric("Member processes that run here."),
    "member_restarts_total": Metric("Member processes started again, by why the one before ended.", ("reason",)),
    "build_info": Metric("Always 1; says what runs.", ("version", "python"), highest=True),
}


def _kind(name: str) -> str:
    return "histogram" if TABLE[name].buckets else "counter" if name.endswith("_total") else "gauge"


class Metrics:
    """One member's numbers; each metric belongs to one thread. An unknown name or label is a KeyError at once.

    What has no labels starts at 0, so that a rate is right from the first event on.
    """

    def __init__(self) -> None:
        self._series: Series = {
            (name, ()): metric.zero for name, metric in TABLE.items() if not metric.labels and _kind(name) != "gauge"
        }

    def inc(self, name: str, /, by: float = 1, **labels: object) -> None:
        """Add to a counter."""
        self._numbers(name, labels)[0] += by

    def set(self, name: str, /, value: float, **labels: object) -> None:
        """Set a gauge."""
        self._numbers(name, labels)[0] = value

    def observe(self, name: str, /, *values: float) -> None:
        """Count every one of `values` in a histogram."""
        numbers, buckets = self._numbers(name, {}), TABLE[name].buckets
        for value in values:
            numbers[bisect_left(buckets, value)] += 1
        numbers[-1] += sum(values)

    def clear(self, name: str) -> None:
        """Remove what a gauge has, so that a partition that was revoked is not shown for ever."""
        self._series = {key: numbers for key, numbers in self._series.items() if key[0] != name}

    def snapshot(self) -> Series:
        """A copy of all numbers, for `Aggregate.update`."""
        return {key: numbers.copy() for key, numbers in self._series.copy().items()}

    def _numbers(self, name: str, labels: dict[str, object]) -> list[float]:
        metric = TABLE[name]
        key = (name, tuple([str(labels[label]) for label in metric.labels]))
        numbers = self._series.get(key)
        if numbers is None:
            numbers = self._series[key] = metric.zero
        return numbers


class Aggregate:
    """The numbers of all members of all groups here. One thread may update while another renders."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: dict[str, dict[str, Series]] = {}
        """By group and member; the empty name stands for all members that are gone."""

    def update(self, group: str, member: str, snapshot: Series) -> None:
        """Take a member's newest snapshot."""
        with self._lock:
            self._groups.setdefault(group, {})[member] = snapshot

    def remove(self, group: str, member: str) -> None:
        """The member is gone: its gauges go, its counters stay."""
        with self._lock:
            members = self._groups.setdefault(group, {})
            kept = {key: numbers for key, numbers in members.pop(member, {}).items() if _kind(key[0]) != "gauge"}
            members[""] = _sum([members.get("", {}), kept])

    def render(self) -> str:
        """Everything in Prometheus' text format 0.0.4."""
        with self._lock:
            groups = {group: _sum(members.values()) for group, members in sorted(self._groups.items())}
        return "".join(f"{line}\n" for name in TABLE for line in _lines(name, groups))


def _sum(parts: Iterable[Series]) -> Series:
    total: Series = {}
    for part in parts:
        for key, numbers in part.items():
            metric = TABLE[key[0]]
            both = max if metric.highest else add
            total[key] = list(map(both, total.get(key, metric.zero), numbers))
    return total


def _lines(name: str, groups: dict[str, Series]) -> Iterator[str]:
    metric, full = TABLE[name], PREFIX + name
    yield f"# HELP {full} {metric.help}"
    yield f"# TYPE {full} {_kind(name)}"
    for group, series in groups.items():
        for (found, values), numbers in sorted(series.items()):
            if found != name:
                continue
            labels = [("group", group), *zip(metric.labels, values, strict=True)]
            if not metric.buckets:
                yield f"{full}{_labelled(labels)} {numbers[0]}"
                continue
            count = 0.0
            for bound, more in zip((*metric.buckets, "+Inf"), numbers, strict=False):
                count += more
                yield f"{full}_bucket{_labelled([*labels, ('le', str(bound))])} {count}"
            yield f"{full}_sum{_labelled(labels)} {numbers[-1]}"
            yield f"{full}_count{_labelled(labels)} {count}"


def _labelled(labels: Iterable[tuple[str, str]]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
