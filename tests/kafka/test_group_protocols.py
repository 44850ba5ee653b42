"""The group protocols: `consumer` (KIP-848), `classic`, and `auto`, which takes what the broker has, in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupState, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from tests.brokers.find import Broker
from tests.brokers.jars import Unavailable
from tests.brokers.jvm import JvmBroker
from tests.brokers.topics import TopicFactory
from tests.kafka.commands import Pipeline

CLASSIC_OPTIONS = {"session.timeout.ms": "6000", "heartbeat.interval.ms": "1000", "max.poll.interval.ms": "60000"}


@pytest.fixture(scope="module")
def old_broker() -> Iterator[Broker]:
    """A broker of this day that has been told to do without the new protocol."""
    try:
        broker = JvmBroker(settings={"group.coordinator.rebalance.protocols": "classic"}, heap="384m")
    except Unavailable as reason:
        pytest.skip(f"a broker without KIP-848 is started as a JVM process: {reason}")
    yield broker
    broker.close()


@pytest.fixture
def old_topics(old_broker: Broker) -> Iterator[TopicFactory]:
    factory = TopicFactory(old_broker)
    yield factory
    factory.close()


def test_each_protocol_over_members_with_the_options_of_both(broker: Broker, topics: TopicFactory) -> None:
    """What the new protocol refuses is left out and named; the classic one takes it."""
    protocols = {"auto": "consumer", "consumer": "consumer", "classic": "classic"}
    pipelines = [
        Pipeline(broker, topics(), concurrency=3, kafka__group_protocol=protocol, kafka__options=CLASSIC_OPTIONS)
        for protocol in protocols
    ]
    with ExitStack() as stack:
        runs = [stack.enter_context(pipeline.running()) for pipeline in pipelines]
        for pipeline, run in zip(pipelines, runs, strict=True):
            run.wait_until(partial(at_rest, pipeline), "three members at rest")
            pipeline.feed(range(60))
            run.wait_until(partial(has_published, pipeline, 60), "the output")
        done = [run.stop() for run in runs]

    for one, pipeline, used in zip(done, pipelines, protocols.values(), strict=True):
        assert (one.code, one.loud) == (0, []), one.stderr
        left_out = ["session.timeout.ms", "heartbeat.interval.ms"] if used == "consumer" else []
        said = [(line["protocol"], line["options_left_out"]) for line in one.said("joining")]
        assert said == [(used, left_out)] * 3
        assert pipeline.numbers() == list(range(60))
        assert pipeline.audit().ok


def has_published(pipeline: Pipeline, count: int) -> bool:
    return len(pipeline.outputs()) == count


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_a_static_member_that_was_killed_comes_back(
    broker: Broker, topics: TopicFactory, tmp_path: Path, protocol: str
) -> None:
    """Under the new protocol its identity is free again only when the session of the one before is over."""
    pipeline = Pipeline(
        broker,
        topics(),
        concurrency=2,
        kafka__group_protocol=protocol,
        kafka__options=CLASSIC_OPTIONS,
        static_membership="true",
        batch__max_messages=10,
    )
    pipeline.feed(range(200))
    env = {"CHECKPOINT_FAILPOINTS": "after-flush=kill", "CHECKPOINT_FAILPOINTS_FIRED": str(tmp_path)}
    with pipeline.running(env=env) as run:
        run.wait_until(partial(has_published, pipeline, 200), "the output")
        done = run.stop()
    assert done.code == 0, done.stderr
    assert [line["reason"] for line in done.said("member died, it is started again")] == ["SIGKILL"]
    waited = done.said("this group.instance.id is still that of a member that did not leave, waiting")
    assert len(waited) == (1 if protocol == "consumer" else 0)
    assert pipeline.audit().ok


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_every_member_leaves_also_one_that_owns_nothing(broker: Broker, topics: TopicFactory, protocol: str) -> None:
    """Else the next ones wait for it until its session ends. In the middle of a classic rebalance librdkafka cannot."""
    pipeline = Pipeline(broker, topics(input=1), concurrency=3, kafka__group_protocol=protocol)
    with pipeline.running() as run:
        run.wait_until(partial(at_rest, pipeline), "three members at rest")
        done = run.stop()
    assert (done.code, done.loud) == (0, [])
    assert members(pipeline) == []


def at_rest(pipeline: Pipeline) -> bool:
    return len(members(pipeline, ConsumerGroupState.STABLE)) == 3


def members(pipeline: Pipeline, state: ConsumerGroupState | None = None) -> list[str]:
    """The client ids of the group's members, as the broker knows them; none where the group is in another state."""
    admin = AdminClient({"bootstrap.servers": pipeline.bootstrap})
    (future,) = admin.describe_consumer_groups([pipeline.names.group]).values()
    try:
        group = future.result()
    except KafkaException as error:
        code = error.args[0].code()
        # A broker that has just started takes over its groups one after the other; who waits asks again.
        if code == KafkaError.GROUP_ID_NOT_FOUND or (state is not None and code == KafkaError.NOT_COORDINATOR):
            return []
        raise
    return [member.client_id for member in group.members] if state in (None, group.state) else []


def test_auto_falls_back_where_the_broker_has_the_classic_protocol_only(
    old_broker: Broker, old_topics: TopicFactory
) -> None:
    pipeline = Pipeline(old_broker, old_topics(), concurrency=2, kafka__options=CLASSIC_OPTIONS)
    pipeline.feed(range(60))

    done = pipeline.run("--until-caught-up")

    assert (done.code, done.lines) == (0, [])
    assert [line for line in done.loud if line["logger"] != "librdkafka"] == []  # which tells of a cold broker
    said = done.said("the brokers do not have the consumer protocol, joining with the classic one")
    assert sorted(line["member"] for line in said) == [0, 1]
    assert "FATAL" not in done.stderr
    assert pipeline.numbers() == list(range(60))
    assert pipeline.audit().ok


def test_after_the_fallback_all_goes_on_as_ever(old_broker: Broker, old_topics: TopicFactory) -> None:
    deliveries = ["exactly_once", "at_least_once"]
    pipelines = [Pipeline(old_broker, old_topics(), delivery=delivery) for delivery in deliveries]
    with ExitStack() as stack:
        runs = [stack.enter_context(pipeline.running()) for pipeline in pipelines]
        for pipeline, run in zip(pipelines, runs, strict=True):
            run.wait_for("partitions assigned")
            pipeline.feed(range(30))
            run.wait_until(partial(has_published, pipeline, 30), "the output")
        done = [run.stop() for run in runs]
    for one, pipeline in zip(done, pipelines, strict=True):
        assert (one.code, one.loud) == (0, [])
        assert pipeline.numbers() == list(range(30))


def test_consumer_is_refused_where_the_broker_does_not_have_it(old_broker: Broker, old_topics: TopicFactory) -> None:
    done = Pipeline(old_broker, old_topics(), kafka__group_protocol="consumer").run()
    assert done.code == 2
    (line,) = done.lines
    assert "CONSUMER_KAFKA__GROUP_PROTOCOL to classic or auto" in line
    assert done.seconds < 30
    assert done.loud == []
