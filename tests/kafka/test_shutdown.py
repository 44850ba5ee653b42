"""Exit 0 within `CONSUMER_SHUTDOWN__TIMEOUT_SECONDS`, whatever the brokers and user code do, and nobody left."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Mapping

import psutil
import pytest

from tests.brokers.defects import unless_the_broker_breaks
from tests.brokers.find import Broker
from tests.kafka.conftest import PipelineFactory
from tests.kafka.pipelines import NOTHING, Pipeline, Run, eventually, together

TIMEOUT_SECONDS = 4.0
SOON_SECONDS = 2.0
SETTINGS = {"SHUTDOWN__TIMEOUT_SECONDS": str(TIMEOUT_SECONDS), "CONCURRENCY": "2", "BATCH__MAX_MESSAGES": "50"}
BLOCKS_AT = 100
KILLED = "member did not end in time, it is killed"
BY_FORCE = "member did not end in order"


def seconds_to_end(run: Run, send: Callable[[], None], code: int = 0) -> float:
    """From the signal to the exit with `code`, after which no process may be left."""
    since = time.monotonic()
    send()
    found = run.wait(30)
    took = time.monotonic() - since
    assert found == code, run.tail()
    eventually(lambda: not run.left(), f"none left of {run.left()}", SOON_SECONDS)
    return took


def busy(one: Pipeline) -> Run:
    """Two members in the middle of the work."""
    one.feed(3_000)
    run = one.start("one")
    eventually(lambda: sum(one.committed().values()) > 200, "the work has begun")
    return run


def blocked(one: Pipeline, settings: Mapping[str, str] = NOTHING) -> Run:
    """A member whose worker hangs, while others of its records are committed."""
    mark = one.folder / "calls"
    options = {"number": BLOCKS_AT, "seconds": 600, "mark": str(mark)}
    one.feed(600)
    hanging = {"WORKER": "tests.workers_for_tests:BlockingWorker", "WORKER_OPTIONS": json.dumps(options)}
    run = one.start("one", settings={**hanging, **settings})
    eventually(mark.exists, "the worker hangs")
    return run


def finish(one: Pipeline) -> None:
    """What was left is done by the next run, exactly once."""
    run = one.start("one")
    run.wait_for("joining")
    one.wait_until_done()
    run.stop()
    one.judge()


@pytest.mark.parametrize("reduced", [False, True], ids=["direct", "reduced"])
@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_sigterm_under_load_drains_and_leaves_the_group(
    pipeline: PipelineFactory, protocol: str, reduced: bool
) -> None:
    one = pipeline(protocol, SETTINGS, reduced=reduced)
    run = busy(one)

    assert seconds_to_end(run, lambda: run.signal(signal.SIGTERM)) < TIMEOUT_SECONDS

    assert one.members() == []
    assert not run.events(KILLED)
    finish(one)


def test_ctrl_c_reaches_the_whole_group_of_processes_and_is_one_stop(pipeline: PipelineFactory) -> None:
    # What is finished by then is published in few transactions, on a slow machine too.
    one = pipeline("consumer", {**SETTINGS, "BATCH__MAX_MESSAGES": "300"})
    run = busy(one)

    assert seconds_to_end(run, lambda: os.killpg(run.process.pid, signal.SIGINT)) < TIMEOUT_SECONDS

    assert len(run.events("stopping")) == 1
    assert len(run.members()) == 2
    assert all(line["drained"] for line in run.events("partitions revoked"))
    finish(one)


@pytest.mark.owns_broker
@pytest.mark.parametrize("gone", ["kill", "freeze"])
def test_sigterm_with_the_broker_gone(pipeline: PipelineFactory, broker: Broker, gone: str) -> None:
    deliveries = ("exactly_once", "at_least_once")
    made = [pipeline("consumer", {**SETTINGS, "DELIVERY": delivery}) for delivery in deliveries]

    def stopped(one: Pipeline) -> None:
        assert seconds_to_end(one.runs[0], lambda: one.runs[0].signal(signal.SIGTERM)) < TIMEOUT_SECONDS
        assert not one.runs[0].events(KILLED) + one.runs[0].events(BY_FORCE)

    def finished(one: Pipeline) -> None:
        run = one.start("one")
        run.wait_for("joining")
        one.wait_until_done()
        run.stop()
        report = one.report(once=one is made[0])
        assert report.ok, str(report)
        assert report.accounted == one.fed

    together(busy, made)
    with unless_the_broker_breaks(broker):
        getattr(broker, gone)()
        together(stopped, made)
        broker.thaw()
        broker.start()
        together(finished, made)


def test_sigterm_while_no_broker_has_ever_answered(pipeline: PipelineFactory) -> None:
    one = pipeline("consumer", {**SETTINGS, "KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"})
    run = one.start("one")
    run.wait_for("no answer yet, waiting")
    assert seconds_to_end(run, lambda: run.signal(signal.SIGTERM)) < TIMEOUT_SECONDS


def test_sigterm_while_the_members_are_starting(pipeline: PipelineFactory) -> None:
    run = pipeline("consumer", SETTINGS).start("one")
    run.wait_for("member started")
    assert seconds_to_end(run, lambda: run.signal(signal.SIGTERM)) < TIMEOUT_SECONDS


def stuck(one: Pipeline, where: str) -> Run:
    """A member whose user code does not come back from `where`."""
    mark = one.folder / "mark"
    options = json.dumps({"mark": str(mark)} if where == "commit" else {"where": where, "mark": str(mark)})
    kind = "REDUCER" if where == "commit" else "WORKER"
    target = f"tests.workers_for_tests:Stuck{kind.title()}"
    one.feed(100)
    run = one.start("one", settings={kind: target, f"{kind}_OPTIONS": options})
    if where == "close":  # the mark comes after the signal
        one.wait_until_done()
    else:
        eventually(mark.exists, f"the member is in {where}")
    return run


def test_sigterm_inside_user_code(pipeline: PipelineFactory) -> None:
    """A constructor blocks the poll thread itself, which then hears of nothing: its supervisor ends it."""
    places = ["make", "open", "close", "commit"]
    made = {
        pipeline("consumer", {**SETTINGS, "CONCURRENCY": "1"}, reduced=place == "commit"): place for place in places
    }

    def stopped(one: Pipeline) -> None:
        run = stuck(one, made[one])
        assert seconds_to_end(run, lambda: run.signal(signal.SIGTERM)) < TIMEOUT_SECONDS
        assert not run.events(BY_FORCE)
        assert bool(run.events(KILLED)) == (made[one] == "make"), run.tail()

    together(stopped, list(made))


@pytest.mark.owns_broker
@pytest.mark.parametrize("gone", ["kill", "freeze"])
def test_sigterm_with_the_broker_gone_while_the_member_waits_for_it(
    pipeline: PipelineFactory, broker: Broker, gone: str
) -> None:
    """The member is stopped at the place, goes on once the broker is gone, and is told to end at once."""
    places = ["before-init", "after-begin", "after-produce", "after-flush", "after-send-offsets", "in-revoke"]
    alone = {**SETTINGS, "CONCURRENCY": "1"}
    made = {pipeline("consumer", alone): place for place in places}
    made[pipeline("consumer", {**alone, "DELIVERY": "at_least_once"})] = "after-flush"  # in the commit

    def begun(one: Pipeline) -> None:
        one.feed(500)
        place = made[one]
        run = one.start("one", {place: "stop"})
        if place == "in-revoke":
            one.wait_until_owned(run)
            one.start("two")
        one.wait_until_fired([place])

    def stopped(one: Pipeline) -> None:
        run = one.runs[0]
        os.kill(one.fired()[made[one]], signal.SIGCONT)
        assert seconds_to_end(run, lambda: run.signal(signal.SIGTERM)) < TIMEOUT_SECONDS
        assert not run.events(KILLED) + run.events(BY_FORCE), run.tail()

    together(begun, list(made))
    getattr(broker, gone)()
    together(stopped, list(made))
    broker.thaw()
    broker.start()
    for run in (run for one in made for run in one.runs):
        run.kill()
    one = next(iter(made))
    eventually(lambda: one.members() == [], "the broker answers again")


@pytest.mark.skipif(os.geteuid() != 0, reason="process 1 of a new namespace can only be started by root")
def test_as_process_1_it_ends_in_time_and_buries_orphans(pipeline: PipelineFactory) -> None:
    one = pipeline("consumer", SETTINGS)
    one.feed(600)
    mark = one.folder / "mark"
    orphan = {"WORKER": "tests.workers_for_tests:StuckWorker", "CONCURRENCY": "1"}
    orphan["WORKER_OPTIONS"] = json.dumps({"where": "orphan", "mark": str(mark)})
    run = one.start("one", settings=orphan, prefix=["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"])
    one.wait_until_done()
    (first,) = psutil.Process(run.process.pid).children()
    left = [child.status() for child in first.children(recursive=True)]
    assert psutil.STATUS_ZOMBIE not in left

    assert seconds_to_end(run, lambda: first.send_signal(signal.SIGTERM)) < TIMEOUT_SECONDS

    assert not run.events(KILLED) + run.events(BY_FORCE)
    one.judge()


def test_sigterm_with_a_worker_that_hangs(pipeline: PipelineFactory) -> None:
    one = pipeline("consumer", SETTINGS)
    run = blocked(one)
    assert seconds_to_end(run, lambda: run.signal(signal.SIGTERM)) < TIMEOUT_SECONDS
    finish(one)


def test_a_second_signal_ends_at_once(pipeline: PipelineFactory) -> None:
    one = pipeline("consumer", SETTINGS)
    run = blocked(one, {"SHUTDOWN__TIMEOUT_SECONDS": "60"})
    run.signal(signal.SIGTERM)
    run.wait_for("stopping")
    assert seconds_to_end(run, lambda: run.signal(signal.SIGTERM), code=1) < SOON_SECONDS
    finish(one)


@pytest.mark.parametrize("hangs", [False, True], ids=["busy", "hanging"])
def test_members_end_by_themselves_when_their_supervisor_is_killed(pipeline: PipelineFactory, hangs: bool) -> None:
    one = pipeline("consumer", SETTINGS)
    run = blocked(one) if hangs else busy(one)
    run.signal(signal.SIGKILL)
    run.wait(SOON_SECONDS)
    eventually(lambda: not run.left(), f"none left of {run.left()}", TIMEOUT_SECONDS + 1)
    finish(one)
