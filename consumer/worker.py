"""`Worker`: what a user writes for every checkpoint; `Output`: a message with a key and headers of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from consumer.checkpoint import Checkpoint

__all__ = ["Context", "Output", "Worker"]

Message = TypeVar("Message")


@dataclass(frozen=True, slots=True)
class Context:
    """What `open` is told about the member it runs in."""

    group: str
    member: int
    input_topic: str


@dataclass(frozen=True, slots=True)
class Output(Generic[Message]):
    """Returned in place of a message to choose the record's key and headers.

    A record with a key of its own is partitioned by that key with murmur2, as the Java client does.
    """

    message: Message
    key: bytes | str | None = None
    headers: Mapping[str, bytes | str] | None = None


class Worker(Generic[Message]):
    """Turns one checkpoint into no, one or several messages.

    One instance per member, made in the member's process. Every method runs on the member's work thread, or on
    one of `CONSUMER_MAX_IN_FLIGHT` threads where that is above 1 and the method is a plain `def`. A method may
    run more than once for the same checkpoint; only what goes to Kafka is exactly-once.
    """

    checkpoint_type: ClassVar[type] = Checkpoint
    """What the input is decoded to: a smaller type costs only what it names."""

    schema: ClassVar[str | Path | Mapping[str, Any] | None] = None
    """The Avro schema of `Message`: a path, a dict, or None to derive it from the Message type."""

    outputs: ClassVar[Mapping[type, tuple[str, Any]] | None] = None
    """Message type to (topic, schema), for several outputs of one decode."""

    def open(self, context: Context) -> Awaitable[None] | None:
        """Called once before all work: the place for pools and clients."""
        return None

    def close(self) -> Awaitable[None] | None:
        """Called once after all work, within the shutdown timeout."""
        return None

    def preprocess_hook(self, checkpoint: Any) -> Awaitable[None] | None:
        """Called in input order within the partition, before the checkpoint is dispatched, again on a retry."""
        return None

    def process_checkpoint(self, checkpoint: Any) -> Any:
        """Return a message, a list of messages, or None (or `[]`) for nothing to publish.

        Raises:
            TransientError: try again until `CONSUMER_RETRY__MAX_ELAPSED_SECONDS`.
            PermanentError: dead-letter this checkpoint at once.
        """
        raise NotImplementedError
