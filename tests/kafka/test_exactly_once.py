"""Exactly-once on a real Kafka: 20,000 records, 6 partitions, 3 members, and everything that can go wrong on the way.

Judged from the topics alone. A fault that did not happen fails its test: failpoints leave proof, and the supervisor's
log counts the members that died.
"""

from __future__ import annotations

import os
import signal

import pytest

from tests.kafka.conftest import PipelineFactory
from tests.kafka.pipelines import PARTITIONS, SESSION_SECONDS, Run, eventually

RECORDS = 20_000
DIED = "member died, it is started again"
KILLS = {
    "after-begin": "kill@2",
    "after-produce": "kill@2",
    "after-flush": "kill@3",
    "after-send-offsets": "kill@2",
    "commit-in-flight": "kill-soon@3",
    "after-commit": "kill@2",
    "in-revoke": "kill",
}
both_protocols = pytest.mark.parametrize("protocol", ["consumer", "classic"])
both_modes = pytest.mark.parametrize("reduced", [False, True], ids=["direct", "reduced"])


def points(actions: dict[str, str]) -> str:
    return ",".join(f"{place}={action}" for place, action in actions.items())


@both_protocols
@both_modes
def test_members_killed_at_every_point_of_a_transaction(pipeline: PipelineFactory, protocol: str, reduced: bool) -> None:
    kills = {**KILLS, **({"in-reducer": "kill@3"} if reduced else {})}
    one = pipeline(protocol, reduced=reduced)
    one.feed(2_000)
    trio = one.start("trio", points(kills), CONCURRENCY="3")
    others = set(kills) - {"in-revoke"}
    for count in range(1, len(others) + 1):
        eventually(lambda count=count: len(others & one.fired().keys()) >= count, f"{count} of {kills} fired")
        one.feed(1_000)
    eventually(lambda: len(trio.owned()) == PARTITIONS, "the group is whole again")
    second = one.start("second")  # what it is given, the others must give up
    one.wait_until_fired(list(kills))
    one.feed(RECORDS - one.fed)
    one.wait_until_done()
    second.stop()
    trio.stop()

    assert len(trio.events(DIED, reason="SIGKILL")) == len(kills) == len(trio.events(DIED))
    one.judge()


@both_protocols
@both_modes
def test_zombies_that_wake_up_after_others_took_over(pipeline: PipelineFactory, protocol: str, reduced: bool) -> None:
    stops = {"after-flush": "stop@2", "after-send-offsets": "stop@2"}
    one = pipeline(protocol, reduced=reduced)
    zombies = [one.start(f"zombie-{place}", points({place: action})) for place, action in stops.items()]
    healthy = one.start("healthy")
    eventually(lambda: all(len(run.owned()) == 2 for run in one.runs), "each has its third of the partitions")
    one.feed(4_000)
    one.wait_until_fired(list(stops))
    one.feed(4_000)
    one.wait_until_owned(healthy, SESSION_SECONDS + 30)
    one.wait_until_done()
    for pid in one.fired().values():
        os.kill(pid, signal.SIGCONT)
    for zombie in zombies:
        eventually(lambda zombie=zombie: zombie.events("transaction failed"), "its transaction fails")
        eventually(lambda zombie=zombie: zombie.events("partitions lost"), "it hears that its partitions are lost")
    eventually(lambda: all(run.owned() for run in one.runs), "the zombies are members again")
    one.feed(RECORDS - one.fed)
    one.wait_until_done()
    for run in one.runs:
        run.stop()

    assert not any(run.events(DIED) for run in one.runs)
    one.judge()


@both_protocols
@both_modes
def test_scaling_to_three_and_back_while_transactions_abort(
    pipeline: PipelineFactory, protocol: str, reduced: bool
) -> None:
    aborts = {"after-begin": "abort@2", "after-produce": "abort@4", "after-flush": "abort@6"}
    aborts["after-send-offsets"] = "abort@8"
    one = pipeline(protocol, reduced=reduced)
    one.feed(4_000)
    first = one.start("first", points(aborts))
    one.wait_until_fired(list(aborts))
    others = [one.start("second"), one.start("third")]
    one.feed(6_000)
    eventually(lambda: all(len(run.owned()) == 2 for run in one.runs), "each has its third of the partitions")
    one.feed(4_000)
    for other in others:
        other.stop()
    one.wait_until_owned(first)
    one.feed(RECORDS - one.fed)
    one.wait_until_done()
    first.stop()

    assert not any(run.events(DIED) for run in one.runs)
    assert first.events("transaction failed", outcome="aborted", error="failpoint")
    one.judge()


@both_protocols
def test_at_least_once_loses_nothing_to_a_kill(
    pipeline: PipelineFactory, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kills = {"after-produce": "kill@3", "after-flush": "kill@3", "after-commit": "kill@2"}
    one = pipeline(protocol, DELIVERY="at_least_once")
    one.feed(2_000)
    trio = one.start("trio", points(kills), CONCURRENCY="3")
    for count in range(1, len(kills) + 1):
        eventually(lambda count=count: len(one.fired()) >= count, f"{count} of {kills} fired")
        one.feed(2_000)
    one.feed(RECORDS - one.fed)
    one.wait_until_done()
    trio.stop()

    assert len(trio.events(DIED, reason="SIGKILL")) == len(kills)
    report = one.report(once=False)
    assert report.ok, str(report)
    assert report.accounted == RECORDS
    assert 0 < report.repeated, "a kill between delivery and commit must show"
    with capsys.disabled():
        print(f"\nat least once: {report.repeated} of {RECORDS} records repeated after {len(kills)} kills")
