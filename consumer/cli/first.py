"""Process 1 of a container: it takes care of what only that one can, and everything else runs in a child of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress

__all__ = ["run_as_child"]


def run_as_child(work: Callable[[], int]) -> int:
    """Call `work` in a child process and return its exit code (128 + N where signal N ended it).

    To process 1 a signal without a handler does nothing, and what members leave behind becomes its children when they
    end: it must wait for them, which a process with children of its own cannot do without taking their ends away.
    """
    kinds = (signal.SIGINT, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_BLOCK, kinds)
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)  # Ctrl-C reaches it through its parent only, or it would be told twice
        signal.pthread_sigmask(signal.SIG_UNBLOCK, kinds)
        return work()

    def forward(number: int, _: object) -> None:
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(child, number)

    for kind in kinds:
        signal.signal(kind, forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, kinds)
    while True:
        ended, status = os.wait()
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
