"""Which calls of user code have begun and not ended: written by the work thread, read by the poll thread."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

WORKER = "the worker"


class Underway:
    """The calls under way, and since when."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._numbers = count()
        self._calls: dict[int, tuple[float, str, int, int]] = {}
        self._begun: dict[int, int] = {}

    def begin(self, what: str, partition: int = -1, offset: int = -1) -> int:
        """A call begins, for this partition and offset (-1: for none); `end` wants what this returns."""
        call = next(self._numbers)
        self._calls[call] = (time.monotonic(), what, partition, offset)
        if what is WORKER:
            self._begun[partition] = call
        return call

    def end(self, call: int) -> None:
        """It has ended."""
        del self._calls[call]

    @contextmanager
    def during(self, what: str, partition: int = -1, offset: int = -1) -> Iterator[None]:
        """Both."""
        call = self.begin(what, partition, offset)
        try:
            yield
        finally:
            self.end(call)

    def partitions(self) -> set[int]:
        """Those with a call under way; -1: one for no partition."""
        return {partition for _, _, partition, _ in self._calls.copy().values()}

    def begun(self) -> dict[int, int]:
        """Per partition the number of its last call of the worker, which may be over: who gets a turn, and who not."""
        return self._begun.copy()

    def longest(self) -> tuple[float, str] | None:
        """Since when (monotonic seconds) the oldest runs, and which it is; None: none runs."""
        calls = self._calls.copy()  # in one step of the interpreter: the other thread goes on
        if not calls:
            return None
        since, what, partition, offset = min(calls.values())
        where = f" of {self._topic}/{partition}" if partition >= 0 else ""
        return since, what + where + (f" offset {offset}" if offset >= 0 else "")
