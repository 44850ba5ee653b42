"""The verb `dlq` on a real broker: what it lists and shows, and when `resume` may touch the group's offsets."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from consumer.errors import DecodeError, ExitCode
from consumer.work.publish import DeadLetters
from tests.brokers.find import Broker
from tests.brokers.topics import TopicFactory, Topics
from tests.kafka.commands import COMMAND, WORKERS, Done, Pipeline, Running, small

COUNTED = '{"v":1,"seq":7,"epoch":0,"dead":{"run":10,"last":"7ff"},"seen":"AQ=="}'
UNCOUNTED = '{"v":1,"seq":7,"epoch":0,"seen":"AQ=="}'
LIMIT = {"consecutive": 10, "of_last_1000": 11}


class Fetched:
    """An input record as a consumer gives it."""

    def __init__(self, offset: int, value: bytes) -> None:
        self.at, self.data = offset, value

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.at

    def key(self) -> bytes:
        return b"\x1b[2J"

    def value(self) -> bytes:
        return self.data

    def headers(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 1, 0


def bury(broker: Broker, names: Topics, values: dict[int, bytes], max_bytes: int = 1 << 20) -> None:
    """Write dead letters of input partition 0 into partition 0, as a member does."""
    makes = DeadLetters(names.dlq, 1, max_bytes, names.group, names.input)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": names.group})
    producer.init_transactions(30)
    producer.begin_transaction()
    for offset, value in values.items():
        error = DecodeError("the JSON is \x1b[31mmalformed") if offset % 2 == 0 else ValueError("no\nsuch account")
        letter = makes.record(Fetched(offset, value), [("h", b"1")], error, "decode", 3)
        producer.produce(names.dlq, letter.value, letter.key, 0, headers=dict[str, Any](letter.headers))
    producer.commit_transaction(30)


def failing(pipeline: Pipeline, *arguments: str) -> Done:
    run = Running([*COMMAND, *arguments], pipeline.environment())
    try:
        return run.wait()
    finally:
        run.close()


def test_list_says_what_and_why(broker: Broker, topics: TopicFactory) -> None:
    names = topics(input=0, output=0, dlq=1)
    pipeline = Pipeline(broker, names)
    bury(broker, names, {0: b"{", 1: small(1), 2: b"[]"})
    bury(broker, names, {4: b"\xff"})
    text = pipeline.command("dlq", "list").splitlines()
    assert all(map(str.isprintable, text))
    assert [line.split()[0] for line in text[:4]] == ["0/0", "0/1", "0/2", "0/4"], "offset 3 is a marker"
    assert f"{names.input}/0/1  decode  builtins.ValueError  {names.group}  attempt 3  no\\nsuch account" in text[1]
    assert [line.split() for line in text[4:]] == [
        ["4", "dead", "letters", "in", names.dlq],
        ["3", "consumer.errors.DecodeError"],
        ["1", "builtins.ValueError"],
    ]
    *letters, counts = map(json.loads, pipeline.command("dlq", "--json", "list", "--error", "DecodeError").splitlines())
    assert [letter["original"] for letter in letters] == [f"{names.input}/0/{offset}" for offset in (0, 2, 4)]
    assert letters[0]["message"] == "the JSON is \x1b[31mmalformed"
    assert counts == {"dead_letters": 3, "by_error": {"consumer.errors.DecodeError": 3}}
    assert len(pipeline.command("dlq", "list", "--json", "--max", "2").splitlines()) == 3


def test_show_tells_everything_and_fetches_what_was_too_large(broker: Broker, topics: TopicFactory) -> None:
    names = topics(input=1, output=0, dlq=1)
    pipeline = Pipeline(broker, names)
    pipeline.feed([0, 1], partitions=1)
    bury(broker, names, {0: b'{"a":\n[1]}', 1: b"\xff\x00", 3: b"\x1b[2J"})
    bury(broker, names, {0: small(0), 1: small(0), 9: small(0)}, max_bytes=1500)
    text = pipeline.command("dlq", "show", "0/0").splitlines()
    assert all(map(str.isprintable, text))
    assert next(line.split(maxsplit=1)[1] for line in text if line.startswith("header ")) == "h: 1"
    assert text[-5:] == ["{", '  "a": [', "    1", "  ]", "}"]
    assert pipeline.command("dlq", "show", "0/1").splitlines()[-1] == "00000000  ff 00"
    assert pipeline.command("dlq", "show", "0/2").splitlines()[-1] == "\\x1b[2J"

    def shown(place: str) -> Any:
        return json.loads(pipeline.command("dlq", "show", place, "--json"))

    assert shown("0/1")["value"] == {"base64": "/wA="}
    fetched = shown("0/4")
    assert fetched["value"] == json.loads(small(0))
    assert fetched["reference"] == f"size={len(small(0))};sha256={hashlib.sha256(small(0)).hexdigest()}"
    assert fetched["note"].endswith("SHA-256 is right")
    assert shown("0/5")["value"] is None
    assert "there is another one" in shown("0/5")["note"]
    assert "not there any more" in shown("0/6")["note"]
    tailed = [json.loads(line) for line in pipeline.command("tail", "--dlq", "--no-follow").splitlines()]
    assert [(line["offset"], line["value"]) for line in tailed[:3]] == [
        (0, {"a": [1]}),
        (1, {"base64": "/wA="}),
        (2, "\x1b[2J"),
    ]
    assert tailed[3]["headers"]["checkpoint-dlq-reference"] == fetched["reference"]
    missing = failing(pipeline, "dlq", "show", "0/3")
    assert (missing.code, missing.lines) == (
        1,
        [f"checkpoint-consumer: {names.dlq}/0/3 holds no record: use a place that `dlq list` prints"],
    )


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_resume_forgets_the_counts_of_a_group_without_members(
    broker: Broker, topics: TopicFactory, protocol: str
) -> None:
    names = topics(input=3, output=0, dlq=0)
    pipeline = Pipeline(broker, names)
    pipeline.feed(range(9), partitions=3)
    how = {"bootstrap.servers": broker.bootstrap, "group.id": names.group, "enable.auto.commit": False}
    at = [TopicPartition(names.input, 0, 2, COUNTED), TopicPartition(names.input, 1, 1, COUNTED)]
    at.append(TopicPartition(names.input, 2, 3, "foreign"))
    member = Consumer({**how, "group.protocol": protocol, "auto.offset.reset": "earliest", "client.id": "mate"})
    member.subscribe([names.input])
    while not member.consume(1, 1.0):
        pass
    member.commit(offsets=at, asynchronous=False)
    refused = failing(pipeline, "dlq", "resume")
    assert refused.code == 2
    assert f"group {names.group} has members: mate on " in refused.lines[-1]
    member.close()

    def committed() -> list[tuple[int, str | None]]:
        reader = Consumer(how)
        found = reader.committed(at, 10)
        reader.close()
        return [(one.offset, one.metadata) for one in found]

    only = json.loads(pipeline.command("dlq", "resume", "--partition", "1", "--json"))
    assert only["reset"] == [1]
    assert only["partitions"] == [{"partition": 1, "next_offset": 1, "dead_letters": LIMIT}]
    assert committed() == [(2, COUNTED), (1, UNCOUNTED), (3, "foreign")]
    said = pipeline.command("dlq", "resume").splitlines()
    assert said[0] == f"{names.input}/0  next offset 2  10 dead letters in a row, 11 of the last 1,000"
    assert said[1:] == [
        f"{names.input}/1  next offset 1  nothing to reset",
        f"{names.input}/2  next offset 3  nothing to reset",
        "1 of 3 partitions reset",
    ]
    assert committed() == [(2, UNCOUNTED), (1, UNCOUNTED), (3, "foreign")]
    assert json.loads(pipeline.command("dlq", "resume", "--json"))["reset"] == []
    assert failing(pipeline, "dlq", "resume", "--partition", "3").code == 2


def test_resume_waits_for_an_open_transaction(broker: Broker, topics: TopicFactory) -> None:
    """What it writes would stand above the transaction's own offset, and its output would be made again."""
    names = topics(input=1, output=0, dlq=0)
    pipeline = Pipeline(broker, names)
    pipeline.feed(range(9), partitions=1)
    outsider = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": names.group, "enable.auto.commit": False})
    outsider.commit(offsets=[TopicPartition(names.input, 0, 2, COUNTED)], asynchronous=False)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": names.group})
    producer.init_transactions(30)
    producer.begin_transaction()
    end = [TopicPartition(names.input, 0, 5, COUNTED)]
    producer.send_offsets_to_transaction(end, outsider.consumer_group_metadata(), 30)
    run = Running([*COMMAND, "dlq", "resume", "--json"], pipeline.environment())
    run.wait_for("no answer yet")
    producer.commit_transaction(30)
    assert run.wait().code == 0
    run.close()
    (found,) = outsider.committed(end, 10)
    outsider.close()
    assert (found.offset, found.metadata) == (5, UNCOUNTED)


def test_resume_lets_a_stopped_group_go_on(broker: Broker, topics: TopicFactory) -> None:
    broken: dict[str, Any] = {"worker": f"{WORKERS}:BrokenDeploy", "retry__max_attempts": 1}
    pipeline = Pipeline(broker, topics(input=1, dlq=1), dlq__max_consecutive=2, dlq__max_ratio=1)
    pipeline.feed(range(9), partitions=1)
    for committed, resumed in ((2, False), (2, True), (4, False)):
        assert pipeline.run(**broken).code == ExitCode.POLICY
        assert pipeline.committed() == {0: committed}
        if resumed:
            said = pipeline.command("dlq", "resume").splitlines()
            assert said[0] == f"{pipeline.names.input}/0  next offset 2  2 dead letters in a row, 2 of the last 1,000"
    counts = json.loads(pipeline.command("dlq", "list", "--json").splitlines()[-1])
    assert counts["dead_letters"] == 4
