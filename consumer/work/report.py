"""What the work thread tells the poll thread besides the machine's events: life cycle and measurements."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from consumer.work.lane import Slot


@dataclass(slots=True)
class Tally:
    """Counts and seconds since they were last collected. Written by the work thread, swapped by it as well."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    outcomes: Counter[str] = field(default_factory=Counter)
    dead_letters: Counter[str] = field(default_factory=Counter)
    anomalies: Counter[str] = field(default_factory=Counter)
    durations: list[float] = field(default_factory=list)

    def spend(self, activity: str, since: float) -> float:
        """Count the time from `since` (perf_counter) until now, and return now."""
        now = time.perf_counter()
        self.seconds[activity] += now - since
        return now

    def took(self, since: float) -> None:
        """One call of the worker that ran beside others: a duration, but not this thread's time."""
        self.durations.append(time.perf_counter() - since)

    def processed(self, slot: Slot) -> None:
        """One checkpoint is finished."""
        if slot.dead:
            self.outcomes["dead_letter"] += 1
            self.dead_letters["refused" if isinstance(slot.error, str) else type(slot.error).__name__] += 1
        elif slot.skipped:
            self.outcomes["skipped"] += 1
        else:
            self.outcomes["published" if slot.outs or slot.messages else "empty"] += 1


@dataclass(frozen=True, slots=True)
class Opened:
    """The worker and the reducer are made and open."""


@dataclass(frozen=True, slots=True)
class Woken:
    """Not of the work thread: a call of the sink has come back."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was counted since the last one."""

    tally: Tally


@dataclass(frozen=True, slots=True)
class Closed:
    """The work thread has ended."""

    tally: Tally


@dataclass(frozen=True, slots=True)
class Broken:
    """The work thread cannot go on."""

    error: BaseException
