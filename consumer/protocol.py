"""What the supervisor and its members say to each other, pickled over a pipe. Imports nothing of Kafka."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Literal

from consumer.metrics import Series
from consumer.settings import Settings

Told = tuple[Literal["stop", "limit"], float]
"""To a member: stop by this time, which bounds its end even where it is heard late (`time.monotonic`, one clock for
all processes of a machine); or: somewhere in the group the bounded run's last checkpoint is done."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What a new member is told."""

    index: int
    settings: Settings
    worker: str | Callable[..., Any]
    reducer: str | Callable[..., Any] | None
    until: Any
    patient: bool = False
    """Restarted by its supervisor: it waits for brokers without limit."""
    ends: dict[int, int] | None = None
    """Of a bounded run: the end offsets at its start, empty where it ends elsewhere. None: this member is the first."""


@dataclass(frozen=True, slots=True)
class Status:
    """What a member reports about twice a second."""

    joined: bool
    partitions: int
    """Of the input topic."""
    assigned: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    limit_reached: bool = False
    progress: dict[int, tuple[int, int | None]] = field(default_factory=dict)
    """Committed next offset and next sequence number per partition."""
    metrics: Series = field(default_factory=dict)
    call: tuple[float, str] | None = None
    """The oldest call of user code that runs: since when (`time.monotonic`), and which it is."""


@dataclass(frozen=True, slots=True)
class Alone:
    """The first member of a bounded run has found the group empty: the others may start, with these `Spec.ends`."""

    ends: dict[int, int]


@dataclass(frozen=True, slots=True)
class Failure:
    """The member ends with this exit code; the message says what to do."""

    exit_code: int
    message: str


def write_whole(pipe: Connection, message: Any) -> None:
    """As `pipe.send`, in one call of the system, which needs no GIL to end; raises OSError where the pipe is closed.

    `Connection.send` makes two writes above 16 KiB. Where user code takes the GIL in between, the supervisor waits for
    the rest, and nobody kills the member that hangs.
    """
    data = pickle.dumps(message)
    left = memoryview(struct.pack("!i", len(data)) + data)  # framed as `Connection.recv` has it
    while left:
        left = left[os.write(pipe.fileno(), left) :]
