"""What stands still is noticed within its documented time, helped where that is possible, and never silent."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from consumer import hangs
from consumer.core.messages import FetchFailed, OutOfRange, Records
from consumer.executor import Executor, WorkerPool
from consumer.kafka.conf import consumer_conf
from consumer.kafka.source import Other, Source
from consumer.settings import load_settings
from tests.brokers.find import Broker
from tests.brokers.jvm import JvmBroker
from tests.brokers.settings import free_port
from tests.brokers.topics import TopicFactory
from tests.kafka.commands import probe
from tests.kafka.conftest import PipelineFactory
from tests.kafka.pipelines import DIED, PARTITIONS, Pipeline, Run, eventually, together

STUCK = "partition does not move"
HANGS = "member hangs, it is killed"
HANGS_AT = 100


def finish(one: Pipeline, run: Run) -> None:
    """Everything is done exactly once in spite of all."""
    one.wait_until_done()
    run.stop()
    one.judge()


# ------------------------------------------------------------------------------------------ standing partitions


def test_a_partition_whose_offset_is_held_does_not_hold_up_the_others(
    broker: Broker, pipeline: PipelineFactory
) -> None:
    """By an open transaction of an earlier owner, perhaps one that the brokers have left hanging (KAFKA-20734)."""
    one = pipeline("consumer")
    one.feed(600)
    one.commit([TopicPartition(one.names.input, number, 0) for number in range(PARTITIONS)])
    holder = Producer(
        {
            "bootstrap.servers": broker.bootstrap,
            "transactional.id": f"{one.names.group}-holder",
            "transaction.timeout.ms": 300_000,
        }
    )
    holder.init_transactions(30)
    holder.begin_transaction()
    member = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": one.names.group})
    holder.send_offsets_to_transaction([TopicPartition(one.names.input, 0, 0)], member.consumer_group_metadata(), 30)
    member.close()

    run = one.start("one")
    eventually(lambda: set(one.behind()) == {0}, "the other partitions are done", 30)
    eventually(lambda: run.events("committed offsets are not known yet")[-1].get("partition") == 0, "it is named")
    holder.abort_transaction(30)
    finish(one, run)


def test_partitions_that_stand_still_are_helped_step_by_step(pipeline: PipelineFactory) -> None:
    """The client never hears of a resume, once or for ever: what it fetches stands still and no error comes."""

    def helped(one: Pipeline) -> None:
        one.feed(300)
        run = one.start("one", {"resume": "lose"})
        one.wait_until_done()
        assert {line["remedy"] for line in run.events(STUCK)} == {"seek"}
        finish(one, run)

    def lost(one: Pipeline) -> None:
        one.feed(300)
        run = one.start("one", {"resume": "lose@1+"})
        run.wait_for(DIED)
        steps = [line["remedy"] for line in run.events(STUCK) if line["partition"] == 0]
        assert steps[:3] == ["seek", "rejoin", "exit"]
        assert len(run.events("joining")) >= 2
        (died,) = run.events(DIED)[:1]
        assert died["reason"] == "exit 1"
        assert "stands still: running for" in died["why"]
        run.stop()
        finish(one, one.start("one"))

    settings = {"WATCHDOG__STUCK_SECONDS": "2"}
    made = [pipeline("consumer", settings), pipeline("classic", settings)]
    together(lambda one: helped(one) if one is made[0] else lost(one), made)


def test_an_idle_pipeline_whose_input_ends_in_transaction_markers_is_not_stuck(pipeline: PipelineFactory) -> None:
    one = pipeline("consumer", {"WATCHDOG__STUCK_SECONDS": "1"})
    one.feed(300)
    run = one.start("one")
    one.wait_until_done()
    looks = 0

    def looked_often() -> bool:
        nonlocal looks
        looks += one.committed() != {}
        return looks > 60  # 3 s at least

    eventually(looked_often, "it was watched for a while")
    assert not run.events(STUCK)
    finish(one, run)


def test_what_is_late_even_by_itself_ends_the_member_and_is_named(pipeline: PipelineFactory) -> None:
    """The flush is never over, as over a slow link, while the brokers answer."""
    options = {"transaction.timeout.ms": "1000", "session.timeout.ms": "6000", "heartbeat.interval.ms": "1000"}
    one = pipeline("consumer", {"WATCHDOG__STUCK_SECONDS": "4", "KAFKA__OPTIONS": json.dumps(options)})
    one.feed(300)
    run = one.start("one", {"in-flush": "lose@1+"})
    assert run.wait(45) == 3, run.tail()
    where = rf"the result of {re.escape(one.names.input)}/(\d) offsets (\d+)-(\d+) \("
    found = re.search(where, run.tail())
    assert found is not None, run.tail()
    partition, first, last = map(int, found.groups())
    assert first == last, "it was divided"
    for part in ("sent by itself", "within the 0.3 s", "transaction.timeout.ms", "CONSUMER_KAFKA__OPTIONS"):
        assert part in run.tail()
    assert one.committed().get(partition, 0) <= first
    finish(one, one.start("one"))


@pytest.mark.owns_broker
def test_a_damaged_batch_pauses_its_partition_and_the_others_go_on(pipeline: PipelineFactory, broker: Broker) -> None:
    if not isinstance(broker, JvmBroker):
        pytest.skip("damaging a topic wants the broker's own files")
    one = pipeline("consumer")
    one.feed(600)
    (log,) = (broker.folder / "data" / f"{one.names.input}-2").glob("*.log")
    damage(log)
    run = one.start("one")
    run.wait_for(STUCK)
    eventually(lambda: len(one.committed()) >= PARTITIONS - 1, "the others are done")
    line, *_ = run.events(STUCK)  # more of them where it was tried again before the others were done
    assert (line["partition"], line["offset"], line["remedy"]) == (2, 0, "wait")
    assert "3 times: tried again in" in line["why"]
    assert line["level"] == "error"
    damage(log)  # back as it was
    finish(one, run)


def damage(log: Path) -> None:
    """Flip one bit of the log's first batch, or flip it back."""
    with log.open("r+b") as file:
        file.seek(200)
        (byte,) = file.read(1)
        file.seek(200)
        file.write(bytes([byte ^ 1]))


