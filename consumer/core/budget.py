"""The member's memory budget: when to stop taking input in, and when to go on."""

from __future__ import annotations

from dataclasses import dataclass

HOLD_SECONDS = 1.0
"""How long a full budget is met by not polling, which keeps the prefetch, before partitions are paused."""


@dataclass(slots=True)
class Budget:
    """Full from `max_bytes` on, until half of it is free again (hysteresis).

    What is held may pass the limit by one poll; a record larger than the budget is admitted when nothing else is held.
    """

    max_bytes: int
    full: bool = False
    since: float = 0.0

    def update(self, held_bytes: int, now: float) -> bool:
        """Take in what is held now; returns whether the partitions should be paused."""
        if not self.full and held_bytes >= self.max_bytes:
            self.full, self.since = True, now
        elif self.full and held_bytes <= self.max_bytes // 2:
            self.full = False
        return self.full and now >= self.since + HOLD_SECONDS
