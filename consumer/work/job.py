"""What the work thread works with: the user's objects and everything they need, resolved before the first record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from consumer.checkpoint import Position
from consumer.core.audit import SequencePolicy
from consumer.core.history import DeadLetterLimits
from consumer.limits import Limits
from consumer.reducer import Reducer
from consumer.work.publish import DeadLetters, Publisher
from consumer.worker import Context, Worker


@dataclass(frozen=True, slots=True)
class Job:
    """One pool's work in one member; sizes in bytes.

    `make_worker` and `make_reducer` are called on the work thread, where `open` and `close` run as well.
    """

    make_worker: Callable[[], Worker[Any]]
    make_reducer: Callable[[], Reducer[Any, Any]] | None
    decoder: Callable[[Any], Callable[[bytes | None, Position], Any]]
    """From the worker (for its `checkpoint_type`) to the function that decodes an input value."""
    publisher: Publisher
    dead_letters: DeadLetters
    limits: Limits
    sequence: SequencePolicy
    dead_letter_limits: DeadLetterLimits
    context: Context
    max_in_flight: int
    max_messages: int
    max_bytes: int
