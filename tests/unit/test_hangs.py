"""Members that hang: how that is seen, and what is left in the log of one that holds the interpreter."""

from __future__ import annotations

import subprocess
import sys
from multiprocessing import Pipe

import pytest

from consumer import hangs
from consumer.protocol import Status

WELL = Status(joined=True, partitions=2, progress={1: (7, None)})
CALLING = Status(joined=True, partitions=2, call=(90.0, "the worker of in/3 offset 55"))


@pytest.mark.parametrize(
    ("status", "silent", "reason"),
    [
        (None, 59.0, None),
        (None, 61.0, "call"),
        (WELL, 29.0, None),
        (WELL, 31.0, "silent"),
        (CALLING, 1.0, None),
    ],
)
def test_what_counts_as_hanging(status: Status | None, silent: float, reason: str | None) -> None:
    found = hangs.find(status, silent, 60.0, now=150.0)
    assert (found and found.reason) == reason


def test_the_reason_names_the_call_and_the_setting() -> None:
    found = hangs.find(CALLING, 0.1, 59.0, now=150.0)
    assert found == hangs.Hang("call", "the worker of in/3 offset 55 runs for 60 s: CONSUMER_WATCHDOG__CALL_SECONDS=59")
    silent = hangs.find(CALLING, 31.0, 7200.0, now=150.0)
    assert silent is not None
    assert silent.why.endswith("call under way at its last word: the worker of in/3 offset 55")
    silent = hangs.find(WELL, 31.0, 7200.0, now=150.0)
    assert silent is not None
    assert silent.why.endswith("call under way at its last word: none, after the offsets {1: (7, None)}")


HOLDS = """
import ctypes, faulthandler, sys
faulthandler.register(int(sys.argv[2]), int(sys.argv[1]), all_threads=True)

def holds_the_gil():
    print(flush=True)
    while True:
        ctypes.PyDLL(None).sleep(600)

holds_the_gil()
"""


def test_the_stacks_of_a_process_that_holds_the_gil() -> None:
    ours, theirs = Pipe(duplex=False)
    arguments = [sys.executable, "-c", HOLDS, str(theirs.fileno()), str(int(hangs.DUMP_SIGNAL))]
    with subprocess.Popen(arguments, pass_fds=[theirs.fileno()], stdout=subprocess.PIPE) as process:
        try:
            theirs.close()
            assert process.stdout is not None
            process.stdout.readline()
            assert any("in holds_the_gil" in line for line in hangs.stacks(process.pid, ours))
        finally:
            process.kill()
    ours.close()


def test_a_process_that_writes_nothing_is_not_waited_for() -> None:
    ours, theirs = Pipe(duplex=False)
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.sigwait([1])"]) as process:
        try:
            times = iter([0.0, 0.0, 2.0])
            assert hangs.stacks(process.pid, ours, lambda: next(times)) == []
        finally:
            process.kill()
    ours.close()
    theirs.close()
