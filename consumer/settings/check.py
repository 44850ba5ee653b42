"""What one setting alone cannot say: required ones, ones that contradict each other, ones not built yet."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from itertools import chain
from typing import Any

from consumer.errors import ConfigError
from consumer.settings.model import SchemaSettings, Settings, as_text
from consumer.settings.names import setting_name as name

__all__ = ["RUN_REQUIRES", "check"]

RUN_REQUIRES = frozenset({"kafka.bootstrap_servers", "group_id", "input_topic", "output_topic", "worker"})

# A setting whose feature is not built yet, and the values other than its default that turn the feature off.
_NOT_BUILT: Mapping[str, tuple[Any, ...]] = {
    "sequence.policy": ("ignore",),
    "dlq.max_consecutive": (),
    "dlq.max_ratio": (),
    "watchdog.call_seconds": (),
    "watchdog.stuck_seconds": (),
}

_HOW_TO_SET: Mapping[str, str] = {
    "kafka.bootstrap_servers": "set it to the brokers, such as kafka:9092",
    "group_id": "set it to the pool's name, which is the consumer group's id",
    "input_topic": "set it to the topic that holds the checkpoints",
    "output_topic": "set it to the topic that takes the output (only a reducer that publishes nothing can do without)",
    "worker": "set it to package.module:Name, such as consumer.workers:SummaryWorker",
}

_LEGAL = "set it to at most 249 of the characters a-z A-Z 0-9 . _ -"
_LEGAL_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
"""Kafka's rule for topics and for group.instance.id; `.` and `..` are refused too (Topic.validate)."""
_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def check(settings: Settings, required: Collection[str]) -> None:
    """Pass if the settings can work together.

    Raises:
        ConfigError: the first fault, in one line that names the setting and says what to do.
    """
    faults = chain(
        _missing(settings, required),
        _illegal_names(settings),
        _shared_topics(settings),
        _limits(settings),
        _start(settings),
        _schema(settings.schema),
        _not_built(settings),
    )
    for fault in faults:
        raise ConfigError(fault)


def _missing(settings: Settings, required: Collection[str]) -> Iterator[str]:
    for dotted in sorted(required):
        # With a reducer the output topic may be left out: its commit may never return anything to publish.
        if settings.get(dotted) in (None, "") and not (dotted == "output_topic" and settings.reducer):
            yield f"{name(dotted)} is required: {_HOW_TO_SET.get(dotted, 'set it')}"


def _illegal_names(settings: Settings) -> Iterator[str]:
    for dotted in ("input_topic", "output_topic", "dlq_topic"):
        value = settings.get(dotted)
        if value and not _is_legal(value):
            origin = " (by default the group's id and .dlq)" if value == f"{settings.group_id}.dlq" else ""
            yield f"{name(dotted)} is {value!r}{origin}, which is no legal topic name: {_LEGAL}"
    if settings.static_membership and not _is_legal(settings.instance_id):
        yield (
            f"{name('instance_id')} is {settings.instance_id!r}, which {name('static_membership')} cannot use as "
            f"group.instance.id: {_LEGAL}"
        )
    for dotted in ("worker", "reducer"):
        value = settings.get(dotted)
        if value and not _IMPORT_PATH.fullmatch(value):
            yield f"{name(dotted)} is {value!r}: write it as package.module:Name"


def _is_legal(value: str) -> bool:
    return _LEGAL_NAME.fullmatch(value) is not None and value not in (".", "..")


def _shared_topics(settings: Settings) -> Iterator[str]:
    for one, other, consequence in (
        ("output_topic", "input_topic", "the consumer would read what it writes"),
        ("dlq_topic", "input_topic", "dead letters would be read as input"),
        ("dlq_topic", "output_topic", "dead letters would mix with the output"),
    ):
        topic = settings.get(one)
        if topic and topic == settings.get(other):
            yield f"{name(one)} and {name(other)} are both {topic!r}, so {consequence}: give each a topic of its own"


def _limits(settings: Settings) -> Iterator[str]:
    for lesser, greater, consequence in (
        ("batch.linger_seconds", "batch.max_seconds", "which could then never be kept"),
        ("batch.max_bytes", "memory.max_bytes", "so no batch could ever reach it"),
        ("retry.initial_seconds", "retry.max_seconds", "the longest wait"),
    ):
        small, large = settings.get(lesser), settings.get(greater)
        if small > large:
            yield f"{name(lesser)} {small} is more than {name(greater)} {large}, {consequence}: lower it or raise that"


def _start(settings: Settings) -> Iterator[str]:
    if settings.start.kind == "checkpoint" and not settings.sequence.partitioning.known:
        yield (
            f"{name('start')}={settings.start} needs to know which partition holds a number: set "
            f"{name('sequence.partitioning')} to modulo or range:N"
        )


def _schema(schema: SchemaSettings) -> Iterator[str]:
    url = name("schema.registry_url")
    if schema.registry_url is not None:
        if not schema.registry_url.startswith(("http://", "https://")):
            yield f"{url} must begin with http:// or https://"
        return
    if schema.auto_register:
        yield f"{name('schema.auto_register')} needs a registry: set {url}, or turn it off"
    if schema.registry_options:
        yield f"{name('schema.registry_options')} needs a registry: set {url}, or remove it"


def _not_built(settings: Settings) -> Iterator[str]:
    defaults = Settings()
    for dotted, turned_off in _NOT_BUILT.items():
        value, allowed = settings.get(dotted), (defaults.get(dotted), *turned_off)
        if value not in allowed:
            choices = " or ".join(as_text(choice) for choice in allowed)
            yield f"{name(dotted)}={as_text(value)} is not supported by this version yet: leave it at {choices}"
