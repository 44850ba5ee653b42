"""Waiting for a server at the start: asked again, said once, given up in time, and never past a stop."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from consumer import patience
from consumer.errors import ConfigError
from consumer.patience import Patience


class Clock:
    """Time passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(patience, "time", made)
    return made


def answers_at(clock: Clock, seconds: float) -> Callable[[], float]:
    def question() -> float:
        if clock.now < seconds:
            raise OSError("silent")
        return clock.now

    return question


def passing(error: Exception) -> str | None:
    return str(error) if isinstance(error, OSError) else None


def test_a_first_answer_is_said_by_nobody(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert Patience(endless=False, stopping=lambda: False).ask(answers_at(clock, 0), passing, "the server") == 0
    assert caplog.records == []


def test_silence_is_said_once_within_5_s(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    found = Patience(endless=False, stopping=lambda: False).ask(answers_at(clock, 20), passing, "the server (SETTING)")
    assert 20 <= found < 21
    (said,) = caplog.records
    assert said.__dict__["fields"] == {"of": "the server (SETTING)", "reason": "silent"}


def test_after_30_s_it_is_given_up_but_not_by_one_that_is_endless(clock: Clock) -> None:
    with pytest.raises(ConfigError, match=r"no answer for 30 s of the server \(silent\): start it, or correct"):
        Patience(endless=False, stopping=lambda: False).ask(answers_at(clock, 999), passing, "the server")
    assert 30 <= clock.now < 31
    assert Patience(endless=True, stopping=lambda: False).ask(answers_at(clock, 999), passing, "the server") >= 999


def test_what_does_not_pass_is_raised_at_once(clock: Clock) -> None:
    def question() -> None:
        raise KeyError("wrong")

    with pytest.raises(KeyError):
        Patience(endless=True, stopping=lambda: False).ask(question, passing, "the server")
    assert clock.now == 0


def test_a_stop_ends_it(clock: Clock) -> None:
    with pytest.raises(StopIteration):
        Patience(endless=True, stopping=lambda: clock.now > 3).ask(answers_at(clock, 999), passing, "the server")
    assert clock.now < 4
