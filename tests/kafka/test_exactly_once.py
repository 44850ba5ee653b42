"""Exactly-once on a real Kafka: 20,000 records, 6 partitions, 3 members, and everything that can go wrong on the way.

Judged from the topics alone. A fault that did not happen fails its test: failpoints leave proof, and the supervisor's
log counts the members that died. Direct and reduced mode run side by side, since what takes time here is waiting.
"""

from __future__ import annotations

import os
import signal
import threading

import pytest

from tests.brokers.defects import unless_the_broker_breaks
from tests.brokers.find import Broker
from tests.kafka.conftest import PipelineFactory
from tests.kafka.pipelines import (
    DIED,
    PARTITIONS,
    SESSION_SECONDS,
    Pipeline,
    eventually,
    together,
)

RECORDS = 20_000
KILLS = {
    "after-begin": "kill@2",
    "after-produce": "kill@2",
    "after-flush": "kill@3",
    "after-send-offsets": "kill@2",
    "commit-in-flight": "kill-soon@3",
    "after-commit": "kill@2",
    "in-revoke": "kill",
}
ABORTS = {
    "after-begin": "abort@2",
    "after-produce": "abort@4",
    "after-flush": "abort@6",
    "after-send-offsets": "abort@8",
    "commit-in-flight": "lose@10",
    "after-commit": "lose@12",
}
THREE = {"CONCURRENCY": "3"}
FENCED_SECONDS = 4
"""Twice `broker.session.timeout.ms` of the test brokers."""
both_protocols = pytest.mark.parametrize("protocol", ["consumer", "classic"])


def both_modes(pipeline: PipelineFactory, protocol: str) -> list[Pipeline]:
    return [pipeline(protocol, reduced=reduced) for reduced in (False, True)]


def thirds(one: Pipeline) -> None:
    """Wait until each of three members has its third of the partitions."""
    eventually(lambda: [len(run.owned()) for run in one.runs] == [2, 2, 2], "each has its third of the partitions")


@both_protocols
def test_members_killed_at_every_point_of_a_transaction(pipeline: PipelineFactory, protocol: str) -> None:
    together(killed_at_every_point, both_modes(pipeline, protocol))


def killed_at_every_point(one: Pipeline) -> None:
    kills = {**KILLS, **({"in-reducer": "kill@3"} if one.reduced else {})}
    one.feed(2_000)
    trio = one.start("trio", kills, THREE)
    others = kills.keys() - {"in-revoke"}
    for count in range(1, len(others) + 1):
        one.wait_until_fired(others, count, feeding=100)
        one.feed(500)
    eventually(lambda: len(trio.owned()) == PARTITIONS, "the group is whole again")
    second = one.start("second")  # what it is given, the others must give up
    one.wait_until_fired(kills)
    one.feed(RECORDS - one.fed)
    one.wait_until_done()
    second.stop()
    trio.stop()

    assert len(trio.events(DIED, reason="SIGKILL")) == len(kills) == len(trio.events(DIED))
    one.judge()


@both_protocols
def test_zombies_that_wake_up_after_others_took_over(pipeline: PipelineFactory, protocol: str) -> None:
    together(zombies_wake_up, both_modes(pipeline, protocol))


def zombies_wake_up(one: Pipeline) -> None:
    stops = {"after-flush": "stop@2", "after-send-offsets": "stop@2"}
    # Small transactions: more results wait behind the one that falls asleep, and none of them may be published later.
    small = {"BATCH__MAX_MESSAGES": "20"}
    zombies = [one.start(f"zombie-{place}", {place: action}, small) for place, action in stops.items()]
    healthy = one.start("healthy")
    thirds(one)
    one.feed(4_000)
    one.wait_until_fired(stops, feeding=100)
    one.feed(4_000)
    one.wait_until_owned(healthy, SESSION_SECONDS + 30)
    one.wait_until_done()
    for pid in one.fired().values():
        os.kill(pid, signal.SIGCONT)
    for zombie in zombies:
        zombie.wait_for("transaction failed")
        zombie.wait_for("partitions lost")
    eventually(lambda: all(run.owned() for run in one.runs), "the zombies are members again")
    one.feed(RECORDS - one.fed)
    one.wait_until_done()
    for run in one.runs:
        run.stop()

    assert not any(run.events(DIED) for run in one.runs)
    one.judge()


