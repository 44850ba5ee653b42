"""The settings of the contract as frozen structs: their names, types, defaults and ranges.

An attribute's name is the environment variable's name in lower case, so `settings.batch.max_messages` is
`CONSUMER_BATCH__MAX_MESSAGES`. A size is in bytes, a duration in seconds. A required setting that the caller
of `load_settings` did not ask for may be missing: it is then an empty string.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from consumer.settings.syntax import Partitioning, Start

__all__ = ["KafkaSettings", "SchemaSettings", "Settings"]

Count = Annotated[int, Meta(ge=1)]
Size = Annotated[int, Meta(ge=1, extra={"unit": "bytes"})]
Seconds = Annotated[float, Meta(ge=0)]
Duration = Annotated[float, Meta(gt=0)]
Options = dict[str, Any]


class _Group(Struct, frozen=True, kw_only=True):
    """Base of the nested settings."""


class KafkaSettings(_Group):
    """How Kafka is reached."""

    bootstrap_servers: str = ""
    options: dict[str, str] = {}
    """Further librdkafka options, as librdkafka takes them: text."""
    group_protocol: Literal["auto", "consumer", "classic"] = "auto"

    @property
    def transaction_timeout_ms(self) -> int:
        """`transaction.timeout.ms`: what the options say, else 10,000."""
        return int(self.options.get("transaction.timeout.ms", 10_000))


class BatchSettings(_Group):
    """When a transaction closes, or a reducer is asked."""

    max_messages: Count = 1000
    max_bytes: Size = 16 * 1024 * 1024
    max_seconds: Duration = 1.0
    linger_seconds: Seconds = 0.02


class MemorySettings(_Group):
    """One member's budget."""

    max_bytes: Size = 64 * 1024 * 1024


class RetrySettings(_Group):
    """Exponential backoff with full jitter."""

    max_attempts: Count = 8
    initial_seconds: Duration = 0.5
    multiplier: Annotated[float, Meta(ge=1)] = 1.5
    max_seconds: Duration = 60.0
    max_elapsed_seconds: Duration = 900.0


class DlqSettings(_Group):
    """Limits to dead letters, counted per partition."""

    max_consecutive: Count = 10
    max_ratio: Annotated[float, Meta(gt=0, le=1)] = 0.01


class SequenceSettings(_Group):
    """How sequence numbers lie in the partitions, and what an anomaly does."""

    partitioning: Partitioning = Partitioning("unknown")
    policy: Literal["ignore", "report", "skip_repeats", "stop"] = "report"


class SchemaSettings(_Group):
    """Where Avro schemas and their ids come from."""

    path: tuple[str, ...] = ("./schemas",)
    """Searched in this order, and the schemas shipped with the package after them."""
    registry_url: str | None = None
    registry_options: Options = {}
    auto_register: bool = False


class HttpSettings(_Group):
    """Health and metrics; port 0 is off."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080


class ShutdownSettings(_Group):
    """From SIGTERM to the exit."""

    timeout_seconds: Duration = 10.0


class WatchdogSettings(_Group):
    """When a call of user code, or a partition, counts as stuck."""

    call_seconds: Duration = 7200.0
    stuck_seconds: Duration = 120.0


class LogSettings(_Group):
    """Logs of every process."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class Settings(Struct, frozen=True, kw_only=True):
    """Everything a pool is told from outside. Made by `load_settings`, which checks it."""

    kafka: KafkaSettings = KafkaSettings()
    group_id: str = ""
    instance_id: str = ""
    static_membership: bool = False
    input_topic: str = ""
    output_topic: str | None = None
    dlq_topic: str = ""
    worker: str = ""
    reducer: str | None = None
    worker_options: Options = {}
    reducer_options: Options = {}
    concurrency: Count = 1
    max_in_flight: Count = 1
    delivery: Literal["exactly_once", "at_least_once"] = "exactly_once"
    start: Start = Start("fail")
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