# --------------------------------------------------------------------------------------------- hanging members


@pytest.mark.parametrize("worker", ["HangsOnce", "AwaitsForever"])
def test_a_call_that_takes_too_long_is_ended_with_its_process(pipeline: PipelineFactory, worker: str) -> None:
    one = pipeline("consumer")
    one.feed(600)
    run = one.start("one", settings=hanging(one, worker))
    run.wait_for(DIED)
    (line,) = run.events(HANGS)
    assert line["why"].startswith(f"the worker of {one.names.input}/{HANGS_AT % PARTITIONS} offset ")
    assert line["why"].endswith(" s: CONSUMER_WATCHDOG__CALL_SECONDS=2")
    stack = "\n".join(line["stack"])
    assert "consumer/member.py" in stack, "the poll thread"
    assert "in process_checkpoint" in stack or worker == "AwaitsForever"
    (died,) = run.events(DIED)
    assert died["reason"] == "call"
    finish(one, run)


def hanging(one: Pipeline, worker: str) -> dict[str, str]:
    options = {"number": HANGS_AT, "mark": str(one.folder / "mark")}
    return {
        "WORKER": f"tests.workers_for_tests:{worker}",
        "WORKER_OPTIONS": json.dumps(options),
        "WATCHDOG__CALL_SECONDS": "2",
        "MAX_IN_FLIGHT": "2" if worker == "AwaitsForever" else "1",
    }


