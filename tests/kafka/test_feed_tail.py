"""`feed` and `tail` on a real broker: the topic's limits, the end of a topic under transactions, and signals."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from consumer.avro import Encoder
from consumer.cli.tail import schema_source
from consumer.generate import generate
from consumer.settings import Settings
from tests.brokers.find import Broker
from tests.brokers.topics import TopicFactory, Topics
from tests.checker import ConcurrentReader, Record, check, collect, read_topic

COMMAND = [sys.executable, "-m", "consumer"]


def environment(broker: Broker, names: Topics) -> dict[str, str]:
    return {
        **os.environ,
        "CONSUMER_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap,
        "CONSUMER_GROUP_ID": names.group,
        "CONSUMER_INPUT_TOPIC": names.input,
        "CONSUMER_OUTPUT_TOPIC": names.output,
    }


def command(broker: Broker, names: Topics, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    env = environment(broker, names)
    return subprocess.run([*COMMAND, *arguments], env=env, input=stdin, capture_output=True, timeout=60, check=False)


def lines_of(done: subprocess.CompletedProcess[bytes]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def transactional(broker: Broker, names: Topics) -> Producer:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": names.group})
    producer.init_transactions(30)
    return producer


def test_every_real_checkpoint_arrives_unchanged(
    broker: Broker, topics: TopicFactory, real_checkpoints: list[Path]
) -> None:
    names = topics(input=3)
    done = command(broker, names, "feed", "--json", *map(str, real_checkpoints))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["delivered"] == len(real_checkpoints)
    records = read_topic(broker.bootstrap, [names.input])
    expected = {path.read_bytes().strip() for path in real_checkpoints}
    assert {record.value for record in records} == expected
    assert all(int(record.key or b"") % 3 == record.partition for record in records)


def test_the_clients_limit_follows_the_topics(broker: Broker, topics: TopicFactory, tmp_path: Path) -> None:
    names = topics(input=1, config={"max.message.bytes": "3000000"})
    (tmp_path / "1.json").write_bytes(generate(1, size_bytes=2_900_000))
    (tmp_path / "2.json").write_bytes(generate(2, size_bytes=3_100_000))
    (tmp_path / "3.json").write_bytes(generate(3))
    done = command(broker, names, "feed", "--json", str(tmp_path))
    assert done.returncode == 1
    assert b"2.json is larger than 3,000,000 bytes" in done.stderr
    assert [record.key for record in read_topic(broker.bootstrap, [names.input])] == [b"1", b"3"]


def test_tail_shows_decoded_committed_records_and_ends_after_the_markers(broker: Broker, topics: TopicFactory) -> None:
    names = topics(output=2)
    encoder = Encoder(schema_source(Settings())(1), 1)
    fields = "sequence_number epoch timestamp_ms content_digest previous_digest network_total_transactions"
    fields += " transaction_count computation_cost storage_cost storage_rebate non_refundable_storage_fee"
    message: dict[str, Any] = dict.fromkeys(fields.split(), 1) | {"content_digest": "a", "previous_digest": None}
    producer = transactional(broker, names)
    for commits, partition in ((True, 0), (False, 0), (False, 1)):
        producer.begin_transaction()
        producer.produce(names.output, encoder.encode(message), partition=partition, headers=[("h", b"v")])
        producer.flush(10)
        (producer.commit_transaction if commits else producer.abort_transaction)(10)
    (only,) = lines_of(command(broker, names, "tail", "--no-follow"))
    assert only["value"] == message
    assert only["headers"] == {"h": "v"}
    assert lines_of(command(broker, names, "tail", "--no-follow", "--from", only["timestamp"])) == [only]
    assert lines_of(command(broker, names, "tail", "--no-follow", "--from", "2100-01-01")) == []


def test_a_registry_that_does_not_answer_ends_tail_with_one_line(broker: Broker, topics: TopicFactory) -> None:
    names = topics(output=1)
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    producer.produce(names.output, b"\0\0\0\0\1x")
    assert producer.flush(10) == 0
    env = {**environment(broker, names), "CONSUMER_SCHEMA__REGISTRY_URL": "http://127.0.0.1:1"}
    done = subprocess.run([*COMMAND, "tail"], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("checkpoint-consumer: http://127.0.0.1:1 gives no answer")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_tail_with_0(broker: Broker, topics: TopicFactory, number: signal.Signals) -> None:
    names = topics(output=1)
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    producer.produce(names.output, b"x")
    assert producer.flush(10) == 0
    with subprocess.Popen([*COMMAND, "tail"], env=environment(broker, names), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["offset"] == 0
        process.send_signal(number)
        assert process.wait(10) == 0


def test_a_signal_ends_feed_with_0_and_says_how_many_were_delivered(broker: Broker, topics: TopicFactory) -> None:
    names = topics(input=1)
    reader = ConcurrentReader(broker.bootstrap, [names.input])
    with subprocess.Popen(
        [*COMMAND, "feed", "--json", "-"],
        env=environment(broker, names),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"".join(generate(number) + b"\n" for number in range(3)))
        process.stdin.flush()
        reader.wait_for(3)
        process.send_signal(signal.SIGINT)
        summary = json.loads(process.stdout.readline())
        assert process.wait(10) == 0
    assert (summary["delivered"], summary["failed"], summary["interrupted"]) == (3, 0, True)
    assert len(reader.finish()) == 3


def test_the_checker_reads_what_a_group_left_behind(broker: Broker, topics: TopicFactory) -> None:
    """A hand-made group: one transaction committed with its offsets, one aborted; then one that went too far."""
    from confluent_kafka import Consumer, TopicPartition

    names = topics(input=1, output=1, dlq=1)
    feeder = transactional(broker, names._replace(group=f"{names.group}-feeder"))
    for number in range(4):
        feeder.begin_transaction()
        feeder.produce(names.input, b"%d" % number, partition=0)
        feeder.commit_transaction(10)
    inputs = read_topic(broker.bootstrap, [names.input])
    assert [record.offset for record in inputs] == [0, 2, 4, 6]  # a marker after each
    reader = ConcurrentReader(broker.bootstrap, [names.output])
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": names.group, "enable.auto.commit": False})
    producer = transactional(broker, names)

    def transact(records: list[Record], *, commits: bool) -> None:
        producer.begin_transaction()
        for record in records:
            source = f"{record.topic}/{record.partition}/{record.offset}-{record.offset}"
            producer.produce(names.output, record.value, partition=0, headers=[("checkpoint-source", source.encode())])
        producer.flush(10)
        end = TopicPartition(names.input, 0, records[-1].offset + 1)
        # The metadata of a consumer that never joined: accepted for a group that has no members.
        producer.send_offsets_to_transaction([end], consumer.consumer_group_metadata(), 10)
        (producer.commit_transaction if commits else producer.abort_transaction)(10)

    def report(**how: Any) -> Any:
        found = collect(
            broker.bootstrap, names.group, inputs=names.input, outputs=[names.output], dead_letters=names.dlq
        )
        return check(*found, expected_values=lambda records: [record.value for record in records], **how)

    transact(inputs[:1], commits=True)
    transact(inputs[1:2], commits=False)
    assert report().ok
    transact(inputs[1:2], commits=True)
    done = report(concurrent=reader.finish())
    assert done.ok, done
    assert done.accounted == 2
    transact(inputs[2:3], commits=False)  # neither sent again nor rewound
    transact(inputs[3:], commits=True)
    assert [violation.kind for violation in report().violations] == ["lost"]
    consumer.close()
