"""What every Kafka client is told, checked by making the clients: librdkafka refuses or warns about what is wrong."""

import logging
import re
from typing import Literal

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from consumer.errors import ConfigError
from consumer.kafka import conf
from consumer.settings import KafkaSettings, Settings
from consumer.settings.model import MemorySettings

MIB = 1024 * 1024
EVERY_KIND = {
    "fetch.min.bytes": "2",
    "session.timeout.ms": "7000",
    "max.poll.interval.ms": "8000",
    "compression.type": "zstd",
    "linger.ms": "7",
    "socket.keepalive.enable": "true",
}


def settings(memory: int = 64 * MIB, static: bool = False, **options: str) -> Settings:
    return Settings(
        kafka=KafkaSettings(
            bootstrap_servers="127.0.0.1:1", options={k.replace("_", "."): v for k, v in options.items()}
        ),
        group_id="group",
        instance_id="pod-3",
        static_membership=static,
        memory=MemorySettings(max_bytes=memory),
    )


def with_every_kind_of_option() -> Settings:
    return settings(64 * MIB, False, **EVERY_KIND)


LOGGER = logging.getLogger("tests.clients")


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in caplog.messages if "CONFWARN" in line or "configuration property" in line.lower()]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_consumer_is_accepted_without_a_warning(
    protocol: Literal["classic", "consumer"], caplog: pytest.LogCaptureFixture
) -> None:
    made, _ = conf.consumer_conf(with_every_kind_of_option(), member=0, group_protocol=protocol)
    client = conf.make_client(Consumer, made, LOGGER)
    client.poll(0)
    assert complaints(caplog) == []


@pytest.mark.parametrize("transactional", [True, False])
def test_a_producer_is_accepted_without_a_warning(transactional: bool, caplog: pytest.LogCaptureFixture) -> None:
    made = conf.producer_conf(with_every_kind_of_option(), member=0, transactional=transactional)
    conf.make_client(Producer, made, LOGGER).poll(0)
    assert complaints(caplog) == []


def test_the_other_clients_are_accepted_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    conf.make_client(Consumer, conf.reader_conf(with_every_kind_of_option()), LOGGER).poll(0)
    conf.make_client(AdminClient, conf.admin_conf(with_every_kind_of_option()), LOGGER).poll(0)
    conf.make_client(Producer, conf.feeder_conf(with_every_kind_of_option(), largest_record=2 * MIB), LOGGER).poll(0)
    assert complaints(caplog) == []


def test_the_warning_that_the_sorting_of_options_avoids_is_real(caplog: pytest.LogCaptureFixture) -> None:
    conf.make_client(Producer, {"bootstrap.servers": "127.0.0.1:1", "fetch.min.bytes": 2}, LOGGER).poll(0)
    assert len(complaints(caplog)) == 1


def test_offsets_and_resets_are_the_consumers_own() -> None:
    made, _ = conf.consumer_conf(settings(), member=1, group_protocol="classic")
    assert made["group.id"] == "group"
    assert made["enable.auto.commit"] is made["enable.auto.offset.store"] is False
    assert made["isolation.level"] == "read_committed"
    assert made["auto.offset.reset"] == "error"
    assert made["partition.assignment.strategy"] == "cooperative-sticky"
    assert "group.instance.id" not in made


def test_what_the_consumer_owns_wins_over_options_that_slipped_through() -> None:
    options = settings(isolation_level="read_uncommitted", acks="0", allow_auto_create_topics="true")
    consumer, _ = conf.consumer_conf(options, member=0, group_protocol="classic")
    producer = conf.producer_conf(options, member=0, transactional=True)
    assert consumer["isolation.level"] == conf.reader_conf(options)["isolation.level"] == "read_committed"
    assert producer["acks"] == conf.feeder_conf(options, largest_record=None)["acks"] == "all"
    assert conf.admin_conf(options)["allow.auto.create.topics"] is False


def test_the_consumer_protocol_loses_what_it_refuses_and_says_which() -> None:
    options = settings(session_timeout_ms="7000", heartbeat_interval_ms="500", max_poll_interval_ms="9000")
    made, left_out = conf.consumer_conf(options, member=0, group_protocol="consumer")
    assert left_out == ["session.timeout.ms", "heartbeat.interval.ms"]
    assert not {*left_out, "partition.assignment.strategy"} & made.keys()
    assert made["max.poll.interval.ms"] == "9000"