def test_a_member_that_keeps_the_gil_is_killed(
    pipeline: PipelineFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The supervisor is in this process: so that the 30 s of silence can be 3."""
    monkeypatch.setattr(hangs, "SILENT_SECONDS", 3.0)
    one = pipeline("consumer")
    one.feed(600)
    for name, value in one.environment("one", hanging(one, "KeepsTheGil")).items():
        monkeypatch.setenv(name, value)
    executor = Executor()
    executor.register(WorkerPool("tests.workers_for_tests:KeepsTheGil", one.names.group))
    running = threading.Thread(target=executor.run)
    running.start()
    try:
        one.wait_until_done()
    finally:
        executor.stop()
        running.join()
    (hang,) = [line.__dict__["fields"] for line in caplog.records if line.getMessage() == HANGS]
    assert hang["why"].startswith("nothing was heard of it for 3 s: user code keeps the interpreter (GIL) for itself")
    assert any("in process_checkpoint" in text for text in hang["stack"])
    one.judge()


# ---------------------------------------------------------------------------------------------------- topics


def idle(one: Pipeline, records: int = 60) -> Run:
    """A member with nothing to do, which has looked at the topics."""
    if records:
        one.feed(records)
    run = one.start("one", settings={"WATCHDOG__STUCK_SECONDS": "4"})
    one.wait_until_done()
    run.wait_for("topics watched")
    return run


def test_a_topic_that_is_deleted_ends_the_member_though_nothing_is_published(
    pipeline: PipelineFactory, topics: TopicFactory
) -> None:
    def deleted(one: Pipeline) -> None:
        run = idle(one)
        name = one.names[made.index(one)]
        topics.delete(name)
        assert run.wait(20) == 2, run.tail()
        assert f"topic {name} was deleted: create it again and start again" in run.tail()

    made = [pipeline("consumer") for _ in ("input", "output", "dlq")]
    together(deleted, made)


def test_a_topic_that_is_made_anew_is_not_taken_for_the_old_one(
    pipeline: PipelineFactory, topics: TopicFactory
) -> None:
    def read(one: Pipeline) -> None:
        run = idle(one, records=0)  # an offset of the old topic would be out of range at once, which stops it as well
        topics.delete(one.names.input)
        topics.make(one.names.input, PARTITIONS)
        assert run.wait(20) == 3, run.tail()
        assert f"topic {one.names.input} was deleted and made anew" in run.tail()
        assert "take another CONSUMER_GROUP_ID" in run.tail()

    def written(one: Pipeline) -> None:
        run = idle(one)
        topics.delete(one.names.output)
        topics.make(one.names.output, PARTITIONS + 1)
        run.wait_for(DIED)
        (died,) = run.events(DIED)
        assert "what was published to the old one is gone" in died["why"]
        one.feed(60)
        one.wait_until_done()
        run.stop()

    made = [pipeline("consumer"), pipeline("consumer")]
    together(lambda one: read(one) if one is made[0] else written(one), made)


def test_an_offset_committed_into_a_topic_that_was_made_anew_skips_nothing(
    pipeline: PipelineFactory, topics: TopicFactory
) -> None:
    """As a member commits that has not noticed yet, and after a restart nothing would tell: the offset is in range."""
    one = pipeline("consumer")
    one.feed(60)
    run = one.start("one")
    one.wait_until_done()
    run.stop()
    old = one.offsets()
    topics.delete(one.names.input)
    topics.make(one.names.input, PARTITIONS)
    one.feed(120)
    one.commit(old)

    run = one.start("one")
    assert run.wait(20) == 3, run.tail()
    assert "is of a deleted topic of this name" in run.tail()
    assert one.committed() == {at.partition: at.offset for at in old}


def test_an_input_with_more_partitions_than_the_audit_counts_on_makes_the_member_start_again(
    pipeline: PipelineFactory, topics: TopicFactory
) -> None:
    one = pipeline("consumer", {"SEQUENCE__PARTITIONING": "modulo"})
    run = idle(one)
    topics.grow(one.names.input, PARTITIONS + 1)
    run.wait_for(DIED)
    (died,) = run.events(DIED)
    assert f"topic {one.names.input} has {PARTITIONS + 1} partitions now, and had {PARTITIONS}" in died["why"]
    one.feed(60)
    finish(one, run)
    assert len(run.events(DIED)) == 1


def test_retention_that_overtakes_the_group_stops_it(pipeline: PipelineFactory, topics: TopicFactory) -> None:
    one = pipeline("consumer")
    one.feed(60)
    run = one.start("one")
    one.wait_until_done()
    run.stop()

    for number, at in one.committed().items():  # up to the group: offset 0, where a client is assigned, is gone
        topics.trim(one.names.input, number, at)
    one.feed(60)
    run = one.start("one")
    one.wait_until_done()
    run.stop()

    at = one.committed()[4]
    one.feed(60)
    topics.trim(one.names.input, 4, at + 5)
    run = one.start("one")
    assert run.wait(20) == 3, run.tail()
    assert f"{one.names.input}/4: the next offset {at} is out of range" in run.tail()
    assert one.committed()[4] == at


class Owner:
    """Hears of rebalances."""

    def __init__(self) -> None:
        self.owned: set[int] = set()

    def assigned(self, partitions: Sequence[int]) -> None:
        self.owned.update(partitions)

    def revoked(self, partitions: Sequence[int]) -> None:
        self.owned.difference_update(partitions)

    lost = revoked


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_a_partition_can_be_sought_after_an_offset_that_was_out_of_range(
    pipeline: PipelineFactory, topics: TopicFactory, protocol: Literal["consumer", "classic"]
) -> None:
    """A client is assigned at offset 0, and may fetch there before it is paused: retention may have taken that away."""
    one = pipeline(protocol)
    one.feed(60)
    topics.trim(one.names.input, 4, 5)
    settings = load_settings(one.environment("one", {}))
    owner = Owner()
    source = Source(consumer_conf(settings, member=0, group_protocol=protocol)[0], one.names.input, owner)
    source.join()

    def polled() -> tuple[Records, list[Other]]:
        return source.poll(0.1, 100)

    try:
        eventually(lambda: [polled(), len(owner.owned) == PARTITIONS][1], "assigned")
        eventually(lambda: source.seek(4, 0), "sought")
        source.resume([4])
        (event,) = eventually(lambda: polled()[1], "out of range")
        assert (type(event), event.partition, event.offset) == (OutOfRange, 4, 0)
        assert source.seek(4, 7), "never possible again"
        source.resume([4])
        (chunk,) = eventually(lambda: polled()[0].chunks, "records")
        assert (chunk.partition, chunk.offsets[0]) == (4, 7)
    finally:
        source.close()


def test_a_new_partition_of_a_topic_that_is_just_deleted_is_an_error_that_may_pass(
    pipeline: PipelineFactory, topics: TopicFactory
) -> None:
    """Its beginning is asked for, which fails: there is no offset to judge."""
    one = pipeline("consumer")
    settings = load_settings(one.environment("one", {}))
    owner = Owner()
    source = Source(consumer_conf(settings, member=0, group_protocol="consumer")[0], one.names.input, owner)
    source.join()
    try:
        eventually(lambda: [source.poll(0.1, 100), len(owner.owned) == PARTITIONS][1], "assigned")
        topics.delete(one.names.input)
        for number in range(PARTITIONS):
            assert source.seek(number, None)
        source.resume(range(PARTITIONS))
        event = eventually(lambda: source.poll(0.1, 100)[1], "an error")[0]
        assert isinstance(event, FetchFailed), event
        assert event.error.startswith("_AUTO_OFFSET_RESET: failed to query logical offset")
    finally:
        source.close()


# ---------------------------------------------------------------------------------------------------- health


@pytest.mark.owns_broker
def test_a_frozen_broker_and_a_slow_checkpoint_leave_the_member_live(pipeline: PipelineFactory, broker: Broker) -> None:
    one = pipeline("consumer")
    one.feed(600)
    port = free_port()
    settings = {**hanging(one, "HangsOnce"), "WATCHDOG__CALL_SECONDS": "600", "HTTP__PORT": str(port)}
    run = one.start("one", settings=settings)
    eventually((one.folder / "mark").exists, "the worker hangs")
    assert eventually(lambda: probe(port, "readyz")[0], "ready")
    broker.freeze()
    for _ in range(20):
        assert probe(port, "livez") == (True, {"reasons": []})
        threading.Event().wait(0.25)
    assert len(run.members()) == 1
    run.signal(signal.SIGTERM)
    eventually(lambda: not probe(port, "readyz")[0], "stopping is not ready")
    assert run.wait(15) == 0
