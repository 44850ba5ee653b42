"""Configuration errors: exit 2 within seconds, one line that names the setting and what to do, no traceback."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.brokers.apicurio import Apicurio
from tests.brokers.find import Broker
from tests.brokers.jars import Unavailable
from tests.brokers.settings import free_port
from tests.brokers.topics import TopicFactory, Topics
from tests.kafka.commands import WORKERS, Done, Pipeline, Running, summary_of

IMPORTED = "tests.kafka"
NEVER = Topics("never-made.input", "never-made.output", "never-made.dlq", "never-made")


def assert_refused(done: Done, *words: str, within: float = 30.0) -> None:
    """Refused in one line. Seconds on an idle machine; the bounds here only tell an end from a wait for ever."""
    assert done.code == 2, done.stderr
    assert len(done.lines) == 1, done.stderr
    assert done.lines[0].startswith("checkpoint-consumer: ")
    for word in words:
        assert word in done.lines[0]
    assert done.loud == []
    assert "Traceback" not in done.stderr
    assert done.seconds < within


class Unanswered(NamedTuple):
    """A run that waits for a server at this address, to which the setting leads."""

    run: Running
    address: str
    setting: str


@pytest.fixture(scope="module", autouse=True)
def unanswered(broker: Broker) -> Iterator[list[Unanswered]]:
    """They take half a minute, in which the other tests of this module run."""
    factory = TopicFactory(broker)
    names = factory()
    closed = f"127.0.0.1:{free_port()}"
    with ExitStack() as stack:
        stack.callback(factory.close)
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        silent = f"127.0.0.1:{server.getsockname()[1]}"
        cases = [
            (setting, scheme, address)
            for setting, scheme in (("kafka__bootstrap_servers", ""), ("schema__registry_url", "http://"))
            for address in (closed, silent)
        ]
        pipelines = [Pipeline(broker, names, **{setting: f"{scheme}{address}"}) for setting, scheme, address in cases]
        yield [
            Unanswered(stack.enter_context(pipeline.running()), address, f"CONSUMER_{setting.upper()}")
            for pipeline, (setting, _, address) in zip(pipelines, cases, strict=True)
        ]


SETTINGS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "missing": ({"input_topic": None}, ["CONSUMER_INPUT_TOPIC is required", "set it to"]),
    "unknown": ({"batch__max_message": 5}, ["CONSUMER_BATCH__MAX_MESSAGE ", "CONSUMER_BATCH__MAX_MESSAGES"]),
    "wrong": ({"concurrency": "many"}, ["CONSUMER_CONCURRENCY", "whole number"]),
    "owned": ({"kafka__options": {"group.id": "g"}}, ["CONSUMER_KAFKA__OPTIONS", "group.id", "leave it out"]),
    "dangerous": (
        {"kafka__options": {"plugin.library.paths": "x"}},
        ["plugin.library.paths", "run code", "leave it out"],
    ),
    "start": ({"start": "checkpoint:5"}, ["CONSUMER_START", "CONSUMER_SEQUENCE__PARTITIONING"]),
    "no import path": ({"worker": "my_worker"}, ["CONSUMER_WORKER", "package.module:Name"]),
    "port": ({"http__port": 70000}, ["CONSUMER_HTTP__PORT", "65535"]),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_a_setting(broker: Broker, case: str) -> None:
    settings, words = SETTINGS[case]
    assert_refused(Pipeline(broker, NEVER).run(**settings), *words)


WORKERS_REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no module": ({"worker": "no_such_module:Worker"}, ["CONSUMER_WORKER=no_such_module:Worker", "correct the path"]),
    "no such name": ({"worker": f"{WORKERS}:Nothing"}, [f"CONSUMER_WORKER={WORKERS}:Nothing", "has no attribute"]),
    "not callable": ({"worker": f"{WORKERS}:NOTHING_TO_CALL"}, ["CONSUMER_WORKER", "is no class and no factory"]),
    "not a worker": ({"worker": f"{WORKERS}:not_a_worker"}, ["makes a dict, which is no consumer.Worker"]),
    "raises on import": (
        {"worker": f"{IMPORTED}.raises_on_import:Worker"},
        ["CONSUMER_WORKER", "RuntimeError: the first line and the second"],
    ),
    "exits on import": ({"worker": f"{IMPORTED}.exits_on_import:Worker"}, ["CONSUMER_WORKER", "SystemExit: 0"]),
    "wrong options": (
        {"worker": f"{WORKERS}:Noting", "worker_options": {"pth": "x"}},
        ["CONSUMER_WORKER", "CONSUMER_WORKER_OPTIONS (pth)", "unexpected keyword argument"],
    ),
    "no schema": ({"worker": f"{WORKERS}:WithoutSchema"}, ["WithoutSchema has no schema", "set `schema`"]),
    "schema file missing": (
        {"worker": f"{WORKERS}:SchemaFileMissing"},
        ["no-such-schema/v1.avsc", "CONSUMER_SCHEMA__PATH"],
    ),
    "schema wrong": ({"worker": f"{WORKERS}:SchemaWrong"}, ["no.such.Type"]),
    "schema path": ({"schema__path": "/no/such/folder"}, ["CONSUMER_SCHEMA__PATH", "/no/such/folder", "create it"]),
    "no reducer": ({"reducer": "consumer.reducers:None_"}, ["CONSUMER_REDUCER=consumer.reducers:None_"]),
    "reducer options": (
        {"reducer": "consumer.reducers:EpochReducer", "reducer_options": {"max_checkpoints": 0}},
        ["CONSUMER_REDUCER", "max_checkpoints", "from 1 up"],
    ),
    "reducer of others": (
        {"worker": "consumer.workers:TransactionWorker", "reducer": "consumer.reducers:EpochReducer"},
        ["EpochReducer takes CheckpointSummary", "TransactionWorker makes TransactionRecord"],
    ),
    "unknown option": ({"kafka__options": {"fetch.mn.bytes": "1"}}, ["fetch.mn.bytes", "CONSUMER_KAFKA__OPTIONS"]),
}


@pytest.mark.parametrize("case", WORKERS_REFUSED)
def test_a_worker_a_reducer_or_a_schema(broker: Broker, case: str) -> None:
    """Found by the members before they ask the brokers for anything."""
    settings, words = WORKERS_REFUSED[case]
    assert_refused(Pipeline(broker, NEVER).run(concurrency=2, **settings), *words)


TOPICS: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "input": ({"input": 0}, {}, [".input (CONSUMER_INPUT_TOPIC)", "create it"]),
    "output": ({"output": 0}, {}, [".output (CONSUMER_OUTPUT_TOPIC)", "create it"]),
    "dead letters": ({"dlq": 0}, {}, [".dlq (CONSUMER_DLQ_TOPIC)", "create it"]),
    "of the worker": ({}, {"worker": f"{WORKERS}:ElsewhereMissing"}, ["no-such-output (Worker.outputs)", "create it"]),
}


def test_a_topic_that_the_brokers_have_denied_for_five_seconds(broker: Broker, topics: TopicFactory) -> None:
    with ExitStack() as stack:
        runs = [
            stack.enter_context(Pipeline(broker, topics(**made), **settings).running())
            for made, settings, _ in TOPICS.values()
        ]
        for run, (_, _, words) in zip(runs, TOPICS.values(), strict=True):
            done = run.wait()
            assert_refused(done, *words)
            assert done.seconds > 5


def test_a_value_that_only_the_consumer_takes(broker: Broker, topics: TopicFactory) -> None:
    """Refused before anything of the group is written."""
    pipeline = Pipeline(broker, topics(), kafka__options={"fetch.min.bytes": "many"})
    assert_refused(pipeline.run(), "fetch.min.bytes", "CONSUMER_KAFKA__OPTIONS")
    assert pipeline.committed() == {}


def test_a_new_group_without_a_start(broker: Broker, topics: TopicFactory) -> None:
    pipeline = Pipeline(broker, topics(), start=None)
    assert_refused(pipeline.run(), f"group {pipeline.names.group} has no committed offset", "set CONSUMER_START to")
    assert pipeline.committed() == {}


def test_a_port_in_use(broker: Broker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = Pipeline(broker, NEVER).run(http__port=port)
    assert_refused(done, f"CONSUMER_HTTP__PORT {port}", "in use", "a free port")


def test_what_open_finds(broker: Broker, topics: TopicFactory) -> None:
    done = Pipeline(broker, topics(), worker=f"{WORKERS}:ClosesTheDoor", concurrency=2).run()
    assert_refused(done, "MY_DATABASE is not set: set it to the database's URL")


def test_a_run_that_waits_for_its_brokers_ends_at_once_when_it_is_told_to(broker: Broker) -> None:
    with Pipeline(broker, NEVER, kafka__bootstrap_servers=f"127.0.0.1:{free_port()}").running() as run:
        run.wait_for("no answer yet, waiting")
        before = run.elapsed
        done = run.stop()
    assert done.code == 0
    assert done.seconds - before < 15


# ---------------------------------------------------------------------------------------------------- the registry


@pytest.fixture(scope="module")
def apicurio() -> Iterator[Apicurio]:
    try:
        registry = Apicurio()
    except Unavailable as reason:
        if os.environ.get("TEST_REQUIRE_BROKER", "0") != "0":
            pytest.fail(f"no real schema registry: {reason}")
        pytest.skip(f"no real schema registry: {reason}")
    yield registry
    registry.close()


def test_with_a_registry_records_carry_its_ids_and_an_incompatible_schema_is_refused(
    broker: Broker, topics: TopicFactory, apicurio: Apicurio, tmp_path: Path
) -> None:
    pipeline = Pipeline(broker, topics(), schema__registry_url=apicurio.url)
    pipeline.feed(range(12))
    subject = f"{pipeline.names.output}-value"
    assert_refused(pipeline.run("--until-caught-up"), subject, apicurio.url, "CONSUMER_SCHEMA__AUTO_REGISTER=true")
    assert pipeline.outputs() == []

    assert pipeline.run("--until-caught-up", schema__auto_register="true", concurrency=3).code == 0

    ids = {(record.value or b"")[1:5] for record in pipeline.outputs()}
    assert len(ids) == 1
    registered = int.from_bytes(ids.pop(), "big")
    assert sorted(summary_of(r, registered)["sequence_number"] for r in pipeline.outputs()) == list(range(12))
    shown = pipeline.command("tail", "--no-follow")
    assert sorted(json.loads(line)["value"]["sequence_number"] for line in shown.splitlines()) == list(range(12))

    compatibility(apicurio, subject, "BACKWARD")
    refused = pipeline.run(worker=f"{WORKERS}:MoreFields", schema__auto_register="true")
    assert_refused(refused, "is not compatible", subject, "needed")


def compatibility(apicurio: Apicurio, subject: str, level: str) -> None:
    from consumer.rest import Rest

    assert Rest(apicurio.url, {}).call("PUT", f"/config/{subject}", {"compatibility": level}).status == 200


# ------------------------------------------------------------------------------------------ half a minute later


def test_servers_that_do_not_answer_are_named_within_5_s_and_given_up_after_30(unanswered: list[Unanswered]) -> None:
    """Brokers behind a closed port, brokers that accept and are silent, a registry of either kind."""
    for run, address, setting in unanswered:
        done = run.wait()
        assert done.code == 2, done.stderr
        started = done.said("member started")[0]["ts"]
        (said,) = done.said("no answer yet, waiting")
        assert seconds_between(started, said["ts"]) < 10
        assert address in said["of"]
        assert setting in said["of"]
        assert 30 <= seconds_between(started, done.said("stopping")[0]["ts"]) < 60
        (line,) = done.lines
        assert address in line
        assert setting in line
        assert "Traceback" not in done.stderr


def seconds_between(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
