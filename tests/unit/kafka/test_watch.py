"""The watch over the topics, on an admin client that answers what a test says."""

from __future__ import annotations

from concurrent.futures import Future
from queue import Empty, SimpleQueue
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from consumer.errors import ConfigError, ExitCode, PolicyStop, Stop
from consumer.kafka.watch import INTERVAL_SECONDS, MISSING_SECONDS, Ends, Watch
from consumer.work.report import Broken

GONE = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
SILENT = KafkaError(KafkaError._TIMED_OUT)


class FakeAdmin:
    """Topics by name with their ids, or an error; the ends of the input's partitions likewise."""

    def __init__(self) -> None:
        self.ids: dict[str, str | KafkaError] = {"in": "a", "out": "b", "dlq": "c"}
        self.partitions = 2
        self.ends: dict[int, int | KafkaError] = {0: 7, 1: 9}

    def describe_topics(self, topics: Any, **named: Any) -> dict[str, Future[Any]]:
        return {name: answer(self.ids[name], self.partitions) for name in topics.topic_names}

    def list_offsets(self, asked: Any, **named: Any) -> dict[Any, Future[Any]]:
        return {at: answer(self.ends[at.partition]) for at in asked}


def answer(found: str | int | KafkaError, partitions: int = 0) -> Future[Any]:
    future: Future[Any] = Future()
    if isinstance(found, KafkaError):
        future.set_exception(KafkaException(found))
    else:
        future.set_result(SimpleNamespace(topic_id=found, offset=found, partitions=[None] * partitions))
    return future


class Watched:
    def __init__(self, counted: int | None = None) -> None:
        self.admin = FakeAdmin()
        self.outbox: SimpleQueue[Any] = SimpleQueue()
        admin = cast(AdminClient, self.admin)
        self.watch = Watch(
            admin, "in", dict.fromkeys(("out", "dlq", "in"), ""), lambda: [0, 1], self.outbox, 99.0, counted
        )

    def look(self, now: float = 0.0) -> Any:
        self.watch.look(now)
        try:
            return self.outbox.get_nowait()
        except Empty:
            return None


def test_the_ends_of_what_is_assigned_are_told() -> None:
    watched = Watched()
    assert watched.look() == Ends({0: 7, 1: 9})
    watched.admin.ends[0] = SILENT
    assert watched.look() == Ends({1: 9}), "the other partition counts all the same"


@pytest.mark.parametrize("name", ["in", "out", "dlq"])
def test_a_topic_is_deleted_when_the_brokers_have_said_so_for_5_seconds(name: str) -> None:
    watched = Watched()
    watched.look()
    watched.admin.ids[name] = GONE
    watched.look(10.0)
    watched.look(10.0 + MISSING_SECONDS - 0.1)
    with pytest.raises(ConfigError, match=f"topic {name} was deleted: create it again"):
        watched.look(10.0 + MISSING_SECONDS)


def test_one_that_not_all_brokers_know_yet_is_not_deleted() -> None:
    watched = Watched()
    for now in (0.0, 4.0, 8.0, 12.0):
        watched.admin.ids["in"] = GONE
        watched.look(now)
        watched.admin.ids["in"] = "a"
        watched.look(now + 2.0)


def test_an_input_that_was_made_anew_stops_by_policy() -> None:
    watched = Watched()
    watched.look()
    watched.admin.ids["in"] = "z"
    with pytest.raises(PolicyStop, match=r"topic in was deleted and made anew \(its id was a and is z\): the group's"):
        watched.look()


def test_an_output_that_was_made_anew_makes_the_member_start_again() -> None:
    watched = Watched()
    watched.look()
    watched.admin.ids["out"] = "z"
    with pytest.raises(Stop, match="the member starts again") as stop:
        watched.look()
    assert stop.value.exit_code == ExitCode.UNEXPECTED


def test_partitions_that_are_added_to_an_input_whose_partitions_count_make_the_member_start_again() -> None:
    uncounted, watched = Watched(), Watched(counted=2)
    for one in (uncounted, watched):
        one.look()
        one.admin.partitions = 3
    uncounted.look()
    with pytest.raises(Stop, match="topic in has 3 partitions now, and had 2") as stop:
        watched.look()
    assert stop.value.exit_code == ExitCode.UNEXPECTED


def test_brokers_that_do_not_answer_are_waited_for_and_nothing_counts_as_stuck_meanwhile() -> None:
    watched = Watched()
    watched.look()
    for name in ("in", "out", "dlq"):
        watched.admin.ids[name] = SILENT
    watched.admin.ends = {0: SILENT, 1: SILENT}
    assert watched.look(1000.0) == Ends({})


def test_a_topic_that_may_not_be_described_is_not_compared_and_the_others_are() -> None:
    watched = Watched()
    watched.admin.ids["dlq"] = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    watched.look()
    watched.admin.ids["out"] = "z"
    with pytest.raises(Stop):
        watched.look()


def test_the_thread_hands_over_what_ends_the_member() -> None:
    watched = Watched()
    watched.watch.look(0.0)
    watched.outbox.get()
    watched.admin.ids["in"] = "z"
    watched.watch.start()
    assert isinstance(watched.outbox.get(timeout=10), Broken)


def test_the_interval_is_bounded() -> None:
    assert Watched().watch._seconds == INTERVAL_SECONDS
