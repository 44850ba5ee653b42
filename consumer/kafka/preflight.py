"""What a member finds out before it joins the group: brokers, topics, their limits, and where the group starts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import ClusterMetadata, ConfigResource, OffsetSpec, ResourceType

from consumer.errors import ConfigError
from consumer.kafka.admin import describe, make_admin, topic_id
from consumer.kafka.conf import consumer_conf, make_client
from consumer.log import get_logger
from consumer.partitioning import Partitioning
from consumer.patience import Patience
from consumer.settings import Settings

MISSING_SECONDS = 5.0
ALONE_SECONDS = 60.0
REQUEST_SECONDS = 10.0
COORDINATOR_SECONDS = 1.0
DEFAULT_MAX_BYTES = 1_048_588
"""Kafka's default `max.message.bytes`, assumed where the topic's cannot be read."""
_NO_COORDINATOR = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)
_NOT_ALLOWED = (KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.TOPIC_AUTHORIZATION_FAILED)
_PASSING = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._RESOLVE,
        KafkaError._WAIT_COORD,
        KafkaError._NOENT,  # no leader among what the client knows
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.FENCED_LEADER_EPOCH,
    }
)
"""Admin requests carry no flag that says so."""

Answer = TypeVar("Answer")
log = get_logger("consumer.preflight")


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic that exists; sizes in bytes."""

    name: str
    partitions: int
    max_bytes: int
    topic_id: str = ""
    """Empty where the brokers do not tell."""


