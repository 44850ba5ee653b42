"""Child processes that end with the test run."""

from __future__ import annotations

import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class Closeable(Protocol):
    """What `serve_until_signal` serves."""

    @property
    def running(self) -> bool: ...

    def close(self) -> None: ...


def spawn(command: Sequence[str], output: Path) -> subprocess.Popen[bytes]:
    """Start `command` with its output appended to a file, in a session of its own.

    So an interrupt from the keyboard reaches the tests alone. Started from the main thread of a Linux machine the
    child also ends when this process does, however that ends; the kernel ties it to the thread, and no other thread
    is sure to live as long as the run.
    """
    if (setpriv := shutil.which("setpriv")) and threading.current_thread() is threading.main_thread():
        command = [setpriv, "--pdeathsig", "KILL", *command]
    with output.open("ab") as file:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)


def end(process: subprocess.Popen[bytes], number: int = signal.SIGTERM, seconds: float = 30) -> None:
    """Signal the process, frozen or not, and wait for its end; kill it where that takes longer than `seconds`."""
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def stop_signal() -> threading.Event:
    """An event that SIGTERM and SIGINT set; to be called before what must be cleaned up is started."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def serve_until_signal(server: Closeable, stop: threading.Event, ready: str) -> None:
    """Print `ready`, then wait for the signal or the server's own end, and close it."""
    try:
        print(ready, flush=True)
        while not stop.wait(0.2) and server.running:
            pass
    finally:
        server.close()
