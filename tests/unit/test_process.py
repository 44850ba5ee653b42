"""What a member process says to its supervisor."""

from __future__ import annotations

import threading
from multiprocessing import Pipe

from consumer.process import MemberProcess, _tell
from consumer.protocol import Spec
from consumer.settings import Settings
from consumer.settings.model import ShutdownSettings


def test_a_supervisor_that_does_not_read_is_not_waited_for() -> None:
    ours, theirs = Pipe()
    sent = 0
    while _tell(theirs, bytes(4000), 0):
        sent += 1
    assert [len(ours.recv()) for _ in range(sent)] == [4000] * sent, "none in part"
    assert not ours.poll(0)
    assert _tell(theirs, b"again")


def test_a_supervisor_that_is_gone_is_not_an_error() -> None:
    ours, theirs = Pipe()
    ours.close()
    assert not _tell(theirs, b"!")


def test_a_close_that_hangs_is_left_behind() -> None:
    settings = Settings(shutdown=ShutdownSettings(timeout_seconds=0.3))
    _, theirs = Pipe()
    brokers, closed = threading.Event(), threading.Event()

    def close() -> None:
        brokers.wait(10)
        closed.set()

    MemberProcess(Spec(0, settings, "a:B", None, None), theirs)._leave(close)

    assert not closed.is_set()
    brokers.set()
    assert closed.wait(10)
