"""What was aimed at, next to what is measured: one row for each goal."""

from __future__ import annotations

from statistics import median
from typing import NamedTuple

from benchmarks.bench import MB
from benchmarks.report import Runs, fractions, load, markdown, ranged

UNMEASURED = "not measured yet"
COMMANDS = {
    "peers": "make bench-peers",
    "peers-1": 'make bench-peers BENCH="--partitions 1"',
    "peers-real": "make bench-peers CHECKPOINTS=folder",
    "transactions": 'make bench BENCH="--set transactions"',
    "latency": ".venv/bin/python -m benchmarks.latency",
    "scale-out": ".venv/bin/python -m benchmarks.scale_out",
}
NAMES = {
    "records_per_second": ("rate", 1),
    "cpu_seconds_per_10000": ("CPU per checkpoint", 1),
    "p50_ms": ("p50, ms", 1),
    "p99_ms": ("p99, ms", 1),
    "first_seconds": ("start to first output, s", 1),
    "beyond_heartbeat_seconds": ("pause on scale-out beyond the heartbeat interval, s", 1),
    "largest_bytes": ("MB of the largest process", MB),
    "whole_cpu_seconds_per_10000": ("CPU per checkpoint from the first output", 1),
}


class Goal(NamedTuple):
    """A figure of one file of results, or its ratio to that of another label, and the limit of what is good."""

    number: int
    file: str
    field: str
    label: str
    other: str
    """Empty: the figure itself."""
    sign: str
    """≥ or ≤."""
    limit: float

    def row(self, runs: Runs) -> list[str]:
        """Goal, aimed at, measured (median, lowest and highest), whether median or rounds reach it, command."""
        name, unit = NAMES[self.field]
        text = f"{self.number}. {name}: {self.label}" + f" ÷ {self.other}" * bool(self.other)
        if self.file.startswith("growth-"):
            text += f" ({self.file.removeprefix('growth-').replace('-', ' ')})"
        measured = reached = UNMEASURED
        if self.label in runs and self.other in {"", *runs}:
            found = [run[self.field] / unit for run in runs[self.label]]
            if self.other:
                found = fractions(runs, self.label, self.other, self.field)
            measured, signed = ranged(found, 2), 1 if self.sign == "≥" else -1
            good = [signed * value >= signed * self.limit for value in found]
            reached = "yes" if signed * median(found) >= signed * self.limit else "**no**"
            if len(set(good)) > 1:
                reached += f", {sum(good)} of {len(good)} rounds"
        text += {"peers-1": ", one partition", "peers-real": ", real checkpoints"}.get(self.file, "")
        command = COMMANDS.get(self.file) or f".venv/bin/python -m benchmarks.{self.file.replace('-', ' ', 1)}"
        return [text, f"{self.sign} {self.limit:g}", measured, reached, f"`{command}`"]


RATE, CPU, SIZE = "records_per_second", "cpu_seconds_per_10000", "largest_bytes"
WHOLE_CPU = "whole_cpu_seconds_per_10000"
"""Where a member waits for its transactions: it works ahead of them, before the stretch in which CPU counts."""
BEND = 1.25
"""A curve counts as flat, or as linear, that leaves it by no more than a quarter."""
OURS, TRANSACTIONS = "consumer exactly_once", "transactions exactly_once"
GOALS = [
    *(
        Goal(1, file, field, OURS, f"{peer} exactly_once", sign, limit)
        for file in ("peers", "peers-1", "peers-real")
        for field, peer, sign, limit in (
            (RATE, "loop", "≥", 4),
            (RATE, "quix", "≥", 5),
            (RATE, "streams", "≥", 7),
            (RATE, "rust", "≥", 3),
            (RATE, "fetch-only", "≥", 0.65),
            (CPU, "rust", "≤", 0.45),
        )
    ),
    Goal(2, "transactions", RATE, TRANSACTIONS, "loop-transactions exactly_once", "≥", 1.6),
    Goal(2, "transactions", WHOLE_CPU, "transactions-2 exactly_once", TRANSACTIONS, "≤", 1.1),
    Goal(2, "transactions", WHOLE_CPU, "transactions-4 exactly_once", TRANSACTIONS, "≤", 1.1),
    Goal(2, "transactions", RATE, "transactions-2 exactly_once", TRANSACTIONS, "≥", 1.8),
    *(Goal(3, file, RATE, OURS, "consumer at_least_once", "≥", 0.95) for file in ("peers", "peers-1", "peers-real")),
    Goal(4, "latency", "p50_ms", "consumer 50/s", "", "≤", 20),
    Goal(4, "latency", "p99_ms", "consumer 50/s", "", "≤", 60),
    Goal(4, "latency", "p50_ms", "consumer 500/s", "", "≤", 20),
    Goal(4, "latency", "p99_ms", "consumer 500/s", "", "≤", 60),
    Goal(4, "latency", "p50_ms", "consumer 2000/s", "", "≤", 20),
    Goal(5, "growth-in-flight", RATE, "64", "1", "≥", 50),
    *(
        Goal(6, f"growth-{curve}", CPU, label, other, "≤", BEND * linear)
        for curve, label, other, linear in (
            ("size", "1 MB", "40 KB", 25),
            ("size", "50 MB", "1 MB", 50),
            ("partitions", "64", "1", 1),
            ("partitions", "256", "1", 1),
            ("members", "4", "1", 1),
            ("members", "8", "1", 1),
            ("dead-letters", "1 %", "0 %", 1),
            ("dead-letters", "10 %", "0 %", 1),
            ("pools", "4", "1", 4),
        )
    ),
    *(Goal(6, "growth-batch", WHOLE_CPU, batch, "1000", "≤", BEND) for batch in ("10", "10000")),
    *(
        Goal(6, f"growth-{curve}", RATE, label, other, "≥", 1 / BEND)
        for curve, label, other in (
            ("partitions", "64", "1"),
            ("partitions", "256", "1"),
            ("members", "4", "1"),
            ("members", "8", "1"),
            ("batch", "10", "1000"),
            ("batch", "10000", "1000"),
            ("dead-letters", "1 %", "0 %"),
            ("dead-letters", "10 %", "0 %"),
        )
    ),
    Goal(6, "growth-start", "first_seconds", "existing group", "", "≤", 1.5),
    Goal(6, "scale-out", "beyond_heartbeat_seconds", "consumer", "", "≤", 1),
    Goal(6, "scale-out", "beyond_heartbeat_seconds", "classic", "", "≤", 1),
    Goal(7, "peers", SIZE, OURS, "", "≤", 150),
    Goal(7, "latency", SIZE, "consumer 500/s", "", "≤", 100),
]


def shown() -> str:
    """The table, from the saved results."""
    rows = [goal.row(load(goal.file)["runs"]) for goal in GOALS]
    reached = sum(row[3].startswith("yes") for row in rows)
    head = ["goal", "aimed at", "measured (lowest-highest)", "reached", "command"]
    return f"{reached} of {len(rows)} are reached.\n\n{markdown(head, rows)}"
