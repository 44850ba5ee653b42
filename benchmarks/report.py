"""What `make bench` says: a line per run, the table, and the file of all results."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.measure import Result

__all__ = ["Runs", "Variant", "line", "save", "table"]

RESULTS = Path(__file__).parent / "results" / "latest.json"


class Variant(NamedTuple):
    """One program with one guarantee."""

    delivery: str
    members: int
    """0: the hand-written loop."""

    @property
    def name(self) -> str:
        """For people."""
        return {0: "hand-written loop", 1: "consumer, 1 member"}.get(self.members, f"consumer, {self.members} members")


Runs = Mapping[Variant, list[Result]]


def line(variant: Variant, result: Result) -> str:
    """One run."""
    text = f"{variant.delivery:14}{variant.name:20}{result.records_per_second:8,.0f}/s"
    text += f"{result.cpu_seconds_per_10000:7.2f} CPU s/10,000{result.wall_seconds:6.1f} s in all"
    return f"{text}, {result.duplicates:,} duplicates" if result.duplicates else text


def table(runs: Runs) -> str:
    """Medians, next to those of the loop with the same guarantee."""
    rounds = max(len(results) for results in runs.values())
    what = f"medians of {rounds} rounds (lowest-highest); x: times the loop with the same guarantee; "
    what += "first s, all s: from the start to the first and to the last output"
    head = f"{'records/s':>26}{'x':>7}{'CPU s/10,000':>15}{'x':>7}{'peak MB':>9}{'first s':>9}{'all s':>7}"
    lines = [what, f"{'':34}{head}"]
    for variant, results in runs.items():
        base = runs[Variant(variant.delivery, 0)]
        rates = [result.records_per_second for result in results]
        rate, cpu = _median(results, "records_per_second"), _median(results, "cpu_seconds_per_10000")
        columns = [
            f"{f'{rate:,.0f} ({min(rates):,.0f}-{max(rates):,.0f})':>26}",
            f"{rate / _median(base, 'records_per_second'):7.2f}",
            f"{cpu:15.2f}",
            f"{cpu / _median(base, 'cpu_seconds_per_10000'):7.2f}",
            f"{_median(results, 'peak_bytes') / 1e6:9.0f}",
            f"{_median(results, 'first_seconds'):9.1f}",
            f"{_median(results, 'wall_seconds'):7.1f}",
        ]
        lines.append(f"{variant.delivery:14}{variant.name:20}{''.join(columns)}")
    return "\n".join(lines)


def save(setting: str, runs: Runs) -> None:
    """Every run, as JSON; `setting` says on what."""
    RESULTS.parent.mkdir(exist_ok=True)
    variants = [
        {**variant._asdict(), "runs": [result._asdict() for result in results]} for variant, results in runs.items()
    ]
    about = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "setting": setting}
    RESULTS.write_text(json.dumps({**about, "variants": variants}, indent=1) + "\n")


def _median(results: list[Result], field: str) -> float:
    value: float = median(getattr(result, field) for result in results)
    return value
