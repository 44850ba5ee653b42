"""The settings of the contract as frozen structs: their names, types, defaults and ranges.

An attribute's name is the environment variable's name in lower case, so `settings.batch.max_messages` is
`CONSUMER_BATCH__MAX_MESSAGES`. A size is in bytes, a duration in seconds. A required setting that the caller
of `load_settings` did not ask for may be missing: it is then an empty string. The description of a type is what an
error says that a value must be.
"""

from __future__ import annotations

import os
from operator import attrgetter
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from consumer.partitioning import Partitioning
from consumer.settings.secrets import masked
from consumer.settings.start import Start

__all__ = ["PREFIX", "KafkaSettings", "SchemaSettings", "Settings", "as_text", "expected", "leaf_types", "setting_name"]

PREFIX = "CONSUMER_"

Count = Annotated[int, Meta(ge=1, le=2**31 - 1, description="a whole number of 1 or more")]
CountOrNone = Annotated[int, Meta(ge=0, le=2**31 - 1, description="a whole number of 0 or more")]
Size = Annotated[int, Meta(ge=1, le=2**62, description="a whole number of bytes of 1 or more")]
Pause = Annotated[float, Meta(ge=0, le=10**9, description="a number of seconds, 0 or more")]
Duration = Annotated[float, Meta(gt=0, le=10**9, description="a number of seconds above 0")]
Factor = Annotated[float, Meta(ge=1, le=1000, description="a number of 1 or more")]
Ratio = Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")]
Port = Annotated[int, Meta(ge=0, le=65535, description="a port from 1 to 65535, or 0 for off")]
Name = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9._-]{1,249}$", description="at most 249 of the characters a-z A-Z 0-9 . _ -")
]
"""Kafka's rule for topics and for `group.instance.id` (Topic.validate)."""
ImportPath = Annotated[str, Meta(pattern=r"^[^\W\d][\w.]*:[^\W\d][\w.]*$", description="package.module:Name")]
Url = Annotated[str, Meta(pattern="^https?://", description="a URL that begins with http:// or https://")]
Paths = Annotated[tuple[str, ...], Meta(description=f"folders, separated by {os.pathsep}")]
Options = Annotated[dict[str, Any], Meta(description='a JSON object, such as {"name": "value"}')]
TextOptions = Annotated[dict[str, str], Meta(description='a JSON object, such as {"security.protocol": "SSL"}')]
Starts = Annotated[
    Start,
    Meta(description="fail, earliest, latest, checkpoint:N or timestamp:ISO, such as timestamp:2026-01-31T00:00:00Z"),
]
Partitions = Annotated[Partitioning, Meta(description="unknown, modulo or range:N with N of 1 or more")]


class _Group(Struct, frozen=True, kw_only=True):
    """Base of all settings; a printed one shows no secret."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({masked(msgspec.structs.asdict(self))})"


class KafkaSettings(_Group, frozen=True):
    """How Kafka is reached."""

    bootstrap_servers: str = ""
    options: TextOptions = {}
    """Further librdkafka options, as librdkafka takes them: text."""
    group_protocol: Literal["auto", "consumer", "classic"] = "auto"

    @property
    def transaction_timeout_ms(self) -> int:
        """`transaction.timeout.ms`: what the options say, else 10,000."""
        return int(self.options.get("transaction.timeout.ms", 10_000))


class BatchSettings(_Group, frozen=True):
    """When a transaction closes, or a reducer is asked."""

    max_messages: Count = 1000
    max_bytes: Size = 16 * 1024 * 1024
    max_seconds: Duration = 1.0
    linger_seconds: Pause = 0.02


class MemorySettings(_Group, frozen=True):
    """One member's budget."""

    max_bytes: Size = 64 * 1024 * 1024


class RetrySettings(_Group, frozen=True):
    """Exponential backoff with full jitter."""

    max_attempts: Count = 8
    initial_seconds: Duration = 0.5
    multiplier: Factor = 1.5
    max_seconds: Duration = 60.0
    max_elapsed_seconds: Duration = 900.0


