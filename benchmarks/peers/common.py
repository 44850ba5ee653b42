"""What the Python peers share: the arguments, the work, and the same client options wherever a peer takes them."""

from __future__ import annotations

import sys
from typing import NamedTuple

from benchmarks.jobs import SUMMARIES, summary

__all__ = ["CONSUMER", "PRODUCER", "Arguments", "arguments", "summarise"]

CONSUMER = {"fetch.queue.backoff.ms": 10}  # its default of a second stops the fetching of large records again and again
PRODUCER = {"acks": "all", "enable.idempotence": True, "linger.ms": 5, "compression.type": "none"}


class Arguments(NamedTuple):
    """What every program is told."""

    bootstrap: str
    input: str
    output: str
    group: str
    delivery: str


def arguments(*deliveries: str) -> Arguments:
    """From the command line; SystemExit where the guarantee is none that the system gives."""
    found = Arguments(*sys.argv[1:6])
    if found.delivery not in deliveries:
        raise SystemExit(f"{sys.argv[0]}: {' or '.join(deliveries)}, not {found.delivery}")
    return found


def summarise(value: bytes) -> bytes:
    """The output record of one checkpoint."""
    return SUMMARIES.framed(summary(value))
