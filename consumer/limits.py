"""Where a bounded run ends: `MaxCheckpoint`, `EndOfEpoch`, `CaughtUp`, or a predicate on checkpoints. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from consumer.checkpoint import epoch_of, sequence_number_of
from consumer.partitioning import Partitioning

__all__ = ["CaughtUp", "EndOfEpoch", "Limit", "Limits", "MaxCheckpoint", "Until"]


@dataclass(frozen=True, slots=True)
class MaxCheckpoint:
    """Ends after checkpoint `number`, which is still processed."""

    number: int


@dataclass(frozen=True, slots=True)
class EndOfEpoch:
    """Ends after the last checkpoint of `epoch`, which is still processed."""

    epoch: int


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """Ends at the offsets where the partitions ended when the run started."""


Until = MaxCheckpoint | EndOfEpoch | CaughtUp | Callable[[Any], bool]
"""A predicate is asked about every checkpoint; where it says True the partition ends before that checkpoint."""

Limit = Until | None


@dataclass(slots=True)
class Limits:
    """One run's limit, with what is needed to recognise it partition by partition."""

    until: Limit = None
    partitioning: Partitioning = field(default_factory=lambda: Partitioning.parse("unknown"))
    partitions: int = 0
    ends: Mapping[int, int] = field(default_factory=dict)
    """End offsets at start, of `CaughtUp`."""

    @property
    def bounded(self) -> bool:
        """Whether the run ends by itself."""
        return self.until is not None

    def last_number(self, partition: int) -> int | None:
        """The last sequence number of this partition within the limit, where the partitioning tells; -1: none."""
        if not isinstance(self.until, MaxCheckpoint) or not self.partitioning.known:
            return None
        last = self.partitioning.last_number_at_or_below(self.until.number, partition, self.partitions)
        return -1 if last is None else last

    def past(self, checkpoint: Any) -> bool:
        """Whether this checkpoint lies beyond the limit: it is neither processed nor committed."""
        match self.until:
            case None | CaughtUp():
                return False
            case MaxCheckpoint(number):
                found = sequence_number_of(checkpoint)
                return found is not None and found > number
            case EndOfEpoch(epoch):
                found = epoch_of(checkpoint)
                return found is not None and found > epoch
            case predicate:
                return bool(predicate(checkpoint))

    def ended(self, partition: int, sequence_number: int | None) -> bool:
        """Whether a partition committed up to `sequence_number` has nothing left within the limit."""
        last = self.last_number(partition)
        return last is not None and (last < 0 or (sequence_number is not None and sequence_number >= last))

    def reached(self, sequence_number: int | None, ended_epoch: int | None) -> bool:
        """Whether a commit with these highest marks shows that the run's last checkpoint is committed."""
        match self.until:
            case MaxCheckpoint(number):
                return sequence_number is not None and sequence_number >= number
            case EndOfEpoch(epoch):
                return ended_epoch is not None and ended_epoch >= epoch
            case _:
                return False
