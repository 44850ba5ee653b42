"""The settings of the contract as frozen structs: their names, types, defaults and ranges.

An attribute's name is the environment variable's name in lower case, so `settings.batch.max_messages` is
`CONSUMER_BATCH__MAX_MESSAGES`. A size is in bytes, a duration in seconds. A required setting that the caller
of `load_settings` did not ask for may be missing: it is then an empty string.
"""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from consumer.partitioning import Partitioning
from consumer.settings.names import setting_name
from consumer.settings.secrets import masked
from consumer.settings.start import Start

__all__ = ["KafkaSettings", "Paths", "SchemaSettings", "Settings", "Size", "Text", "as_text", "leaf_types"]

Count = Annotated[int, Meta(ge=1, le=2**31 - 1, description="a whole number of 1 or more")]
Size = Annotated[int, Meta(ge=1, le=2**62, description="a size in bytes of 1 or more, such as 1048576 or 16MiB")]
Pause = Annotated[float, Meta(ge=0, le=10**9, description="a number of seconds, 0 or more")]
Duration = Annotated[float, Meta(gt=0, le=10**9, description="a number of seconds above 0")]
Factor = Annotated[float, Meta(ge=1, le=1000, description="a number of 1 or more")]
Ratio = Annotated[float, Meta(gt=0, le=1, description="a number above 0 and up to 1")]
Port = Annotated[int, Meta(ge=0, le=65535, description="a port from 1 to 65535, or 0 for off")]
Paths = Annotated[tuple[str, ...], Meta(min_length=1, description=f"one or more folders, separated by {os.pathsep}")]
Text = str | None
Options = dict[str, Any]


class _Group(Struct, frozen=True, kw_only=True):
    """Base of all settings; a printed one shows no secret."""

    def __repr__(self) -> str:
        values = {field: getattr(self, field) for field in self.__struct_fields__}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in masked(values).items())})"


class KafkaSettings(_Group, frozen=True):
    """How Kafka is reached."""

    bootstrap_servers: str = ""
    options: dict[str, str] = {}
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

    max_consecutive: Count = 10
    max_ratio: Ratio = 0.01


class SequenceSettings(_Group, frozen=True):
    """How sequence numbers lie in the partitions, and what an anomaly does."""

    partitioning: Partitioning = Partitioning.parse("unknown")
    policy: Literal["ignore", "report", "skip_repeats", "stop"] = "report"


class SchemaSettings(_Group, frozen=True):
    """Where Avro schemas and their ids come from."""

    path: Paths = ("./schemas",)
    """Searched in this order, and the schemas shipped with the package after them."""
    registry_url: Text = None
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
    instance_id: str = ""
    static_membership: bool = False
    input_topic: str = ""
    output_topic: Text = None
    dlq_topic: str = ""
    worker: str = ""
    reducer: Text = None
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

    def get(self, dotted: str) -> Any:
        """The value of one setting by its dotted name, such as `batch.max_messages`."""
        value: Any = self
        for name in dotted.split("."):
            value = getattr(value, name)
        return value

    def masked(self) -> dict[str, Any]:
        """Every setting by its dotted name, as JSON could hold it, secrets replaced by `***`."""
        values = {name: self.get(name) for name in leaf_types()}
        return {name: masked(_plain(value), name) for name, value in values.items()}

    def for_environment(self, *, masked: bool = False) -> dict[str, str]:
        """The environment that `load_settings` reads these settings back from; what is not set is left out."""
        values = self.masked() if masked else {name: self.get(name) for name in leaf_types()}
        return {setting_name(name): as_text(value) for name, value in values.items() if value not in (None, "")}


def leaf_types() -> dict[str, Any]:
    """Dotted name to annotated type, in the contract's order."""
    leaves: dict[str, Any] = {}
    for field in msgspec.structs.fields(Settings):
        if isinstance(field.type, type) and issubclass(field.type, _Group):
            leaves.update({f"{field.name}.{inner.name}": inner.type for inner in msgspec.structs.fields(field.type)})
        else:
            leaves[field.name] = field.type
    return leaves


def as_text(value: Any) -> str:
    """A setting's value as its environment variable holds it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    if isinstance(value, (list, tuple)):
        return os.pathsep.join(value)
    return str(value)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, (Start, Partitioning)) else value
