"""What one setting alone cannot say: required ones, ones that contradict each other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from consumer.errors import ConfigError
from consumer.settings.model import Settings, setting_name

__all__ = ["RUN_REQUIRES", "check"]

_HOW_TO_SET: Mapping[str, str] = {
    "kafka.bootstrap_servers": "set it to the brokers, such as kafka:9092",
    "group_id": "set it to the pool's name, which is the consumer group's id",
    "input_topic": "set it to the topic that holds the checkpoints",
    "output_topic": "set it to the topic that takes the output (only a reducer that publishes nothing can do without)",
    "worker": "set it to package.module:Name, such as consumer.workers:SummaryWorker",
}
RUN_REQUIRES = frozenset(_HOW_TO_SET)

_OWNED_OPTIONS = (
    *("bootstrap.servers", "metadata.broker.list", "group.id", "group.protocol", "group.instance.id"),
    *("transactional.id", "enable.idempotence", "isolation.level", "enable.auto.", "auto.commit.", "offset.store."),
    *("auto.offset.reset", "partition.assignment.strategy", "partitioner", "allow.auto.create.topics"),
    "default.topic.config",
)
"""How the names of the librdkafka options begin that the consumer sets itself."""
_OPTIONS_THAT_RUN_CODE = ("plugin.library.paths", "sasl.kerberos.kinit.cmd", "ssl.engine.", "ssl.providers")

# What must hold, the setting that an error names, and the rest of the error.
_RULES: tuple[tuple[Callable[[Settings], bool], str, str], ...] = (
    (
        lambda s: not s.output_topic or s.output_topic != s.input_topic,
        "output_topic",
        "is the input topic: the consumer would read what it writes; give each a topic of its own",
    ),
    (
        lambda s: not s.dlq_topic or s.dlq_topic not in (s.input_topic, s.output_topic),
        "dlq_topic",
        "is the input or the output topic: dead letters would mix with it; give them a topic of their own",
    ),
    (
        lambda s: s.batch.max_bytes <= s.memory.max_bytes // 2,
        "batch.max_bytes",
        "is more than half of CONSUMER_MEMORY__MAX_BYTES, so no batch could ever reach it: lower it or raise that",
    ),
    (
        lambda s: s.start.kind != "checkpoint" or s.sequence.partitioning.known,
        "start",
        "needs to know which partition holds a number: set CONSUMER_SEQUENCE__PARTITIONING to modulo or range:N",
    ),
    (
        lambda s: s.schema.registry_url is not None or not s.schema.auto_register,
        "schema.auto_register",
        "needs a registry: set CONSUMER_SCHEMA__REGISTRY_URL, or turn it off",
    ),
    (
        lambda s: s.kafka.options.get("transaction.timeout.ms", "1").isdecimal(),
        "kafka.options",
        "must hold a whole number of milliseconds as transaction.timeout.ms",
    ),
)


def check(settings: Settings, required: Collection[str]) -> None:
    """Pass if the settings can work together.

    Raises:
        ConfigError: the first fault, in one line that names the setting and says what to do.
    """
    for name, fault in _faults(settings, required):
        raise ConfigError(f"{setting_name(name)} {fault}")


def _faults(settings: Settings, required: Collection[str]) -> Iterator[tuple[str, str]]:
    for name in sorted(required):
        # With a reducer the output topic may be left out: its commit may never return anything to publish.
        if settings.get(name) in (None, "") and not (name == "output_topic" and settings.reducer):
            yield name, f"is required: {_HOW_TO_SET.get(name, 'set it')}"
    for option in settings.kafka.options:
        if option.startswith(_OWNED_OPTIONS):
            yield "kafka.options", f"may not hold {option}: the consumer sets it from its other settings; leave it out"
        if option.startswith(_OPTIONS_THAT_RUN_CODE):
            yield "kafka.options", f"may not hold {option}: it makes the client run code from outside; leave it out"
    for holds, name, fault in _RULES:
        if not holds(settings):
            yield name, fault
