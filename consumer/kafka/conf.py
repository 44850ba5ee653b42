"""librdkafka configurations of every client, built from the settings.

Three layers, later ones win: our defaults, the user's `CONSUMER_KAFKA__OPTIONS`, what the consumer owns. An option
that concerns one kind of client goes to that kind only, or librdkafka would warn at every start.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from confluent_kafka import KafkaError, KafkaException

from consumer.errors import ConfigError
from consumer.kafka.client_log import ClientLog
from consumer.settings import Settings

__all__ = ["admin_conf", "consumer_conf", "feeder_conf", "make_client", "producer_conf", "reader_conf", "unneeded"]

Client = TypeVar("Client")
Conf = dict[str, Any]

_MIB = 1024 * 1024
_SECRET_WORDS = ("password", "secret", "key", "pem", "token", "oauthbearer", "jaas")

# The C/P column of librdkafka's CONFIGURATION.md (2.16.0), less the callbacks.
_CONSUMER_NAMES = """
    auto.commit.enable auto.commit.interval.ms auto.offset.reset check.crcs consume.callback.max.messages
    coordinator.query.interval.ms enable.auto.commit enable.auto.offset.store enable.partition.eof
    fetch.error.backoff.ms fetch.max.bytes fetch.message.max.bytes fetch.min.bytes fetch.queue.backoff.ms
    fetch.wait.max.ms group.id group.instance.id group.protocol group.protocol.type group.remote.assignor
    heartbeat.interval.ms isolation.level max.partition.fetch.bytes max.poll.interval.ms offset.store.method
    offset.store.path offset.store.sync.interval.ms partition.assignment.strategy queued.max.messages.kbytes
    queued.min.messages session.timeout.ms
"""
_PRODUCER_NAMES = """
    acks batch.num.messages batch.size compression.codec compression.level compression.type
    delivery.report.only.error delivery.timeout.ms enable.gapless.guarantee enable.idempotence linger.ms
    message.send.max.retries message.timeout.ms msg_order_cmp partitioner produce.offset.report
    queue.buffering.backpressure.threshold queue.buffering.max.kbytes queue.buffering.max.messages
    queue.buffering.max.ms queuing.strategy request.required.acks request.timeout.ms retries
    sticky.partitioning.linger.ms transaction.timeout.ms transactional.id