class Preflight:
    """Asks the brokers before the group is joined.

    Raises, from every method:
        ConfigError: no answer for 30 s, unless `patience` is endless, or the answer is that something is not allowed.
        StopIteration: told to stop.
    """

    def __init__(self, settings: Settings, patience: Patience) -> None:
        self._settings = settings
        self._patience = patience
        self._brokers = f"the brokers at {settings.kafka.bootstrap_servers} (CONSUMER_KAFKA__BOOTSTRAP_SERVERS)"
        self.admin = make_admin(settings, logging.getLogger("librdkafka"))

    def topics(self, names: Iterable[str]) -> dict[str, Topic]:
        """Partitions, size limits and ids of these topics.

        Raises:
            ConfigError: a topic was missing for 5 s, or this principal may not know of it.
        """
        wanted = sorted(set(names))
        found = self._partitions(wanted)
        limits, ids = self._limits(wanted), self._ids(wanted)
        return {
            name: Topic(name, found[name], limits.get(name, DEFAULT_MAX_BYTES), ids.get(name, "")) for name in wanted
        }

    def _partitions(self, wanted: Sequence[str]) -> dict[str, int]:
        missing_since: float | None = None
        while True:
            metadata = self._ask(lambda: self._with_leaders(wanted))
            missing = [name for name in wanted if name not in metadata.topics or metadata.topics[name].error]
            if not missing:
                return {name: len(metadata.topics[name].partitions) for name in wanted}
            # To whom lists all topics, one without a right to it is not there: only who asks for it by name is told.
            if denied := [name for name in missing if self._ask(partial(self._denied, name))]:
                raise ConfigError("; ".join(map(self._not_allowed, denied)))
            missing_since = missing_since or time.monotonic()
            if time.monotonic() - missing_since >= MISSING_SECONDS:
                raise ConfigError(self._missing(missing))
            self._patience.pause(0.2)

    def _with_leaders(self, wanted: Sequence[str]) -> ClusterMetadata:
        """The brokers' topics, once those wanted that exist have leaders.

        A client that asks for offsets before goes on saying that there are none, for 30 s and more (measured).
        """
        metadata = self.admin.list_topics(timeout=1.0)
        for name in wanted:
            for number, partition in metadata.topics[name].partitions.items() if name in metadata.topics else ():
                if partition.leader < 0:
                    raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE, f"{name}/{number} has no leader"))
        return metadata

    def _denied(self, name: str) -> bool:
        error = self.admin.list_topics(name, timeout=1.0).topics[name].error
        return error is not None and error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED

    def _not_allowed(self, name: str) -> str:
        right = "Read" if name == self._settings.input_topic else "Write"
        return (
            f"topic {self._named(name)} is not authorised: grant this principal {right} on it, or correct the setting"
        )

    def _missing(self, missing: Sequence[str]) -> str:
        listed = ", ".join(map(self._named, missing))
        return f"missing on {self._settings.kafka.bootstrap_servers}: topic {listed}: create it, or correct the setting"

    def _named(self, name: str) -> str:
        settings = self._settings
        names = {
            settings.input_topic: "CONSUMER_INPUT_TOPIC",
            settings.output_topic: "CONSUMER_OUTPUT_TOPIC",
            settings.dlq_topic: "CONSUMER_DLQ_TOPIC",
        }
        return f"{name} ({names.get(name, 'Worker.outputs')})"

    def _limits(self, names: Sequence[str]) -> dict[str, int]:
        limits = {}
        for name in names:
            try:
                limits[name] = self._patience.ask(partial(self._limit, name), _passing, self._brokers)
            except (KafkaException, KeyError) as error:
                log.info(
                    "the topic's max.message.bytes cannot be read, the default is assumed",
                    topic=name,
                    needs="DescribeConfigs on the topic",
                    error=str(error),
                )
        return limits

    def _limit(self, name: str) -> int:
        resource = ConfigResource(ResourceType.TOPIC, name)
        found = self._only(self.admin.describe_configs([resource], request_timeout=REQUEST_SECONDS))
        return int(found["max.message.bytes"].value)

    def _ids(self, names: Sequence[str]) -> dict[str, str]:
        def ask() -> dict[str, str]:
            asked = describe(self.admin, names, REQUEST_SECONDS)
            return {name: topic_id(self._result(future)) for name, future in asked.items()}

        try:
            return self._patience.ask(ask, _passing, self._brokers)
        except KafkaException as error:
            log.info("the topics' ids cannot be read", error=str(error))
            return {}

    # -------------------------------------------------------------------------------------------------- offsets

    def committed(self, partitions: int, *, stable: bool = False) -> dict[int, tuple[int, str]]:
        """The group's committed offsets and metadata of the input topic, by partition.

        What an open transaction holds does not count. It is waited for only if `stable`: it may be this slot's own
        from before, and a group with a transaction had an offset before it. Asked through a consumer that never
        joins: to an admin client the answer that the coordinator is not ready or has moved is a SIGSEGV (librdkafka
        2.16.0, measured).
        """
        asked = [TopicPartition(self._settings.input_topic, number) for number in range(partitions)]
        conf, _ = consumer_conf(self._settings, member=0, group_protocol="classic")
        conf["isolation.level"] = "read_committed" if stable else "read_uncommitted"
        reader: Consumer = make_client(Consumer, conf, logging.getLogger("librdkafka"))

        def ask() -> list[TopicPartition]:
            found = reader.committed(asked, 1.0)
            for partition in found:
                if partition.error:
                    raise KafkaException(partition.error)
            return found

        try:
            answer = self._ask(ask)
        finally:
            reader.close()
        return {found.partition: (found.offset, found.metadata or "") for found in answer if found.offset >= 0}

    def ends(self, partitions: int) -> dict[int, int]:
        """The end offset of every partition of the input topic, as a read_committed reader sees it."""
        return self._offsets(partitions, OffsetSpec.latest())

    def start_group(self, partitions: int, partitioning: Partitioning) -> None:
        """Write the offsets where a group without any committed offset starts, as `CONSUMER_START` says.

        Written while the group is empty; when another member was first, its offsets hold. A group that has members and
        no offset is waited for: its start is written before anyone joins, so what is said of one of them will change.
        They may be dead ones whose sessions are not over yet.

        Raises:
            ConfigError: there is no committed offset and CONSUMER_START is `fail`, or the group still has members.
        """
        deadline, announced = time.monotonic() + ALONE_SECONDS, False
        while members := self._ask(lambda: self._start_group(partitions, partitioning)):
            names = ", ".join(sorted(set(members)))
            if time.monotonic() >= deadline:
                raise ConfigError(
                    f"group {self._settings.group_id} has no committed offset on {self._settings.input_topic}, but "
                    f"members: {names}: stop them, or wait until their sessions are over, and start again"
                )
            if not announced:
                announced = True
                log.warning("the group has members and no offsets, waiting for either to change", members=names)
            self._patience.pause(COORDINATOR_SECONDS)

    def _start_group(self, partitions: int, partitioning: Partitioning) -> list[str]:
        """The members that are in the way."""
        settings = self._settings
        if self.committed(partitions):
            return []
        # Asked twice: right after a restart of the brokers a group with offsets was once said to have none (measured),
        # and starting it anew would repeat everything.
        self._patience.pause(COORDINATOR_SECONDS)
        if self.committed(partitions):
            return []
        if members := self.members():  # one that joined just now wrote its start before
            return [] if self.committed(partitions) else members
        start = settings.start
        if start.kind == "fail":
            raise ConfigError(
                f"group {settings.group_id} has no committed offset on {settings.input_topic}: set CONSUMER_START to "
                "earliest, latest, checkpoint:N or timestamp:ISO to say where it begins"
            )
        if start.kind == "checkpoint":
            offsets = self._find_checkpoint(start.value, partitions, partitioning)
        elif start.kind == "timestamp":
            offsets = self._offsets(partitions, OffsetSpec.for_timestamp(start.value))
            ends = self.ends(partitions)
            offsets = {number: ends[number] if at < 0 else at for number, at in offsets.items()}
        else:
            spec = OffsetSpec.earliest() if start.kind == "earliest" else OffsetSpec.latest()
            offsets = self._offsets(partitions, spec)
        if start.kind == "checkpoint" and self.committed(partitions):  # the search may have taken minutes
            return []
        return self._write(offsets)

    def _write(self, offsets: dict[int, int]) -> list[str]:
        failed = self.alter({number: (offset, "") for number, offset in offsets.items()})
        if failed is None:
            log.info("group starts", start=str(self._settings.start), offsets=offsets)
            return []
        if failed.code() in _NO_COORDINATOR:
            raise KafkaException(failed)  # what was said of the group's offsets may not hold: all of it again
        if failed.code() in (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.NON_EMPTY_GROUP):
            return [] if self.committed(len(offsets)) else [f"one that joined just now ({failed.name()})"]
        raise ConfigError(
            f"the start of group {self._settings.group_id} could not be written ({failed.name()}: {failed.str()}): "
            "stop its other members and start again"
        )

    def alter(self, offsets: Mapping[int, tuple[int, str]]) -> KafkaError | None:
        """Write the group's next offset and metadata of these partitions; the error where the brokers refuse.

        They do while the group has a member, under both group protocols (Kafka 4.3.1, measured).
        """
        topic = self._settings.input_topic
        wanted = [TopicPartition(topic, number, *what) for number, what in sorted(offsets.items())]
        request = [ConsumerGroupTopicPartitions(self._settings.group_id, wanted)]

        def ask() -> KafkaError | None:
            answer = self._only(self.admin.alter_consumer_group_offsets(request, request_timeout=REQUEST_SECONDS))
            refused: KafkaError | None = next((found.error for found in answer.topic_partitions if found.error), None)
            if refused is not None and refused.code() in _NOT_ALLOWED:
                raise KafkaException(refused)
            return refused

        try:
            return self._ask(ask)
        except KafkaException as error:
            failed: KafkaError = error.args[0]
            return failed

    def _find_checkpoint(self, number: int, partitions: int, partitioning: Partitioning) -> dict[int, int]:
        from consumer.kafka.search import find_checkpoint  # opens a reader of its own, seldom needed

        return find_checkpoint(self._settings, number, partitions, partitioning, self._ask, self._patience.check)

    def _offsets(self, partitions: int, spec: OffsetSpec) -> dict[int, int]:
        topic = self._settings.input_topic
        request = {TopicPartition(topic, number): spec for number in range(partitions)}

        def ask() -> dict[int, int]:
            futures = self.admin.list_offsets(
                request, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=REQUEST_SECONDS
            )
            return {found.partition: self._result(future).offset for found, future in futures.items()}

        return self._ask(ask)

    # ---------------------------------------------------------------------------------------------------- group

    def wait_until_alone(self) -> None:
        """A bounded run wants the group for itself: wait up to 60 s for members that are gone, saying so.

        Raises:
            ConfigError: they are still there; the message names them.
        """
        deadline = time.monotonic() + ALONE_SECONDS
        announced = False
        while names := ", ".join(sorted(set(self.members()))):
            if time.monotonic() >= deadline:
                raise ConfigError(
                    f"a bounded run wants group {self._settings.group_id} for itself, but it has other members: "
                    f"{names}: stop them, or use another CONSUMER_GROUP_ID"
                )
            if not announced:
                announced = True
                log.warning("a bounded run wants the group for itself, waiting for its members to leave", members=names)
            self._patience.pause(0.5)

    def members(self) -> list[str]:
        """The group's members: client id and host; none where there is no such group.

        Nor any where the brokers tell of none: librdkafka's mock broker does not know the question.
        """
        group = [self._settings.group_id]
        try:
            described = self._ask(
                lambda: self._only(self.admin.describe_consumer_groups(group, request_timeout=REQUEST_SECONDS))
            )
        except KafkaException as error:
            if error.args[0].code() in (KafkaError.GROUP_ID_NOT_FOUND, KafkaError._UNSUPPORTED_FEATURE):
                return []
            raise
        return [f"{member.client_id} on {member.host}" for member in described.members]

    # ------------------------------------------------------------------------------------------------- waiting

    def _ask(self, question: Callable[[], Answer]) -> Answer:
        return self._patience.ask(question, self._excuse, self._brokers)

    def _excuse(self, error: Exception) -> str | None:
        if not isinstance(error, KafkaException):
            return None
        cause = error.args[0]
        match cause.code():
            case KafkaError._AUTHENTICATION | KafkaError.SASL_AUTHENTICATION_FAILED:
                wrong = f"{self._brokers} refuse the login: correct the sasl.* options in CONSUMER_KAFKA__OPTIONS"
            case KafkaError.GROUP_AUTHORIZATION_FAILED:
                wrong = f"group {self._settings.group_id} is not authorised: grant this principal Read on the group"
            case KafkaError.TOPIC_AUTHORIZATION_FAILED:
                wrong = self._not_allowed(self._settings.input_topic)
            case _:
                return _passing(error)
        raise ConfigError(wrong) from None

    def _only(self, futures: Mapping[Any, Future[Answer]]) -> Answer:
        (future,) = futures.values()
        return self._result(future)

    def _result(self, future: Future[Answer]) -> Answer:
        return future.result(REQUEST_SECONDS + 1.0)


def _passing(error: Exception) -> str | None:
    """What an error says that may pass by itself, or None."""
    if not isinstance(error, KafkaException):
        return None
    cause = error.args[0]
    return f"{cause.name()}: {cause.str()}" if cause.retriable() or cause.code() in _PASSING else None
