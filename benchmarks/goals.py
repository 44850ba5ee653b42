"""What was aimed at, next to what is measured: one row for each goal."""

from __future__ import annotations

from statistics import median
from typing import NamedTuple

from benchmarks.bench import CPU, MB, RATE, WHOLE_CPU, WHOLE_RATE
from benchmarks.report import Runs, fractions, load, markdown, ranged

UNMEASURED = "not measured yet"
COMMANDS = {
    "peers": "make bench-peers",
    "peers-1": 'make bench-peers BENCH="--partitions 1"',
    "peers-real": "make bench-peers CHECKPOINTS=folder",
    "transactions": 'make bench BENCH="--set transactions"',
    "transactions-real": 'make bench CHECKPOINTS=folder BENCH="--set transactions"',
    "latency": ".venv/bin/python -m benchmarks.latency",
    "scale-out": ".venv/bin/python -m benchmarks.scale_out",
}
NAMES = {
    RATE: ("rate", 1),
    CPU: ("CPU per checkpoint", 1),
    WHOLE_RATE: ("rate from the first output", 1),
    WHOLE_CPU: ("CPU per checkpoint from the first output", 1),
    "p50_ms": ("p50, ms", 1),
    "p99_ms": ("p99, ms", 1),
    "first_seconds": ("start to first output, s", 1),
    "beyond_heartbeat_seconds": ("pause on scale-out beyond the heartbeat interval, s", 1),
    "largest_bytes": ("MB of the largest process", MB),
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
        if self._measured(runs):
            found = [run[self.field] / unit for run in runs[self.label]]
            if self.other:
                found = fractions(runs, self.label, self.other, self.field)
            measured, signed = ranged(found, 2), 1 if self.sign == "≥" else -1
            good = [signed * value >= signed * self.limit for value in found]
            reached = "yes" if signed * median(found) >= signed * self.limit else "**no**"
            if len(set(good)) > 1:
                reached += f", {sum(good)} of {len(good)} rounds"
        text += ", one partition" * self.file.endswith("-1") + ", real checkpoints" * self.file.endswith("-real")
        command = COMMANDS.get(self.file) or f".venv/bin/python -m benchmarks.{self.file.replace('-', ' ', 1)}"
        return [text, f"{self.sign} {self.limit:g}", measured, reached, f"`{command}`"]

    def _measured(self, runs: Runs) -> bool:
        labels = [label for label in (self.label, self.other) if label]
        return all(label in runs and self.field in runs[label][0] for label in labels)


SIZE = "largest_bytes"
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
    *(
        Goal(2, file, WHOLE_RATE, TRANSACTIONS, "loop-transactions exactly_once", "≥", 1.6)
        for file in ("transactions", "transactions-real")
    ),
    *(
        Goal(2, "transactions", WHOLE_CPU, f"transactions-{members} exactly_once", TRANSACTIONS, "≤", 1.1)
        for members in (2, 4)
    ),
    Goal(2, "transactions", WHOLE_RATE, "transactions-2 exactly_once", TRANSACTIONS, "≥", 1.8),
    *(Goal(3, file, RATE, OURS, "consumer at_least_once", "≥", 0.95) for file in ("peers", "peers-1", "peers-real")),
    Goal(4, "latency", "p50_ms", "consumer 50/s", "", "≤", 20),
    Goal(4, "latency", "p99_ms", "consumer 50/s", "", "≤", 60),
    Goal(4, "latency", "p50_ms", "consumer 500/s", "", "≤", 20),
    Goal(4, "latency", "p99_ms", "consumer 500/s", "", "≤", 60),
    Goal(4, "latency", "p50_ms", "consumer 2000/s", "", "≤", 20),
    Goal(5, "growth-in-flight", RATE, "64", "1", "≥", 50),
    *(
        Goal(6, f"growth-{curve}", field, label, other, sign, limit)
        for curve, label, other, linear in (
            ("size", "40 KB", "5 KB", 8),
            ("size", "1 MB", "40 KB", 25),
            ("size", "50 MB", "1 MB", 50),
            ("partitions", "16", "1", 1),
            ("partitions", "64", "1", 1),
            ("partitions", "256", "1", 1),
            ("batch", "10", "1000", 1),
            ("batch", "100", "1000", 1),
            ("batch", "10000", "1000", 1),
            ("dead-letters", "1 %", "0 %", 1),
            ("dead-letters", "10 %", "0 %", 1),
            ("pools", "2", "1", 2),
            ("pools", "4", "1", 4),
        )
        for field, sign, limit in ((WHOLE_CPU, "≤", BEND * linear), (WHOLE_RATE, "≥", 1 / BEND / linear))
    ),
    *(Goal(6, "growth-members", WHOLE_CPU, members, "1", "≤", 1.1) for members in ("2", "4", "8")),
    Goal(6, "growth-start", "first_seconds", "existing group", "", "≤", 1.5),
    Goal(6, "scale-out", "beyond_heartbeat_seconds", "consumer", "", "≤", 1),
    Goal(6, "scale-out", "beyond_heartbeat_seconds", "classic", "", "≤", 1),
    Goal(7, "peers", SIZE, OURS, "", "≤", 150),
    Goal(7, "latency", SIZE, "consumer 500/s", "", "≤", 100),
]


def shown() -> str:
    """The table, from the saved results."""
    rows = [goal.row(load(goal.file)["runs"]) for goal in GOALS]
    reached = [row[3] for row in rows if row[3].startswith("yes")]
    split = sum("rounds" in cell for cell in reached)
    head = ["goal", "aimed at", "measured (lowest-highest)", "reached", "command"]
    said = f"Of {len(rows)}, {len(reached) - split} are reached in every round, {split} more by the median"
    return f"{said}.\n\n{markdown(head, rows)}"
