"""What the embedded broker must do so that a pool starts on it at once."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from consumer.kafka.embedded import EmbeddedBroker, full_control_available
from consumer.kafka.preflight import Preflight
from consumer.patience import Patience
from consumer.settings import Settings, load_settings

pytestmark = pytest.mark.skipif(not full_control_available(), reason="librdkafka's C functions cannot be reached")

PARTITIONS = 3


@pytest.fixture(scope="module")
def embedded() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        broker.create_topic("input", PARTITIONS)
        yield broker


@pytest.fixture
def settings(embedded: EmbeddedBroker) -> Settings:
    return load_settings(
        {},
        overrides={
            "kafka": {"bootstrap_servers": embedded.bootstrap},
            "group_id": "group",
            "input_topic": "input",
            "output_topic": "output",
            "worker": "consumer.workers:SummaryWorker",
            "start": "earliest",
        },
    )


# Without a controller every admin request that wants one waits until it times out: 10 s at the start of a member.
def test_it_names_a_controller(embedded: EmbeddedBroker) -> None:
    admin = AdminClient({"bootstrap.servers": embedded.bootstrap, "log_level": 0})
    assert admin.list_topics(timeout=10).controller_id in admin.list_topics(timeout=10).brokers


# A second member would otherwise write the group's start again, be refused, and stop the pool.
def test_a_member_sees_that_another_has_written_where_the_group_starts(settings: Settings) -> None:
    first, second = (Preflight(settings, Patience(endless=False, stopping=lambda: False)) for _ in range(2))
    assert first.committed(PARTITIONS) == {}
    first.start_group(PARTITIONS, settings.sequence.partitioning)
    assert second.committed(PARTITIONS) == dict.fromkeys(range(PARTITIONS), (0, ""))


# So `demo` feeds no more ahead of what is committed.
def test_it_remembers_the_newest_5_mb_of_a_partition_and_drops_the_rest(embedded: EmbeddedBroker) -> None:
    embedded.create_topic("full", 1)
    conf = {"bootstrap.servers": embedded.bootstrap, "group.id": "reader", "log_level": 0}
    producer, consumer = Producer({"bootstrap.servers": embedded.bootstrap, "log_level": 0}), Consumer(conf)
    for _ in range(100):
        producer.produce("full", bytes(100_000))
    assert producer.flush(10) == 0
    low, high = consumer.get_watermark_offsets(TopicPartition("full", 0), timeout=10)
    consumer.close()
    assert high == 100
    assert 40 <= high - low <= 52


MOVED = """
import sys
from consumer.kafka.embedded import EmbeddedBroker
from consumer.kafka.preflight import Preflight
from consumer.patience import Patience
from consumer.settings import load_settings

with EmbeddedBroker() as broker:
    broker.create_topic("in", 1)
    settings = load_settings(
        {},
        overrides={
            "kafka__bootstrap_servers": broker.bootstrap,
            "group_id": "pool",
            "input_topic": "in",
            "output_topic": "out",
            "worker": "consumer.workers:SummaryWorker",
        },
    )
    broker.push_request_errors(9, [16, 15])  # OffsetFetch: NOT_COORDINATOR, COORDINATOR_NOT_AVAILABLE
    print(Preflight(settings, Patience(False, lambda: False)).committed(1))
"""


def test_a_coordinator_that_is_not_ready_or_has_moved_is_asked_again() -> None:
    # In a process of its own, which librdkafka would take along: an admin client's answer ended in SIGSEGV.
    found = subprocess.run([sys.executable, "-c", MOVED], capture_output=True, text=True, check=False, timeout=60)
    assert (found.returncode, found.stdout) == (0, "{}\n"), found.stderr