class DlqSettings(_Group, frozen=True):
    """Limits to dead letters, counted per partition."""

    max_consecutive: CountOrNone = 10
    max_ratio: Ratio = 0.01


class SequenceSettings(_Group, frozen=True):
    """How sequence numbers lie in the partitions, and what an anomaly does."""

    partitioning: Partitions = Partitioning.parse("unknown")
    policy: Literal["ignore", "report", "skip_repeats", "stop"] = "report"


class SchemaSettings(_Group, frozen=True):
    """Where Avro schemas and their ids come from."""

    path: Paths = ("./schemas",)
    """Searched in this order, and the schemas shipped with the package after them."""
    registry_url: Url | None = None
    registry_options: Options = {}
    auto_register: bool = False


class HttpSettings(_Group, frozen=True):
    """Health and metrics; port 0 is off."""

    host: str = "127.0.0.1"
    port: Port = 8080


class ShutdownSettings(_Group, frozen=True):
    """From SIGTERM to the exit."""

    timeout_seconds: Duration = 10.0


class WatchdogSettings(_Group, frozen=True):
    """When a call of user code, or a partition, counts as stuck."""

    call_seconds: Duration = 7200.0
    stuck_seconds: Duration = 120.0


class LogSettings(_Group, frozen=True):
    """Logs of every process."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class Settings(_Group, frozen=True):
    """Everything a pool is told from outside. Made by `load_settings`, which checks it."""

    kafka: KafkaSettings = KafkaSettings()
    group_id: str = ""
    instance_id: Name = ""
    static_membership: bool = False
    input_topic: Name = ""
    output_topic: Name | None = None
    dlq_topic: Name = ""
    worker: ImportPath = ""
    reducer: ImportPath | None = None
    worker_options: Options = {}
    reducer_options: Options = {}
    concurrency: Count = 1
    max_in_flight: Count = 1
    delivery: Literal["exactly_once", "at_least_once"] = "exactly_once"
    start: Starts = Start("fail")
    batch: BatchSettings = BatchSettings()
    memory: MemorySettings = MemorySettings()
    retry: RetrySettings = RetrySettings()
    dlq: DlqSettings = DlqSettings()
    sequence: SequenceSettings = SequenceSettings()
    schema: SchemaSettings = SchemaSettings()
    http: HttpSettings = HttpSettings()
    shutdown: ShutdownSettings = ShutdownSettings()
    watchdog: WatchdogSettings = WatchdogSettings()
    log: LogSettings = LogSettings()

    def get(self, dotted: str) -> Any:
        """The value of one setting by its dotted name, such as `batch.max_messages`."""
        return attrgetter(dotted)(self)

    def masked(self) -> dict[str, Any]:
        """The value of every setting by its dotted name, secrets replaced by `***`."""
        return {name: masked(self.get(name), name) for name in leaf_types()}


def setting_name(dotted: str) -> str:
    """The environment variable of a setting: `batch.max_messages` to `CONSUMER_BATCH__MAX_MESSAGES`."""
    return PREFIX + dotted.upper().replace(".", "__")


def leaf_types() -> dict[str, Any]:
    """Dotted name to annotated type, in the contract's order."""
    leaves: dict[str, Any] = {}
    for field in msgspec.structs.fields(Settings):
        if isinstance(field.type, type) and issubclass(field.type, _Group):
            leaves.update({f"{field.name}.{inner.name}": inner.type for inner in msgspec.structs.fields(field.type)})
        else:
            leaves[field.name] = field.type
    return leaves


def expected(kind: Any) -> str:
    """What a value of this type must be, in words."""
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(get_args(kind))
    for part in (kind, *get_args(kind)):  # of `Name | None` it is Name that tells
        for meta in getattr(part, "__metadata__", ()):
            return str(meta.description)
    return "true or false" if kind is bool else "text"


def as_text(value: Any) -> str:
    """A setting's value as its environment variable holds it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    if isinstance(value, (list, tuple)):
        return os.pathsep.join(value)
    return "" if value is None else str(value)
