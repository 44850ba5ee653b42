"""What `demo` shows while it runs: a block of lines drawn over and over on a terminal, else a line now and then."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self

__all__ = ["State", "View", "make_view"]

DRAW_SECONDS = 0.1
LINE_SECONDS = 2.0
_RATE_SECONDS = 2.0
_BOLD, _DIM, _GREEN = "1", "2", "32"


class State(NamedTuple):
    """How far a run is; per partition where it is a sequence."""

    seconds: float
    fed: Sequence[int]
    published: Sequence[int]
    """Checkpoints whose output is there."""
    expected: Sequence[int] | None
    """How many there will be, where that is known."""
    owners: Sequence[str]
    """The member that has the partition, or nothing."""
    batches: int
    dead_letters: int


class View:
    """Plain lines, one every two seconds; also the base of the terminal's view."""

    interval = LINE_SECONDS
    is_terminal = False

    def __init__(self) -> None:
        self._shown_at = time.monotonic()
        self._marks: deque[tuple[float, int]] = deque([(0.0, 0)])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state on the screen."""

    @property
    def due(self) -> bool:
        """Whether `show` would show something new."""
        return time.monotonic() - self._shown_at >= self.interval

    def show(self, state: State) -> None:
        """Show the state now."""
        self._shown_at = time.monotonic()
        self._draw(state)

    def say(self, text: str) -> None:
        """Print lines that stay."""
        print(text, flush=True)

    def end(self, state: State, text: str) -> None:
        """Show the last state, which stays, and below it the last word."""
        self.show(state)
        print(text, flush=True)

    def heading(self, text: str) -> str:
        """`text` made to stand out, where that is possible."""
        return text

    def _draw(self, state: State) -> None:
        print(f"  {self._summary(state)}", flush=True)

    def _summary(self, state: State) -> str:
        """One line of numbers."""
        published = sum(state.published)
        members = len(set(filter(None, state.owners)))
        parts = [
            f"{state.seconds:4.1f} s",
            f"fed {sum(state.fed):,}",
            f"published {published:,} ({self._rate(state.seconds, published):,.0f}/s)",
            f"{state.batches:,} batch{'' if state.batches == 1 else 'es'}",
            f"{members} members at work" if members != 1 else "1 member at work",
        ]
        return ", ".join(parts + [f"{state.dead_letters:,} dead letters"] * bool(state.dead_letters))

    def _rate(self, seconds: float, published: int) -> float:
        """Per second, over the last two seconds."""
        self._marks.append((seconds, published))
        while len(self._marks) > 2 and self._marks[1][0] <= seconds - _RATE_SECONDS:
            self._marks.popleft()
        since, before = self._marks[0]
        return (published - before) / (seconds - since) if seconds > since else 0.0


class _Terminal(View):
    """Draws one block again and again. What is said, and what any process writes to stderr, goes above it."""

    interval = DRAW_SECONDS
    is_terminal = True

    def __init__(self, *, colours: bool) -> None:
        super().__init__()
        self._colours = colours
        self._lines = 0
        self._stderr: _Aside | None = None

    def __enter__(self) -> Self:
        self._stderr = _Aside() if os.isatty(2) else None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stderr is not None:
            self._stderr.close()
            self._pass_on()

    def say(self, text: str) -> None:
        self._erase()
        super().say(text)

    def heading(self, text: str) -> str:
        return self._coloured(text, _BOLD)

    def _draw(self, state: State) -> None:
        self._pass_on()
        width = shutil.get_terminal_size().columns - 1
        lines = [self._coloured(f"  {self._summary(state)}"[:width], _BOLD)]
        lines += [self._partition(state, number, width) for number in range(len(state.fed))]
        upwards = f"\x1b[{self._lines}A" if self._lines else ""
        print(upwards + "".join(f"{line}\x1b[K\n" for line in lines), end="", flush=True)  # at once: no flicker
        self._lines = len(lines)

    def _partition(self, state: State, number: int, width: int) -> str:
        of = max(state.expected[number] if state.expected else state.fed[number], state.published[number])
        done = state.published[number]
        left = f"  partition {number}  "
        right = f"  {done:>{len(f'{of:,}')},} of {of:,}  {state.owners[number] or 'no member yet'}"
        room = min(40, width - len(left) - len(right))
        if room < 5:
            return f"{left}{right}"[:width]
        filled = room * done // of if of else 0
        return f"{left}{self._coloured('█' * filled, _GREEN)}{self._coloured('░' * (room - filled), _DIM)}{right}"

    def _pass_on(self) -> None:
        """Let what was written to stderr meanwhile go there."""
        text = self._stderr.take() if self._stderr is not None else b""
        if text:
            self._erase()
            sys.stdout.flush()
            os.write(2 if self._stderr is None else self._stderr.real, text)

    def _erase(self) -> None:
        """Take the block off the screen; the cursor is then where it began."""
        if self._lines:
            print(f"\x1b[{self._lines}A\x1b[J", end="", flush=True)
        self._lines = 0

    def _coloured(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours and text else text


class _Aside:
    """Catches what this process and its children write to stderr, so that it does not fall into the block."""

    def __init__(self) -> None:
        self.real = os.dup(2)
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        sys.stderr.flush()
        os.dup2(write, 2)
        os.close(write)

    def take(self) -> bytes:
        """What came since the last time."""
        text = b""
        with suppress(BlockingIOError):
            while more := os.read(self._read, 65_536):
                text += more
        return text

    def close(self) -> None:
        """Give stderr back; `take` still gives what is left."""
        sys.stderr.flush()
        os.dup2(self.real, 2)


def make_view() -> View:
    """The view that standard output can show."""
    if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" and "utf" in sys.stdout.encoding.lower():
        return _Terminal(colours=not os.environ.get("NO_COLOR"))
    return View()
