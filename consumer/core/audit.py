"""The sequence audit: gaps, repeats and regressions of the checkpoint numbers of one partition."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from consumer.core.history import SEEN_NUMBERS, History, mark
from consumer.partitioning import Partitioning

__all__ = ["Anomaly", "Audit", "SequencePolicy"]


class Anomaly(NamedTuple):
    """A number that did not come where it belongs; `expected` is None where the partitioning does not tell."""

    kind: Literal["gap", "repeat", "regression"]
    number: int
    highest: int
    expected: int | None


@dataclass(frozen=True, slots=True)
class SequencePolicy:
    """`CONSUMER_SEQUENCE__POLICY` and `PARTITIONING`, for an input topic of so many partitions."""

    policy: Literal["ignore", "report", "skip_repeats", "stop"] = "report"
    partitioning: Partitioning = field(default_factory=lambda: Partitioning.parse("unknown"))
    partitions: int = 1

    @property
    def skips(self) -> bool:
        """Whether repeats are skipped, so that the numbers seen must survive a restart."""
        return self.policy == "skip_repeats"

    def audit(self, partition: int, history: History) -> Audit | None:
        """The audit of what comes after `history`; None: there is none."""
        if self.policy == "ignore":
            return None
        return Audit(self.partitioning, partition, self.partitions, history.sequence_number, history.seen or 1)


@dataclass(slots=True)
class Audit:
    """Asked once about every number of a partition, in input order; the first one of all is taken as it is."""

    partitioning: Partitioning
    partition: int
    partitions: int
    highest: int | None
    seen: int
    """Bit i: the number `highest` - i came."""

    def see(self, number: int) -> Anomaly | None:
        """Take in the next number, and say what is wrong with it.

        A repeat is known as seen: among the last SEEN_NUMBERS below the highest. What is lower than the highest and
        not known as seen is a regression; a gap, that another number than the partition's next one is the new highest.
        """
        highest = self.highest
        if highest is None:
            self.highest = number
            return None
        distance = number - highest
        known = -SEEN_NUMBERS < distance <= 0 and self.seen >> -distance & 1
        self.seen = mark(self.seen, distance)
        expected = None
        if self.partitioning.known:
            expected = self.partitioning.next_number(highest, self.partition, self.partitions)
        if distance <= 0:
            return Anomaly("repeat" if known else "regression", number, highest, expected)
        self.highest = number
        return None if expected in (None, number) else Anomaly("gap", number, highest, expected)
