"""From messages to output records: topic, key, partition, headers, encoded value; and dead letters."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from consumer.errors import ConfigError, SchemaViolation
from consumer.partitioning import partition_for_key
from consumer.records import Headers, OutRecord, Record
from consumer.worker import Output

SOURCE = "checkpoint-source"
PART = "checkpoint-part"
TRACE = "traceparent"
CONNECT = "__connect.errors."
REFERENCE, ATTEMPTS, GROUP = "checkpoint-dlq-reference", "checkpoint-attempts", "checkpoint-group"
OURS = (CONNECT, REFERENCE, ATTEMPTS, GROUP)
"""How the names of the headers begin that a dead letter gets; the input may come with such names, from another one."""
RECORD_OVERHEAD_BYTES = 256
"""Allowance for a record batch's own header and varints above keys, values and headers."""


@dataclass(frozen=True, slots=True)
class Target:
    """A topic to publish to, and how its values are encoded; sizes in bytes."""

    topic: str
    partitions: int
    max_bytes: int
    encode: Callable[[Any], bytes]


class Source(msgspec.Struct, frozen=True, gc=False):
    """The input that messages were made of."""

    topic: str
    partition: int
    first: int
    last: int
    key: bytes | None
    headers: Headers | None


@dataclass(frozen=True, slots=True)
class Publisher:
    """Chooses the target by message type; `default` takes what `by_type` does not name."""

    default: Target | None
    by_type: Mapping[type, Target]

    def records(self, messages: Sequence[Any], source: Source) -> list[OutRecord]:
        """The output records of one checkpoint or one batch.

        Raises:
            SchemaViolation: a message does not fit its schema, or its record does not fit its topic.
            ConfigError: there is a message but no output topic.
        """
        origin = SOURCE, f"{source.topic}/{source.partition}/{source.first}-{source.last}".encode()
        trace = [header for header in source.headers if header[0] == TRACE] if source.headers else []
        total = len(messages)
        if total == 1:
            headers = [origin, *trace] if trace else [origin]
            return [self._record(messages[0], source, headers, size_of(source.key, None, headers))]
        most = size_of(source.key, None, [origin, (PART, b"%d/%d" % (total, total)), *trace])
        return [
            self._record(message, source, [origin, (PART, b"%d/%d" % (part, total)), *trace], most)
            for part, message in enumerate(messages, 1)
        ]

    def _record(self, message: Any, source: Source, headers: Headers, overhead: int) -> OutRecord:
        """One output record; `overhead` is its size without its value, unless the message chooses otherwise."""
        key, chosen = source.key, False
        if type(message) is Output:
            if message.key is not None:
                key, chosen = _bytes(message.key, "the key"), True
            given: Mapping[Any, Any] = message.headers or {}  # by a user, who may not check types
            for name, value in given.items():
                if not isinstance(name, str) or b"\0" in _bytes(name, "the name"):
                    raise SchemaViolation(f"the name of a header of Output is no str, or has a NUL: {ascii(name)[:80]}")
                if value is not None:  # a null header
                    value = _bytes(value, f"header {ascii(name)[:80]}")  # noqa: PLW2901
                headers.append((name, value))
            message = message.message
            overhead = size_of(key, None, headers)
        target = self.by_type.get(type(message), self.default) if self.by_type else self.default
        if target is None:
            raise ConfigError(
                f"there is a {type(message).__name__} to publish but no output topic: set CONSUMER_OUTPUT_TOPIC"
            )
        value = target.encode(message)
        if chosen and key is not None:
            partition = partition_for_key(key, target.partitions)
        else:
            partition = source.partition % target.partitions
        size = overhead + len(value)
        if size > target.max_bytes:
            raise SchemaViolation(
                f"the output record of {size} bytes is larger than {target.topic} takes ({target.max_bytes}): "
                "raise the topic's max.message.bytes or publish less per message"
            )
        return OutRecord(target.topic, partition, key, value, headers, size)


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Makes dead letters: key, value and headers as they came, and what went wrong in Kafka Connect's words.

    Header names: Apache Kafka Connect, `DeadLetterQueueReporter` (KIP-298).
    """

    topic: str
    partitions: int
    max_bytes: int
    group: str
    input_topic: str

    def record(
        self, source: Record, original: Headers | None, error: BaseException | str, stage: str, attempts: int
    ) -> OutRecord:
        """The dead letter of one input record and its `original` headers.

        A value that does not fit is replaced by its size and SHA-256; with headers or a key that do not fit either,
        these are left out too, and the reference ends with `;bare`.
        """
        if isinstance(error, BaseException):
            name, text = f"{type(error).__module__}.{type(error).__qualname__}", text_of(error)
        else:
            name, text = "broker", error
        facts = {
            "topic": self.input_topic,
            "partition": str(source.partition()),
            "offset": str(source.offset()),
            "stage": stage,
            "exception.class.name": name,
            "exception.message": text[:1000],
        }
        told: Headers = [(CONNECT + fact, value.encode("utf-8", "replace")) for fact, value in facts.items()]
        told += [(ATTEMPTS, b"%d" % attempts), (GROUP, self.group.encode())]
        kept: Headers = [header for header in original or [] if not header[0].startswith(OURS)]
        partition = source.partition() % self.partitions
        key, value, headers = source.key(), source.value(), kept + told
        if size_of(key, value, headers) > self.max_bytes:
            whole = value or b""
            reference = f"size={len(whole)};sha256={hashlib.sha256(whole).hexdigest()}".encode()
            value, headers = None, [*kept, *told, (REFERENCE, reference)]
            if size_of(key, value, headers) > self.max_bytes:
                key, headers = None, [*told, (REFERENCE, reference + b";bare")]
        return OutRecord(self.topic, partition, key, value, headers, size_of(key, value, headers))


def size_of(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """Bytes that a record takes in a record batch, rounded up."""
    size = RECORD_OVERHEAD_BYTES
    if key is not None:
        size += len(key)
    if value is not None:
        size += len(value)
    for name, content in headers:
        size += 8 + (len(name) if name.isascii() else len(name.encode()))
        if content is not None:
            size += len(content)
    return size


def text_of(error: BaseException) -> str:
    """What the error says; a text that cannot be made must not stand in the way of the dead letter."""
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001 - user code
        return f"its text cannot be made: {type(broken).__name__}"


def described(error: BaseException | str) -> str:
    """The error in at most 500 characters."""
    return (error if isinstance(error, str) else f"{type(error).__name__}: {text_of(error)}")[:500]


def _bytes(value: Any, what: str) -> bytes:
    """The bytes of a key, or of a header's name or value.

    Nothing else reaches the client: it takes bytes and text alone, and raises on the poll thread, which ends the
    member; a name with a lone surrogate crashes the process (confluent-kafka 2.16.1, measured).
    """
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise SchemaViolation(f"{what} of Output is a {type(value).__name__}: give it as str or bytes")
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise SchemaViolation(f"{what} of Output has a lone surrogate, which UTF-8 has no bytes for") from None
