"""SIGINT and SIGTERM for verbs that end early by themselves: they ask to stop, they do not tear."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

__all__ = ["StopRequest"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """While `with` it, SIGINT and SIGTERM are counted instead of obeyed; for the main thread.

    Only where the program waits for somebody else's input do they raise KeyboardInterrupt: within `interruptible`.
    """

    def __init__(self) -> None:
        self.count = 0
        self._raises = False
        self._previous = [signal.getsignal(number) for number in _SIGNALS]

    def __bool__(self) -> bool:
        return self.count > 0

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            signal.signal(number, self._received)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in zip(_SIGNALS, self._previous, strict=True):
            signal.signal(number, handler)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Around a blocking read."""
        self._raises = True
        try:
            if self.count:
                raise KeyboardInterrupt  # it came just before
            yield
        finally:
            self._raises = False

    def _received(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self._raises:
            raise KeyboardInterrupt
