"""What the benchmarks say: tables, and the files of all results."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

__all__ = [
    "DIRTY",
    "Column",
    "Runs",
    "fraction",
    "fractions",
    "load",
    "markdown",
    "middle",
    "plain",
    "ranged",
    "save",
    "spread",
    "table",
]

RESULTS = Path(__file__).parent / "results"

DIRTY = "-dirty"
"""Behind a commit: there were changes that are not in it."""

Runs = Mapping[str, Sequence[Mapping[str, Any]]]
"""By label, the fields of every run, in the order of the rounds."""
Column = tuple[str, Callable[[Runs, str], str]]
"""The head, and the cell of a label."""


def middle(runs: Runs, label: str, field: str) -> float:
    """The median over the rounds. Raises KeyError where nothing of this label is measured."""
    return float(median(run[field] for run in runs[label]))


def fraction(runs: Runs, label: str, other: str, field: str) -> float:
    """The median of the rounds' ratios. Raises KeyError where one is not measured."""
    return median(fractions(runs, label, other, field))


def fractions(runs: Runs, label: str, other: str, field: str) -> list[float]:
    """`label` / `other` in every round: what differs between rounds is in both."""
    return [float(a[field] / b[field]) for a, b in zip(runs[label], runs[other], strict=True)]


def spread(head: str, field: str, digits: int = 0, unit: float = 1) -> Column:
    """Median, and the lowest and highest."""
    return head, lambda runs, label: ranged([run[field] / unit for run in runs[label]], digits)


def ranged(values: Sequence[float], digits: int) -> str:
    """Median, and the lowest and highest."""
    to = " to " if min(values) < 0 else "-"
    return f"{median(values):,.{digits}f} ({min(values):,.{digits}f}{to}{max(values):,.{digits}f})"


def plain(head: str, field: str, digits: int = 0, unit: float = 1) -> Column:
    """The median."""
    return head, lambda runs, label: f"{middle(runs, label, field) / unit:,.{digits}f}"


def table(runs: Runs, first: str, columns: Iterable[Column], names: Callable[[str], str] = str) -> str:
    """A row for each label, in Markdown."""
    columns = list(columns)
    rows = [[names(label), *(cell(runs, label) for _, cell in columns)] for label in runs]
    return markdown([first, *(head for head, _ in columns)], rows)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that reads well on a terminal, too: the first column to the left, the others to the right."""
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cells[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)),
        ]
        return f"| {' | '.join(padded)} |"

    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(head), line(rule), *map(line, rows)])


def save(name: str, about: Mapping[str, str], runs: Runs, *, trial: bool = False) -> Path:
    """Every run, as JSON; `about` says on what. Neither a `trial` nor uncommitted changes make the document's file."""
    RESULTS.mkdir(exist_ok=True)
    trial = trial or about.get("commit", "").endswith(DIRTY)
    path = RESULTS / f"{name}{'-some' * trial}.json"
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    path.write_text(json.dumps({"time": when, **about, "runs": runs}, indent=1) + "\n")
    return path


def load(name: str) -> dict[str, Any]:
    """What `save` wrote; `{"runs": {}}` where nothing is measured yet."""
    path = RESULTS / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"runs": {}}
    return found
