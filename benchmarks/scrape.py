"""What a running consumer says of itself at /metrics, and waiting for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.request import urlopen

TURN_SECONDS = 0.2


def metric(port: int, name: str) -> float:
    """The sum of the samples whose name, less the prefix, begins so; 0 while nobody answers at `port`."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return 0.0
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"checkpoint_consumer_{name}"))


def until(wanted: Callable[[], bool], seconds: float) -> bool:
    """Ask until it is true, for at most so long; returns whether it was."""
    end = time.monotonic() + seconds
    while not (found := wanted()) and time.monotonic() < end:
        time.sleep(TURN_SECONDS)
    return found
