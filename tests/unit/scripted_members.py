"""Member processes that play a part: `spec.worker` names the function, `spec.settings` is what it needs to know."""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from consumer.hangs import DUMP_SIGNAL
from consumer.protocol import Alone, Failure, Spec, Status


def play(spec: Spec, pipe: Connection, stacks: Connection) -> None:
    """The entry point."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    part: Callable[[Spec, Connection], None] = globals()[str(spec.worker)]
    faulthandler.register(DUMP_SIGNAL, stacks.fileno())
    part(spec, pipe)


def tell_the_mask(spec: Spec, pipe: Connection, stacks: Connection) -> None:
    """An entry point that changes nothing: prints which signals are blocked when a member begins."""
    print(*sorted(signal.Signals(number).name for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())), flush=True)


def obedient(spec: Spec, pipe: Connection) -> None:
    """Joins, waits to be told to stop, drains, and reports once more."""
    pipe.send(Status(joined=True, partitions=2, progress={spec.index: (1, None)}))
    while pipe.recv()[0] != "stop":
        pass
    pipe.send(Status(joined=True, partitions=2, progress={spec.index: (2, 7)}))


def deaf(spec: Spec, pipe: Connection) -> None:
    """Joins and hears nothing any more."""
    pipe.send(Status(joined=True, partitions=2))
    time.sleep(60)


def hangs_once(spec: Spec, pipe: Connection) -> None:
    """Is in one call for ever, and well once it was started again."""
    call = None if spec.patient else (time.monotonic() - 100.0, "the worker of in/3 offset 55")
    while not pipe.poll(0.05):
        pipe.send(Status(joined=True, partitions=2, call=call))


def starts_for_ever(spec: Spec, pipe: Connection) -> None:
    """Imports for as long as it may, and is silent."""
    if not spec.patient:
        time.sleep(60)
    obedient(spec, pipe)


def silent_once(spec: Spec, pipe: Connection) -> None:
    """Reports once and hears nothing any more, and is well once it was started again."""
    if not spec.patient:
        pipe.send(Status(joined=True, partitions=2))
        time.sleep(60)
    obedient(spec, pipe)


def silent_at_first(spec: Spec, pipe: Connection) -> None:
    """Has said nothing yet, and ends when told to."""
    pipe.recv()


def slow_to_join(spec: Spec, pipe: Connection) -> None:
    """Has reported but not joined, and ends when told to."""
    pipe.send(Status(joined=False, partitions=2))
    pipe.recv()


def dies(spec: Spec, pipe: Connection) -> None:
    """Is killed at once, every time."""
    os.kill(os.getpid(), signal.SIGKILL)


def forks_and_dies_once(spec: Spec, pipe: Connection) -> None:
    """Leaves a process that holds everything it had open, and is well once it was started again."""
    if not spec.patient:
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        (Path(str(spec.settings)) / "left").write_text(str(child))
        os._exit(1)
    obedient(spec, pipe)


def dies_once(spec: Spec, pipe: Connection) -> None:
    """Ends with an unexpected error, and is well after that; leaves its spec where the test finds it."""
    mark = Path(str(spec.settings)) / f"patient-{spec.patient}"
    first = not spec.patient
    mark.touch()
    if first:
        os._exit(1)
    obedient(spec, pipe)


def fails(spec: Spec, pipe: Connection) -> None:
    """Ends for good, with the exit code that the test writes into a file, and a message."""
    file = Path(str(spec.settings)) / "code"
    while not file.exists():
        time.sleep(0.01)
    code = int(file.read_text())
    pipe.send(Failure(code, f"what to do about {code}"))
    os._exit(code)


def fails_silently(spec: Spec, pipe: Connection) -> None:
    """Ends for good and says nothing."""
    os._exit(int(str(spec.settings)))


def first(spec: Spec, pipe: Connection) -> None:
    """A member of a bounded run: finds the group empty if nobody has yet, ends its partition, waits for the stop."""
    if spec.ends is None:
        pipe.send(Alone({0: 5, 1: 6}))
    folder = Path(str(spec.settings))
    (folder / f"{spec.index} {spec.ends}").touch()
    pipe.send(Status(joined=True, partitions=2, ended=[spec.index]))
    assert pipe.recv()[0] == "stop"


def ends_its_partition_and_dies(spec: Spec, pipe: Connection) -> None:
    """Its share of a bounded run is done, then it dies."""
    pipe.send(Alone({}))
    pipe.send(Status(joined=True, partitions=2, ended=[0]))
    os._exit(1)


def ends_when_the_other_has_died(spec: Spec, pipe: Connection) -> None:
    """Reports the last partition when the test says so."""
    while not (Path(str(spec.settings)) / "go").exists():
        time.sleep(0.01)
    pipe.send(Status(joined=True, partitions=2, ended=[1]))
    assert pipe.recv()[0] == "stop"


def met_the_limit(spec: Spec, pipe: Connection) -> None:
    """Reports that the bounded run's last checkpoint is committed here."""
    pipe.send(Alone({}))
    pipe.send(Status(joined=True, partitions=2, ended=[0], limit_reached=True))
    assert pipe.recv()[0] == "stop"


def waits_for_the_limit(spec: Spec, pipe: Connection) -> None:
    """Ends its partition when it hears that the limit was reached elsewhere."""
    while not pipe.poll(0.05):
        pipe.send(Status(joined=True, partitions=2))
    assert pipe.recv()[0] == "limit"
    pipe.send(Status(joined=True, partitions=2, ended=[1], limit_reached=True))
    while pipe.recv()[0] != "stop":
        pass
