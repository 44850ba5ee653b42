"""How a call of user code, and how a transaction, may end."""

from __future__ import annotations

from enum import Enum


class FailureKind(Enum):
    """How an exception out of user code or the decoder is treated."""

    TRANSIENT = "transient"
    RETRIABLE = "retriable"
    PERMANENT = "permanent"


class Outcome(Enum):
    """How a transaction ended."""

    COMMITTED = "committed"
    ABORTED = "aborted"
    """Nothing of it is visible; the same producer goes on."""
    LATE = "late"
    """As ABORTED, since its records were not delivered in time."""
    REFUSED = "refused"
    """A record of it is unacceptable to the broker; a new producer is needed."""
    UNKNOWN = "unknown"
    """The producer is unusable and the outcome, if any, is not known here."""
    FENCED = "fenced"
    """As UNKNOWN, and the broker says that a newer producer has this transactional id."""
