"""`python -m benchmarks.publish` writes the saved results into docs/performance.md, each table between its markers."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import bench, goals, growth, latency, scale_out, scaling
from benchmarks.report import Runs, load

DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
TABLES: dict[str, Callable[[Runs], str]] = {
    **dict.fromkeys(("peers", "peers-1", "at-least-once", "transactions"), bench.shown),
    **dict.fromkeys(("peers-real", "transactions-real"), bench.shown),
    "latency": latency.shown,
    "scale-out": scale_out.shown,
    "scaling": scaling.shown,
    **{f"growth-{curve}": partial(growth.shown, curve=curve) for curve in growth.CURVES},
}


def filled(document: str, name: str, content: str) -> str:
    """The document with `content` between the markers of `name`. Raises ValueError: it has no such markers."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    new, count = re.subn(
        f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}\n{content}\n{end}", document, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"{count} places are marked {begin} ... {end}, it must be one")
    return new


def section(name: str) -> str:
    """What is known of one file of results: when and on what, the table, the plot where there is one."""
    found = load(name)
    if not found["runs"]:
        return goals.UNMEASURED.capitalize() + "."
    about = "; ".join(f"{key}: {text}" for key, text in found.items() if key != "runs")
    rounds = max(map(len, found["runs"].values()))
    parts = [f"{about}; {rounds} rounds.", TABLES[name](found["runs"])]
    if (DOCUMENT.parent / f"{name}.png").exists():
        parts.append(f"![{name}]({name}.png)")
    return "\n\n".join(parts)


def main() -> None:
    """Write the document."""
    text = filled(DOCUMENT.read_text(), "goals", goals.shown())
    for name in TABLES:
        text = filled(text, name, section(name))
    DOCUMENT.write_text(text)


if __name__ == "__main__":
    main()
