"""What a member process says to its supervisor."""

from __future__ import annotations

from multiprocessing import Pipe

from consumer.process import _tell


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
