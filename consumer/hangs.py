"""Members that hang: known by what they last said, and killed with the stacks of all their threads in the log."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

from consumer.protocol import Status

SILENT_SECONDS = 30.0
"""A member says something twice a second, whatever its user code and the brokers do, unless the GIL is held."""
DUMP_SECONDS = 1.0
DUMP_SIGNAL = signal.SIGUSR1
"""On it a member writes the stacks: `faulthandler`, in C, also where the GIL is held."""


@dataclass(frozen=True, slots=True)
class Hang:
    """Why a member must be killed; `reason` is for metrics, `why` for people."""

    reason: str
    why: str


def find(status: Status | None, silent_seconds: float, call_seconds: float, now: float) -> Hang | None:
    """Whether a member hangs, by its last status and how long it has said nothing.

    `call_seconds` is `CONSUMER_WATCHDOG__CALL_SECONDS`. It also bounds the time until the first status: user code is
    imported and constructed then.
    """
    called = f"CONSUMER_WATCHDOG__CALL_SECONDS={call_seconds:g}"
    if status is None:
        if silent_seconds > call_seconds:
            return Hang("call", f"it has imported and made the worker for {silent_seconds:.0f} s: {called}")
        return None
    if silent_seconds > SILENT_SECONDS:
        last = status.call[1] if status.call is not None else f"none, after the offsets {status.progress}"
        return Hang(
            "silent",
            f"nothing was heard of it for {silent_seconds:.0f} s: user code keeps the interpreter (GIL) for itself, or "
            f"the poll thread hangs; call under way at its last word: {last}",
        )
    if status.call is not None and (seconds := now - status.call[0]) > call_seconds:
        return Hang("call", f"{status.call[1]} runs for {seconds:.0f} s: {called}")
    return None


def stacks(pid: int, pipe: Connection, clock: Callable[[], float] = time.monotonic) -> list[str]:
    """Have the process write the stacks of its threads into the pipe, and return their lines; within a second."""
    os.kill(pid, DUMP_SIGNAL)
    text, until = b"", clock() + DUMP_SECONDS
    while pipe.poll(max(0.0, min(until - clock(), 0.1 if text else DUMP_SECONDS))):
        part = os.read(pipe.fileno(), 65_536)
        if not part:
            break
        text += part
    return text.decode(errors="replace").splitlines()
