"""When failed work is tried again: exponential backoff with full jitter, and the count of its tries."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays in seconds: uniform in [0, min(maximum, initial × multiplier^attempt)] ("full jitter", AWS 2015)."""

    initial_seconds: float
    multiplier: float
    max_seconds: float

    def delay(self, attempt: int, random: Random) -> float:
        """Seconds to wait after failed attempt number `attempt`, counted from 1."""
        exponent = min(attempt - 1, 1000)
        try:
            ceiling = min(self.max_seconds, self.initial_seconds * self.multiplier**exponent)
        except OverflowError:
            ceiling = self.max_seconds
        return random.uniform(0.0, ceiling)


@dataclass(slots=True)
class Attempts:
    """How often one checkpoint, or one batch's commit, failed, and since when (monotonic seconds)."""

    since: float
    count: int = 0
    counted: int = 0
    """Those that count towards `CONSUMER_RETRY__MAX_ATTEMPTS`: all but the transient ones."""
