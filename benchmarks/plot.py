"""`make performance` draws the saved results, a PNG for each file of them, into docs/."""

from __future__ import annotations

from statistics import median

import matplotlib.pyplot

from benchmarks.bench import CPU, RATE, counted, heads, title
from benchmarks.publish import DOCUMENT, TABLES
from benchmarks.report import Runs, load

PANELS = {
    "latency": (("p50_ms", "p50, ms"), ("p99_ms", "p99, ms")),
    "scale-out": (("pause_seconds", "longest pause, s"), ("before_seconds", "longest before, s")),
    "scaling": (("transactions_per_second", "transactions/s"), (CPU, "CPU s / 10,000")),
}
"""Where they are not rate and CPU time."""


def draw(name: str, runs: Runs) -> None:
    """Two panels of bars, the medians, with a line from the lowest to the highest."""
    rate, cpu = counted(runs) if name.startswith(("growth", "transactions")) else (RATE, CPU)
    fields = PANELS.get(name, tuple(zip((rate, cpu), heads(rate), strict=True)))
    labels = list(runs)[::-1]
    figure, panels = matplotlib.pyplot.subplots(1, 2, sharey=True, figsize=(10, 1 + 0.35 * len(labels)))
    for panel, (field, head) in zip(panels, fields, strict=True):
        values = [sorted(run[field] for run in runs[label]) for label in labels]
        middles = [median(found) for found in values]
        below = [median(found) - found[0] for found in values]
        above = [found[-1] - median(found) for found in values]
        panel.barh([title(label) if "_once" in label else label for label in labels], middles, xerr=[below, above])
        panel.set_xlabel(head)
        if name == "latency" or name.startswith("growth-size"):
            panel.set_xscale("log")
    figure.suptitle(name)
    figure.tight_layout()
    figure.savefig(DOCUMENT.parent / f"{name}.png", dpi=110)
    matplotlib.pyplot.close(figure)


def main() -> None:
    """Draw whatever is measured."""
    for name in TABLES:
        if runs := load(name)["runs"]:
            draw(name, runs)


if __name__ == "__main__":
    main()
