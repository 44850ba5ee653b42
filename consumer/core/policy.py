"""What a member's decisions depend on: the settings that the state machine reads."""

from __future__ import annotations

from dataclasses import dataclass, field

from consumer.core.flush import FlushPolicy
from consumer.core.retry import Backoff
from consumer.limits import Limits


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything the machine's decisions depend on; sizes in bytes, times in seconds."""

    topic: str = "input"
    topic_id: str = ""
    """Empty where the brokers do not tell."""
    flush: FlushPolicy = field(default_factory=FlushPolicy)
    memory_bytes: int = 32 * 1024 * 1024
    """Half of CONSUMER_MEMORY__MAX_BYTES: the other half is for what the client has fetched and is sending."""
    retry: Backoff = field(default_factory=lambda: Backoff(0.5, 1.5, 60.0))
    retry_attempts: int = 8
    retry_elapsed_seconds: float = 900.0
    reduces: bool = False
    """There is a reducer: batches are open until it closes them."""
    positions: bool = False
    """The reducer has a `start_offset` of its own."""
    stop_seconds: float = 7.0
    """For finishing and publishing when a policy ends the member."""
    stuck_seconds: float = 120.0
    limits: Limits = field(default_factory=Limits)