"""
CONSUMER_ONLY = frozenset(_CONSUMER_NAMES.split())
PRODUCER_ONLY = frozenset(_PRODUCER_NAMES.split())
# Under KIP-848 the broker has these; librdkafka refuses them at construction.
CLASSIC_ONLY = ("session.timeout.ms", "heartbeat.interval.ms", "group.protocol.type", "partition.assignment.strategy")


def consumer_conf(
    settings: Settings, *, member: int, group_protocol: Literal["classic", "consumer"], largest_record: int = 0
) -> tuple[Conf, list[str]]:
    """The group consumer of member `member`, and the user's options that `group_protocol` made us leave out.

    Of `CONSUMER_MEMORY__MAX_BYTES` the prefetched records take an eighth, and what each broker's answer adds to that
    a 32nd, compressed: it is unpacked as a whole. `largest_record` is the input topic's `max.message.bytes`.
    `fetch.queue.backoff.ms` is 10: at the default of a second the queue runs dry long before it is filled again
    (reading 40 KB records took 2.5 times as long).
    """
    user = _user_options(settings, without=PRODUCER_ONLY)
    left_out = [name for name in CLASSIC_ONLY if name in user] if group_protocol == "consumer" else []
    for name in left_out:
        del user[name]
    owned: Conf = {
        "group.id": settings.group_id,
        "group.protocol": group_protocol,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "isolation.level": "read_committed",
        "auto.offset.reset": "error",
        "allow.auto.create.topics": False,
        "enable.partition.eof": False,
    }
    if group_protocol == "classic":
        owned["partition.assignment.strategy"] = "cooperative-sticky"
    if settings.static_membership:
        owned["group.instance.id"] = f"{settings.instance_id}-{member}"
    # librdkafka unpacks zstd into a buffer that may be three times too large, of which it touches what it needs, and
    # gives up at this limit: of records above about 33 MB none could be read (rd_kafka_zstd_decompress, measured).
    limit = {"receive.message.max.bytes": min(max(100_000_000, 3 * largest_record), 2_147_483_647)}
    return {**_reading_defaults(settings), **limit, "client.id": _slot(settings, member), **user, **owned}, left_out


def reader_conf(settings: Settings) -> Conf:
    """A consumer outside every group, for `assign` only: read_committed, and it reports the ends of partitions."""
    return {
        **_reading_defaults(settings),
        "client.id": "checkpoint-consumer",
        **_user_options(settings, without=PRODUCER_ONLY.union(CLASSIC_ONLY, ["max.poll.interval.ms"])),
        "group.id": "checkpoint-consumer-reader",  # librdkafka wants one; it is never joined nor committed to
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "isolation.level": "read_committed",
        "auto.offset.reset": "error",
        "allow.auto.create.topics": False,
        "enable.partition.eof": True,
    }


def unneeded(error: KafkaError) -> bool:
    """Whether what failed a client of `reader_conf` is nothing it needs: librdkafka looks for its group's coordinator.

    A principal with the right to read a topic has none to that group.
    """
    return error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED


def producer_conf(settings: Settings, *, member: int, transactional: bool) -> Conf:
    """The producer of member `member`: idempotent, and with its stable `transactional.id` where `transactional`.

    A record not delivered within the transaction's timeout is reported as failed: librdkafka refuses a
    `message.timeout.ms` above it. The queue is bounded by an eighth of `CONSUMER_MEMORY__MAX_BYTES`, but always
    holds the largest record the client may send, which otherwise could never enter it.
    """
    user = _user_options(settings, without=CONSUMER_ONLY)
    largest = int(user.get("message.max.bytes", 1_000_000))
    defaults: Conf = {
        "client.id": _slot(settings, member),
        "linger.ms": 5,
        "message.timeout.ms": settings.kafka.transaction_timeout_ms,
        "queue.buffering.max.kbytes": _queue_kbytes(settings, largest),
        "delivery.report.only.error": True,
    }
    owned: Conf = {"enable.idempotence": True, "acks": "all", "allow.auto.create.topics": False}
    if transactional:
        owned["transactional.id"] = _slot(settings, member)
        owned["transaction.timeout.ms"] = settings.kafka.transaction_timeout_ms
    return {**defaults, **user, **owned}


def feeder_conf(settings: Settings, *, largest_record: int | None) -> Conf:
    """An idempotent producer outside every member, for `feed`: patient, zstd, and a report for every record.

    `largest_record` is the topic's `max.message.bytes`, which then is the client's limit too.
    """
    user = _user_options(settings, without=CONSUMER_ONLY)
    largest = largest_record or int(user.get("message.max.bytes", 1_000_000))
    defaults: Conf = {
        "client.id": "checkpoint-consumer",
        "compression.type": "zstd",
        "linger.ms": 20,
        "queue.buffering.max.kbytes": _queue_kbytes(settings, largest),
    }
    owned: Conf = {"enable.idempotence": True, "acks": "all", "allow.auto.create.topics": False}
    limit: Conf = {"message.max.bytes": min(largest, 1_000_000_000)}  # the largest that librdkafka takes
    return {**defaults, **user, **owned, **limit}


def admin_conf(settings: Settings) -> Conf:
    """A client that only asks and administers; asking for a topic does not create it."""
    user = _user_options(settings, without=CONSUMER_ONLY | PRODUCER_ONLY)
    return {"client.id": "checkpoint-consumer", **user, "allow.auto.create.topics": False}


def make_client(
    kind: Callable[..., Client], conf: Mapping[str, Any], logger: logging.Logger, **callbacks: Any
) -> Client:
    """Construct a client whose log lines go to `logger`, none over and over; they arrive while it is polled.

    Raises:
        ConfigError: librdkafka refuses an option; its text is kept, but for the values of secrets.
    """
    try:
        return kind({**conf, **callbacks}, logger=ClientLog(logger))
    except (KafkaException, ValueError, TypeError) as error:
        text = str(error.args[0].str()) if isinstance(error, KafkaException) else str(error)
        for name, value in conf.items():
            if any(word in name for word in _SECRET_WORDS) and value:
                text = text.replace(str(value), "***")
        raise ConfigError(f"the Kafka client refuses its options: {text}; correct CONSUMER_KAFKA__OPTIONS") from None


def _reading_defaults(settings: Settings) -> Conf:
    budget = settings.memory.max_bytes
    largest = int(settings.kafka.options.get("message.max.bytes", 0))
    return {
        "check.crcs": True,
        "fetch.queue.backoff.ms": 10,
        "fetch.wait.max.ms": 100,  # also how long a resumed partition may wait for its first fetch
        # A user's larger message.max.bytes raises it: librdkafka refuses a consumer where it is below.
        "fetch.max.bytes": max(min(max(budget // 32, _MIB), 50 * _MIB), largest),
        "queued.max.messages.kbytes": min(max(budget // 8, _MIB) // 1024, 2_097_151),  # the most librdkafka takes
        "queued.min.messages": 10_000,  # bounds the overhead per record, which the limit in bytes does not count
    }


def _queue_kbytes(settings: Settings, largest_record: int) -> int:
    return min(max(settings.memory.max_bytes // 8, 2 * largest_record) // 1024, 2_147_483_647)


def _user_options(settings: Settings, *, without: frozenset[str]) -> Conf:
    user = {name: value for name, value in settings.kafka.options.items() if name not in without}
    return {"bootstrap.servers": settings.kafka.bootstrap_servers, **user}


def _slot(settings: Settings, member: int) -> str:
    return f"{settings.group_id}-{settings.instance_id}-{member}"