@both_protocols
def test_scaling_to_three_and_back_while_transactions_abort(pipeline: PipelineFactory, protocol: str) -> None:
    together(scaled, both_modes(pipeline, protocol))


def scaled(one: Pipeline) -> None:
    first = one.start("first", ABORTS)
    while not ABORTS.keys() <= one.fired().keys():
        one.feed(500)
        one.wait_until_done()
    others = [one.start("second"), one.start("third")]
    one.feed(4_000)
    thirds(one)
    one.feed(4_000)
    for other in others:
        other.stop()
    one.wait_until_owned(first)
    one.feed(RECORDS - one.fed)
    one.wait_until_done()
    first.stop()

    assert not any(run.events(DIED) for run in one.runs)
    assert {line["outcome"] for line in first.events("transaction failed")} == {"aborted", "unknown"}
    one.judge()


def test_at_least_once_loses_nothing_to_a_kill(pipeline: PipelineFactory, capsys: pytest.CaptureFixture[str]) -> None:
    made = [pipeline(protocol, {"DELIVERY": "at_least_once"}) for protocol in ("consumer", "classic")]
    kills = {"after-produce": "kill@3", "after-flush": "kill@3", "after-commit": "kill@2"}

    def killed(one: Pipeline) -> None:
        one.feed(2_000)
        trio = one.start("trio", kills, THREE)
        for count in range(1, len(kills) + 1):
            one.wait_until_fired(kills, count, feeding=100)
            one.feed(2_000)
        one.feed(RECORDS - one.fed)
        one.wait_until_done()
        trio.stop()
        assert len(trio.events(DIED, reason="SIGKILL")) == len(kills)
        report = one.report(once=False)
        assert report.ok, str(report)
        assert report.accounted == RECORDS
        assert report.repeated > 0, "a kill between delivery and commit must show"
        with capsys.disabled():
            print(f"\nat least once: {report.repeated} of {RECORDS} records repeated after {len(kills)} kills")

    together(killed, made)


def test_of_two_processes_with_one_identity_one_ends_with_exit_code_4(pipeline: PipelineFactory) -> None:
    one = pipeline("consumer")
    one.feed(500)
    first = one.start("same")
    eventually(lambda: sum(one.committed().values()) > 200, "the work has begun")
    runs = [first, one.start("same")]

    def ended() -> list[int]:
        one.feed(50)  # a fence is met by those who publish
        return [code for run in runs if (code := run.process.poll()) is not None]

    assert eventually(ended, "one gives way") == [4], "a restart would fence the other one again"
    (left,) = [run for run in runs if run.process.poll() is None]
    (gone,) = [run for run in runs if run is not left]
    assert "CONSUMER_INSTANCE_ID" in gone.tail()
    one.wait_until_done()
    left.stop()
    one.judge()


@pytest.mark.owns_broker
def test_a_broker_that_the_controller_fenced_and_took_back(broker: Broker, pipeline: PipelineFactory) -> None:
    """Silent for longer than its session: its partitions and coordinators go and come back, and clients with them."""
    pipelines = both_modes(pipeline, "consumer")
    small = {"BATCH__MAX_MESSAGES": "20"}
    for one in pipelines:
        one.feed(2_000)
        one.wait_until_owned(one.start("trio", {}, {**THREE, **small}))
    with unless_the_broker_breaks(broker):
        for _ in range(2):
            for one in pipelines:
                one.feed(1_500)
            broker.freeze()
            try:
                threading.Event().wait(FENCED_SECONDS)
            finally:
                broker.thaw()
            together(lambda one: one.wait_until_done(), pipelines)
        for one in pipelines:
            one.runs[0].stop()
            one.judge()