def test_the_classic_protocol_keeps_them() -> None:
    made, left_out = conf.consumer_conf(settings(session_timeout_ms="7000"), member=0, group_protocol="classic")
    assert (made["session.timeout.ms"], left_out) == ("7000", [])


def test_identities_are_stable_per_slot() -> None:
    consumer, _ = conf.consumer_conf(settings(static=True), member=2, group_protocol="consumer")
    producer = conf.producer_conf(settings(), member=2, transactional=True)
    assert consumer["group.instance.id"] == "pod-3-2"
    assert producer["transactional.id"] == producer["client.id"] == "group-pod-3-2"
    assert "transactional.id" not in conf.producer_conf(settings(), member=2, transactional=False)


def test_a_record_times_out_no_later_than_its_transaction() -> None:
    assert conf.producer_conf(settings(), member=0, transactional=True)["transaction.timeout.ms"] == 10_000
    longer = conf.producer_conf(settings(transaction_timeout_ms="20000"), member=0, transactional=True)
    assert longer["message.timeout.ms"] == longer["transaction.timeout.ms"] == 20_000


def test_asking_for_a_topic_does_not_create_it() -> None:
    made = [
        conf.admin_conf(settings()),
        conf.reader_conf(settings()),
        conf.feeder_conf(settings(), largest_record=None),
    ]
    made.append(conf.producer_conf(settings(), member=0, transactional=True))
    assert [each["allow.auto.create.topics"] for each in made] == [False] * 4


def test_the_feeders_limit_is_the_topics() -> None:
    made = conf.feeder_conf(settings(MIB, message_max_bytes="5"), largest_record=3 * MIB)
    assert made["message.max.bytes"] == 3 * MIB
    assert made["queue.buffering.max.kbytes"] >= 6 * 1024
    assert made["compression.type"] == "zstd"


def test_user_options_win_over_defaults() -> None:
    made, _ = conf.consumer_conf(settings(client_id="mine", fetch_wait_max_ms="5"), member=0, group_protocol="classic")
    assert (made["client.id"], made["fetch.wait.max.ms"]) == ("mine", "5")


@pytest.mark.parametrize("memory", [1, MIB, 64 * MIB, 1024**4])
def test_every_budget_gives_clients_that_librdkafka_accepts(memory: int) -> None:
    made, _ = conf.consumer_conf(settings(memory), member=0, group_protocol="classic")
    conf.make_client(Consumer, made, LOGGER)
    producer = conf.producer_conf(settings(memory), member=0, transactional=True)
    conf.make_client(Producer, producer, LOGGER)
    assert producer["queue.buffering.max.kbytes"] * 1024 > 1_000_000


def test_prefetching_takes_an_eighth_of_the_budget_and_answers_that_may_unpack_to_many_times_their_size() -> None:
    made, _ = conf.consumer_conf(settings(64 * MIB), member=0, group_protocol="classic")
    assert made["queued.max.messages.kbytes"] * 1024 == 8 * MIB
    assert made["fetch.max.bytes"] == 2 * MIB
    larger, _ = conf.consumer_conf(settings(message_max_bytes="5000000"), member=0, group_protocol="consumer")
    assert larger["fetch.max.bytes"] == 5_000_000, "librdkafka refuses less"


@pytest.mark.parametrize("largest", [0, 64 * MIB, 2**31 - 1])
def test_the_largest_record_can_be_unpacked(largest: int) -> None:
    made, _ = conf.consumer_conf(settings(), member=0, group_protocol="classic", largest_record=largest)
    conf.make_client(Consumer, made, LOGGER)
    assert made["receive.message.max.bytes"] >= min(3 * largest, 2**31 - 1)


def test_the_largest_record_the_client_may_send_always_fits_its_queue() -> None:
    made = conf.producer_conf(settings(MIB, message_max_bytes="50000000"), member=0, transactional=False)
    assert made["queue.buffering.max.kbytes"] * 1024 > 50_000_000


def test_a_refused_option_is_a_configuration_error_that_names_it() -> None:
    with pytest.raises(ConfigError, match=re.escape('"no.such.option"')) as caught:
        conf.make_client(AdminClient, conf.admin_conf(settings(no_such_option="1")), LOGGER)
    assert "CONSUMER_KAFKA__OPTIONS" in str(caught.value)


def test_a_secret_is_not_repeated_in_the_error() -> None:
    options = settings(sasl_oauthbearer_client_secret="hunter2", security_protocol="hunter2")
    with pytest.raises(ConfigError) as caught:
        conf.make_client(AdminClient, conf.admin_conf(options), LOGGER)
    assert "hunter2" not in str(caught.value)
