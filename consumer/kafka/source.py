"""The consumer's side of a member: polling, rebalances, seeking, committed offsets. One owner thread."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from consumer.core.messages import Chunk, EndReached, FetchFailed, OutOfRange, Records
from consumer.errors import ConfigError, Fenced
from consumer.failpoints import failpoint
from consumer.kafka.conf import make_client
from consumer.kafka.errors import cause
from consumer.log import RateLimited, get_logger

WAKE_SECONDS = 0.2
LOCATE_SECONDS = 1.0
HANGING = (
    "a transaction of an earlier owner is open, or the group's coordinator does not answer; if this lasts longer than "
    "a minute while other partitions run, look for a hanging transaction: docs/runbook.md#checkpointconsumerremedies"
)
_METADATA_PREFIX = b"CGMDv2:"

Other = EndReached | OutOfRange | FetchFailed
"""What a poll may return besides records."""

log = get_logger("consumer.source")


class UnsupportedProtocol(Exception):
    """The broker does not have the `consumer` group protocol (KIP-848)."""


class InstanceInUse(Exception):
    """The group still has another member with this `group.instance.id`, perhaps one that is gone (KIP-848)."""


class Rejoin(Exception):
    """Leave the group, and join it again with a new consumer."""


class Rebalances(Protocol):
    """Who is told about rebalances, from inside `poll` and `close`. An exception is raised again by `poll`."""

    def assigned(self, partitions: Sequence[int]) -> None: ...
    def revoked(self, partitions: Sequence[int]) -> None: ...
    def lost(self, partitions: Sequence[int]) -> None: ...


class Source:
    """One member of the consumer group, reading one topic.

    A callback that raises would lose the records already taken in that call (measured), so every callback body only
    records and returns.
    """

    def __init__(self, conf: Mapping[str, Any], topic: str, rebalances: Rebalances) -> None:
        self._topic = topic
        self._rebalances = rebalances
        self._error: BaseException | None = None
        self._abandoned = False
        self._ended: set[int] = set()
        """Not fetched any more since an offset was out of range, perhaps the 0 of `_assign`: a seek is refused for ever
        (`_STATE`, measured), only a new assignment helps. That error may itself be lost to an earlier seek."""
        self._reassigned = False
        """A partition was assigned anew, and there was no empty queue since. librdkafka takes that for the answer to a
        rebalance which may wait there: what it revokes may have another owner before this member hears of it."""
        self._held: list[int] = []
        """Whose committed offset was not told when it was asked for alone; in the order in which to ask again."""
        self._apart = False
        """The next question is about one partition alone."""
        self._repeats = RateLimited(log, 10.0)
        self._polled = True
        """Not inside a rebalance callback, nor once the member ends by a failure."""
        self._commit: dict[int, int] = {}
        self._answers: list[KafkaError | None] = []
        """To the commit of `_commit`, by partition."""
        self._consumer: Consumer = make_client(
            Consumer,
            conf,
            logging.getLogger("librdkafka"),
            error_cb=self._on_error,
            on_commit=self._on_commit,
        )

    def join(self) -> None:
        """Join the group, from the next `poll` on."""
        self._consumer.subscribe(
            [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    # ------------------------------------------------------------------------------------------------ records

    def poll(self, seconds: float, most: int) -> tuple[Records, list[Other]]:
        """Wait up to `seconds` for a record, then take what else is there without waiting, `most` in all.

        `poll` returns with the first record, where `consume` would wait for all it was asked for.
        """
        first = self._consumer.poll(seconds)
        self._raise()
        if first is None:
            self._reassigned = False
            return Records(()), []
        messages = [first]
        if most > 1:
            messages += self._consumer.consume(most - 1, 0)
            self._raise()
        self._reassigned &= len(messages) == most
        return self._sort(messages, len(messages) == most)

    def _sort(self, messages: Sequence[Any], more: bool) -> tuple[Records, list[Other]]:
        # Any: the client's stubs say None where a record that was fetched always has a value.
        by_partition: dict[int, tuple[list[Any], list[int]]] = {}
        others: list[Other] = []
        failed: set[int] = set()
        for message in messages:
            error, number = message.error(), message.partition()
            event = self._event(message, error) if error is not None else None
            if failed and number in failed:
                continue  # it may lie behind records that were lost with the error; its place is sought again
            if error is not None:
                if event is not None:
                    others.append(event)
                if isinstance(event, FetchFailed | OutOfRange):
                    failed.add(number)
                continue
            found = by_partition.get(number)
            if found is None:
                found = by_partition[number] = ([], [])
            found[0].append(message)
            found[1].append(message.offset())
        chunks = [
            Chunk(number, records, offsets, sum(map(len, records)))
            for number, (records, offsets) in by_partition.items()
        ]
        return Records(chunks, more), others

    def _event(self, message: Any, error: KafkaError) -> Other | None:
        """An error that came in place of a record: none is ever skipped in silence."""
        code, partition, offset = error.code(), message.partition(), message.offset()
        if code == KafkaError._PARTITION_EOF:
            return EndReached(partition, offset)
        if code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            self._ended.add(partition)
            if offset is not None:  # else the beginning could not be asked for, as of a topic that was just deleted
                return OutOfRange(partition, offset, error.str())
        where = f"{self._topic}/{partition}"
        self._judge(error, where)
        text = f"{error.name()}: {error.str()}"
        self._repeats.warning("fetch failed", key=(where, code), topic=self._topic, partition=partition, error=text)
        return FetchFailed(partition, text) if partition >= 0 else None

    def _judge(self, error: KafkaError, where: str) -> None:
        code = cause(error)
        if code in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED):
            what = "input topic" if code == KafkaError.TOPIC_AUTHORIZATION_FAILED else "group"
            raise ConfigError(f"{where}: {error.str()}: grant this principal Read on the {what}")
        if code in (KafkaError._UNSUPPORTED_FEATURE, KafkaError.UNSUPPORTED_VERSION):
            raise UnsupportedProtocol(error.str())
        if code == KafkaError.UNRELEASED_INSTANCE_ID:
            raise InstanceInUse(KafkaError(code).str())
        if code in (KafkaError.FENCED_INSTANCE_ID, KafkaError._FENCED):
            raise Fenced(
                f"another member has this group.instance.id ({error.str()}): give each process its own "
                "CONSUMER_INSTANCE_ID, or wait until the old one's session ends"
            )
        if error.fatal() or error.code() == KafkaError._FATAL:
            raise RuntimeError(f"the Kafka consumer failed for good: {error.name()}: {error.str()}")

    def _raise(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    # --------------------------------------------------------------------------------------------- partitions

    def locate(self, partitions: Sequence[int], seconds: float = LOCATE_SECONDS) -> dict[int, tuple[int | None, str]]:
        """Committed offset (None: there is none) and metadata; empty where the group's coordinator cannot say yet.

        Read "stable": it waits for transactions of earlier owners that are still open (KIP-447).
        """
        try:
            found = self._consumer.committed([TopicPartition(self._topic, number) for number in partitions], seconds)
        except KafkaException as error:
            self._judge(error.args[0], self._topic)
            return self._not_known(partitions, error.args[0])
        failed = next((partition.error for partition in found if partition.error), None)
        if failed is not None:
            return self._not_known(partitions, failed)
        return {
            partition.partition: (partition.offset if partition.offset >= 0 else None, partition.metadata or "")
            for partition in found
        }

    def _not_known(self, partitions: Sequence[int], error: KafkaError) -> dict[int, tuple[int | None, str]]:
        advice = {"partition": partitions[0], "advice": HANGING} if len(partitions) == 1 else {}
        self._repeats.warning("committed offsets are not known yet", key=bool(advice), error=error.name(), **advice)
        return {}

    def locate_some(self, partitions: Sequence[int]) -> dict[int, tuple[int | None, str]]:
        """The same of those that can be told: one open transaction would keep all from running, asked together.

        One question in each call. Without an answer to all together each is asked alone; what gave no answer alone is
        `_held`, and asked, in turn and all together, once nothing else is to be asked.
        """
        self._held = [number for number in self._held if number in partitions]
        others = [number for number in partitions if number not in self._held]
        if not others:
            self._apart = not self._apart
            asked = [self._held[0]] if self._apart else self._held
        else:
            asked = others[:1] if self._apart else others
        found = self.locate(asked)
        if not found and len(asked) == 1:
            self._held = [number for number in self._held if number not in asked] + asked
        if others:
            self._apart = not found if len(asked) > 1 else len(others) > 1
        return found

    def seek(self, partition: int, offset: int | None) -> bool:
        """Fetch a paused partition from `offset` on (None: the beginning); False: not possible yet, try again."""
        at = [TopicPartition(self._topic, partition, -2 if offset is None else offset)]
        try:
            if partition in self._ended:
                self._reassigned = True
                self._consumer.incremental_unassign(at)
                self._consumer.incremental_assign(at)
                self._consumer.pause(at)
                self._ended.discard(partition)
            else:
                self._consumer.seek(at[0])
        except KafkaException as error:
            if error.args[0].code() == KafkaError._STATE:
                self._ended.add(partition)
            self._repeats.warning("seek is not possible yet", partition=partition, error=str(error.args[0].name()))
            return False
        return True

    def pause(self, partitions: Sequence[int]) -> None:
        """Stop fetching; throws the prefetch of these partitions away."""
        self._consumer.pause([TopicPartition(self._topic, number) for number in partitions])

    def resume(self, partitions: Sequence[int]) -> None:
        """Fetch again, at once.

        librdkafka's broker threads would notice up to a second later (measured); any request to the leaders wakes them.
        """
        wanted = [TopicPartition(self._topic, number) for number in partitions]
        if failpoint("resume"):
            return
        self._consumer.resume(wanted)
        try:
            self._consumer.offsets_for_times(
                [TopicPartition(self._topic, number, 0) for number in partitions], WAKE_SECONDS
            )
        except KafkaException as error:
            log.debug("wake-up after resume failed", error=str(error.args[0].name()))

    def group_metadata(self) -> Any | None:
        """Fresh group metadata for a transaction; None while this member has no generation or member id."""
        metadata: Any = self._consumer.consumer_group_metadata()
        return metadata if usable(metadata) else None

    @property
    def joined(self) -> bool:
        """Whether the group has taken this member in; it may own no partition."""
        return self.group_metadata() is not None

    def ends(self, partitions: Sequence[int]) -> dict[int, int]:
        """The partitions' end offsets as the last fetch response told them; nothing is asked."""
        found = {}
        for number in partitions:
            _, high = self._consumer.get_watermark_offsets(TopicPartition(self._topic, number), cached=True)
            if high >= 0:
                found[number] = high
        return found

    def positions(self, partitions: Sequence[int]) -> dict[int, int]:
        """How far the client has gone, transaction markers included; nothing is asked, and what is not known left out.

        librdkafka moves the position over control records when it is polled (`rd_kafka_op_handle_std`).
        """
        found = self._consumer.position([TopicPartition(self._topic, number) for number in partitions])
        return {at.partition: at.offset for at in found if at.offset >= 0}

    def commit(self, offsets: list[TopicPartition]) -> Callable[[float], bool]:
        """Start to commit outside a transaction. What is returned tells whether that is done, and waits up to so long.

        It raises KafkaException where the commit is refused. The answer comes with `poll`; where nothing polls, the
        coordinator is asked what is committed: it takes a client's requests in order. A synchronous commit has no
        deadline, and every other call on this consumer waits for it, from whatever thread (confluent-kafka 2.16.1).
        """
        self._commit = {at.partition: at.offset for at in offsets}
        self._answers = []
        self._consumer.commit(offsets=offsets, asynchronous=True)
        return self._committed

    def _committed(self, seconds: float) -> bool:
        if self._answers:
            if self._answers[0] is not None:
                raise KafkaException(self._answers[0])
            return True
        if self._polled:
            return False
        found = self.locate(list(self._commit), max(0.1, seconds))
        return {number: offset for number, (offset, _) in found.items()} == self._commit

    def poll_no_more(self) -> None:
        """The member ends: answers must be fetched without `poll`."""
        self._polled = False

    def abandon(self) -> None:
        """Leave the group without asking anyone what to finish: after a failure there is nothing to finish."""
        self._abandoned = True
        self.close()

    def close(self) -> None:
        """Leave the group.

        Unsubscribed first: a classic member that owns nothing would only end (librdkafka 2.16, measured), and the
        others would wait for it until its session is over. What a callback raised meanwhile is raised, unless it is
        abandoned: a member that joins again must not go on without its work thread.
        """
        try:
            self._consumer.unsubscribe()
        except KafkaException as error:
            if error.args[0].code() != KafkaError._FATAL:  # one that failed for good is no member any more
                raise
        self._consumer.close()
        if not self._abandoned:
            self._raise()

    # ---------------------------------------------------------------------------------------------- callbacks

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._guard(self._assign, consumer, partitions)

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Paused at an explicit offset until the start is known: nothing is looked up or fetched by librdkafka itself.
        start = [TopicPartition(partition.topic, partition.partition, 0) for partition in partitions]
        consumer.incremental_assign(start)
        consumer.pause(start)
        numbers = [partition.partition for partition in partitions]
        self._ended.difference_update(numbers)
        self._rebalances.assigned(numbers)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        told = self._rebalances.lost if self._reassigned else self._rebalances.revoked
        self._guard(lambda: told([partition.partition for partition in partitions]))

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._guard(lambda: self._rebalances.lost([partition.partition for partition in partitions]))

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        if {at.partition: at.offset for at in partitions} == self._commit:  # else a late answer to one before
            self._answers.append(error or next((at.error for at in partitions if at.error), None))

    def _on_error(self, error: KafkaError) -> None:
        self._guard(self._client_error, error)

    def _client_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._judge(error, self._topic)
        self._repeats.warning("kafka", key=error.code(), error=f"{error.name()}: {error.str()}")

    def _guard(self, body: Callable[..., None], *args: Any) -> None:
        if self._abandoned:
            return
        self._polled = False
        try:
            body(*args)
        except BaseException as error:  # noqa: BLE001 raised again by poll: in a callback it would lose records
            self._error = self._error or error
        finally:
            self._polled = True


def usable(metadata: bytes) -> bool:
    """Whether serialized group metadata names a generation >= 0 and a member.

    Layout: librdkafka `rd_kafka_consumer_group_metadata_write`: "CGMDv2:", int32 generation (little endian), group id,
    NUL, member id, NUL, ...
    """
    if not metadata.startswith(_METADATA_PREFIX):
        return False
    (generation,) = struct.unpack_from("<i", metadata, len(_METADATA_PREFIX))
    rest = metadata[len(_METADATA_PREFIX) + 4 :].split(b"\0")
    return generation >= 0 and len(rest) >= 2 and bool(rest[1])
