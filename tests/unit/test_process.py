"""What a member process says to its supervisor."""

from __future__ import annotations

import os
import signal
import threading
import time
from multiprocessing import Pipe
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any, cast

import pytest

from consumer import process as process_module
from consumer.core.messages import LimitReached, Stop
from consumer.kafka.source import Source
from consumer.process import MemberProcess, _tell
from consumer.protocol import Spec
from consumer.settings import Settings
from consumer.telemetry import Telemetry
from consumer.work.report import Closed, Measured, Tally, Woken


def test_a_supervisor_that_does_not_read_is_not_waited_for() -> None:
    ours, theirs = Pipe()
    sent = 0
    while _tell(theirs, bytes(4000), 0):
        sent += 1
    assert [len(ours.recv()) for _ in range(sent)] == [4000] * sent, "none in part"
    assert not ours.poll(0)
    assert _tell(theirs, b"again")


def test_a_large_status_is_written_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two of them user code may keep the GIL, and the supervisor would wait for the second."""
    ours, theirs = Pipe()
    written, write = [], os.write

    def writes(descriptor: int, data: memoryview) -> int:
        written.append(len(data))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", writes)
    message = {"metrics": bytes(100_000)}
    assert _tell(theirs, message)
    assert len(written) == 1
    assert ours.recv() == message


def test_a_supervisor_that_is_gone_is_not_an_error() -> None:
    ours, theirs = Pipe()
    ours.close()
    assert not _tell(theirs, b"!")


@pytest.mark.parametrize("fails", [RuntimeError("Consumer closed"), StopIteration()])
def test_a_failure_keeps_its_exit_code_where_the_group_cannot_be_left(
    fails: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    _, theirs = Pipe()
    process = MemberProcess(Spec(0, Settings(), "a:B", None, None), theirs)

    def abandon() -> None:
        raise fails

    process._source = cast(Source, SimpleNamespace(abandon=abandon))
    process._abandon()
    assert [line.getMessage() for line in caplog.records] == ["the group was not left in order"]


def test_the_supervisor_is_listened_to_again_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = Pipe()
    process = MemberProcess(Spec(0, Settings(), "a:B", None, None), theirs)
    now = 1000.0
    monkeypatch.setattr(process_module, "time", SimpleNamespace(monotonic=lambda: now))
    assert list(process._listen()) == []
    ours.send(("limit", None))
    now += 0.02
    assert list(process._listen()) == [LimitReached()], "a stop must not wait longer than this"


def test_a_stop_is_heard_while_the_group_is_left_to_join_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is done on a thread of its own, where Python lets nobody set a signal's handler."""
    ours, theirs = Pipe()
    process = MemberProcess(Spec(0, Settings(), "a:B", None, None), theirs)
    timers: list[float] = []
    monkeypatch.setattr(signal, "setitimer", lambda kind, seconds: timers.append(seconds))
    ours.send(("stop", time.monotonic() + 60.0))
    heard: list[object] = []
    thread = threading.Thread(target=lambda: heard.extend(process._listen()))
    thread.start()
    thread.join()
    assert [type(event) for event in heard] == [Stop]
    assert len(timers) == 1


def test_what_the_work_thread_counted_last_is_counted() -> None:
    """A bounded run may be over before the first measurement; other pools of the process go on and are scraped."""
    _, theirs = Pipe()
    process = MemberProcess(Spec(0, Settings(), "a:B", None, None), theirs)
    outbox: SimpleQueue[Any] = SimpleQueue()
    for report in (Woken(), Measured(Tally()), Closed(Tally())):
        if not isinstance(report, Woken):
            report.tally.dead_letters["DecodeError"] += 5
        outbox.put(report)
    telemetry = Telemetry("in", 0)
    process._await_closed(outbox, telemetry)
    assert telemetry._metrics.snapshot()["dead_letters_total", ("DecodeError",)] == [10]
