"""`make performance` draws the saved results, a PNG for each file of them, into docs/."""

from __future__ import annotations

from statistics import median

import matplotlib.pyplot

from benchmarks.bench import CPU, RATE, WHOLE_CPU, WHOLE_RATE, title
from benchmarks.publish import DOCUMENT, TABLES
from benchmarks.report import Runs, load

HEADS = "checkpoints/s", "CPU s / 10,000"
STEADY, WHOLE = [tuple(zip(fields, HEADS, strict=True)) for fields in ((RATE, CPU), (WHOLE_RATE, WHOLE_CPU))]
PANELS = {
    "latency": (("p50_ms", "p50, ms"), ("p99_ms", "p99, ms")),
    "scale-out": (("pause_seconds", "longest pause, s"), ("before_seconds", "longest before, s")),
    "scaling": (("transactions_per_second", "transactions/s"), STEADY[1]),
}
"""Where they are not rate and CPU time, of the steady stretch or from the first output on."""


def draw(name: str, runs: Runs) -> None:
    """Two panels of bars, the medians, with a line from the lowest to the highest."""
    fields = PANELS.get(name, WHOLE if name.startswith(("growth", "transactions")) else STEADY)
    labels = list(runs)[::-1]
    figure, panels = matplotlib.pyplot.subplots(1, 2, sharey=True, figsize=(10, 1 + 0.35 * len(labels)))
    for panel, (field, head) in zip(panels, fields, strict=True):
        values = [sorted(run.get(field, 0.0) for run in runs[label]) for label in labels]  # 0: an older file lacks it
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
