"""How long a start waits for a server that does not answer: the brokers, the schema registry."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from consumer.errors import ConfigError
from consumer.log import get_logger

ANNOUNCE_SECONDS = 2.0
"""It must be said within 5 s; one question may take two, and starting a process on a busy machine one."""
GIVE_UP_SECONDS = 30.0
PAUSE_SECONDS = 0.2

Answer = TypeVar("Answer")
log = get_logger("consumer.start")


@dataclass(frozen=True, slots=True)
class Patience:
    """Asks again until there is an answer; says so once, and gives up after 30 s unless `endless`.

    `stopping` is looked at before every question; `endless` is for a member that its supervisor started again.
    """

    endless: bool
    stopping: Callable[[], bool]

    def ask(self, question: Callable[[], Answer], excuse: Callable[[Exception], str | None], who: str) -> Answer:
        """What `question` returns. `who` names the server and the setting that leads to it.

        Args:
            question: takes two seconds at most where there is no answer, or the wait is said too late.
            excuse: why an exception may pass by itself, or None: it is raised.
            who: for the lines that say who does not answer.

        Raises:
            ConfigError: no answer for 30 s.
            StopIteration: told to stop.
        """
        started, said = time.monotonic(), False
        while True:
            self.check()
            try:
                return question()
            except Exception as error:
                reason = excuse(error)
                if reason is None:
                    raise
            waited = time.monotonic() - started
            if waited >= GIVE_UP_SECONDS and not self.endless:
                raise ConfigError(f"no answer for {waited:.0f} s of {who} ({reason}): start it, or correct the setting")
            if waited >= ANNOUNCE_SECONDS and not said:
                said = True
                log.warning("no answer yet, waiting", of=who, reason=reason)
            self.pause(PAUSE_SECONDS)

    def pause(self, seconds: float) -> None:
        """Wait; raises StopIteration where told to stop."""
        self.check()
        time.sleep(seconds)

    def check(self) -> None:
        """Raises StopIteration where told to stop."""
        if self.stopping():
            raise StopIteration
