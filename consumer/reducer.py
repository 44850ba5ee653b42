"""`Reducer`: takes the messages of one partition together; `Batch`: the messages it is given."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, overload

from consumer.worker import Context

__all__ = ["Batch", "Reducer"]

Message = TypeVar("Message")
Result = TypeVar("Result")


class Batch(Sequence[Message]):
    """The messages of one partition in input order, with the input they were made of. Immutable to user code.

    `first_offset` and `last_offset` also cover checkpoints that gave no message; `offsets` has one entry per message.
    """

    __slots__ = (
        "_messages",
        "first_offset",
        "first_sequence_number",
        "last_offset",
        "last_sequence_number",
        "offsets",
        "partition",
        "topic",
    )

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.first_offset = -1
        self.last_offset = -1
        self.first_sequence_number: int | None = None
        self.last_sequence_number: int | None = None
        self.offsets: list[int] = []
        self._messages: list[Message] = []

    @property
    def id(self) -> str:
        """`topic/partition/first-last`: names this batch's input; a replay may draw other borders."""
        return f"{self.topic}/{self.partition}/{self.first_offset}-{self.last_offset}"

    def after(self, offset: int) -> Batch[Message]:
        """The same batch without what came from input offsets up to and including `offset`."""
        rest: Batch[Message] = Batch(self.topic, self.partition)
        rest.first_offset = max(self.first_offset, offset + 1)
        rest.last_offset = self.last_offset
        rest.first_sequence_number = self.first_sequence_number if offset < self.first_offset else None
        rest.last_sequence_number = self.last_sequence_number
        for message, at in zip(self._messages, self.offsets, strict=True):
            if at > offset:
                rest._messages.append(message)
                rest.offsets.append(at)
        return rest

    def _add(self, offset: int, sequence_number: int | None, messages: Sequence[Message]) -> None:
        """Take in one checkpoint's messages, none of them included."""
        if self.first_offset < 0:
            self.first_offset = offset
        if self.first_sequence_number is None:
            self.first_sequence_number = sequence_number
        self.last_offset = offset
        if sequence_number is not None:
            self.last_sequence_number = sequence_number
        self._messages.extend(messages)
        self.offsets.extend([offset] * len(messages))

    def __len__(self) -> int:
        return len(self._messages)

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> list[Message]: ...
    def __getitem__(self, index: int | slice) -> Message | list[Message]:
        return self._messages[index]

    def __repr__(self) -> str:
        return f"<Batch {self.id}: {len(self)} messages>"


class Reducer(Generic[Message, Result]):
    """Decides where a batch of one partition ends and what it becomes.

    One instance per member. The batches of different partitions are independent of each other.
    """

    schema: ClassVar[str | Path | Mapping[str, Any] | None] = None
    """The Avro schema of `Result`; None: derived from the Result type, else the worker's."""

    def open(self, context: Context) -> Awaitable[None] | None:
        """Called once before all work."""
        return None

    def close(self) -> Awaitable[None] | None:
        """Called once after all work, within the shutdown timeout."""
        return None

    def should_close_batch(self, batch: Batch[Message], next_message: Message | None) -> bool:
        """Whether `batch` ends before `next_message`; never asked about an empty batch.

        Asked once per checkpoint with its first message, before that is added; with None when nothing more of the
        partition is ready and the linger has passed, at a limit of `CONSUMER_BATCH__*`, and once more at a revoke
        and at shutdown, where a False drops the batch and leaves its offsets uncommitted.
        """
        return next_message is None

    def commit(self, batch: Batch[Message]) -> Any:
        """What to publish for `batch`: a list of results, or None or `[]` for nothing. May be `async def`.

        A plain `def` runs on a thread of its own; while it runs only this partition waits. A permanent failure
        stops the member with exit code 3; nothing is dead-lettered.
        """
        return list(batch)

    def start_offset(self, topic: str, partition: int) -> int | None:
        """Where the partition starts, for a sink that keeps its own progress; None: the committed offset."""
        return None
