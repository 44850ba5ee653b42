"""Logs: one well-formed line per event whatever is in it, and never a reason to stop."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import re
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.log import Logger, RateLimited, configure, get_logger
from consumer.settings.model import LogSettings

log = get_logger("consumer.test")


@pytest.fixture(autouse=True)
def root_logger_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


class Pipe(io.StringIO):
    def lines(self) -> list[str]:
        return self.getvalue().split("\n")[:-1]

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines()]


def test_a_json_line_has_the_context_and_the_fields() -> None:
    pipe = Pipe()
    configure(LogSettings(format="json"), stream=pipe, group="g", member=1)

    log.info("partition assigned", topic="in", partition=3, key=b"\xff1", offsets={0: 7})
    log.debug("not shown")

    (event,) = pipe.events()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", event.pop("ts"))
    assert event == {
        "level": "info",
        "logger": "consumer.test",
        "event": "partition assigned",
        "group": "g",
        "member": 1,
        "topic": "in",
        "partition": 3,
        "key": "b'\\xff1'",
        "offsets": {"0": 7},
    }


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(event=st.text(max_size=20), value=ANYTHING, style=st.sampled_from(["json", "console"]))
def test_whatever_is_logged_is_one_line_without_control_characters(event: str, value: object, style: Any) -> None:
    pipe = Pipe()
    configure(LogSettings(format=style), stream=pipe)

    log.warning(event, value=value)

    (line,) = pipe.lines()
    assert line.isprintable()
    if style == "json":
        assert json.loads(line)["event"] == event


def test_user_code_and_warnings_come_out_too() -> None:
    pipe = Pipe()
    configure(LogSettings(format="json"), stream=pipe)

    logging.getLogger("mine").warning("%d things", 3)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)

    mine, warning = pipe.events()
    assert (mine["logger"], mine["event"]) == ("mine", "3 things")
    assert warning["logger"] == "py.warnings"
    assert "DeprecationWarning: old" in warning["event"]


def test_an_exception_is_one_field_and_long_values_are_cut() -> None:
    pipe = Pipe()
    configure(LogSettings(format="json"), stream=pipe)

    try:
        raise ValueError("bad\nthing")
    except ValueError as error:
        log.error("it failed", exception=error, cause=error, text="x" * 5000)

    (event,) = pipe.events()
    assert event["exception"].startswith("Traceback")
    assert event["exception"].endswith("ValueError: bad\nthing")
    assert event["cause"] == "bad\nthing"
    assert event["text"] == "x" * 2000


def test_the_console_shows_a_traceback_below_the_line() -> None:
    pipe = Pipe()
    configure(LogSettings(format="console", level="debug"), stream=pipe, group="g")

    log.debug("joined", topic="a b", empty="", n=5, offsets={0: 0, 1: 0}, words=["a b"])
    try:
        raise ValueError("bad \x1b[31m thing")
    except ValueError as error:
        log.error("it failed", exception=error)

    first, second, *traceback = pipe.lines()
    fields = """group=g topic="a b" empty="" n=5 offsets={0: 0, 1: 0} words=['a b']"""
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} DEBUG +consumer\.test +joined +" + re.escape(fields), first)
    assert re.search(r"ERROR +consumer\.test +it failed +group=g$", second)
    assert traceback[-1] == "    ValueError: bad \\x1b[31m thing"
    assert all(line.startswith("    ") for line in traceback)


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_auto_is_a_coloured_console_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, no_color: str, coloured: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    ours, terminal = pty.openpty()
    try:
        with os.fdopen(terminal, "w") as stream:
            configure(LogSettings(), stream=stream)
            log.info("joined")
        shown = os.read(ours, 1000).decode()
    finally:
        os.close(ours)

    assert "joined" in shown
    assert ("\x1b[32m" in shown) is coloured
    assert not shown.startswith("{")


def test_auto_is_json_elsewhere() -> None:
    pipe = Pipe()
    configure(LogSettings(), stream=pipe)
    log.info("joined")

    assert [event["event"] for event in pipe.events()] == ["joined"]


def test_a_line_that_cannot_be_written_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    pipe = Pipe()
    configure(LogSettings(format="json"), stream=pipe)
    pipe.close()

    log.info("one")

    assert "I/O operation on closed file" in capsys.readouterr().err


def test_a_value_that_cannot_be_shown_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("no")

    pipe = Pipe()
    configure(LogSettings(format="json"), stream=pipe)
    log.info("one", value=Hostile())
    log.info("two")

    assert [event["event"] for event in pipe.events()] == ["two"]
    assert "RuntimeError: no" in capsys.readouterr().err


def test_repeated_warnings_are_counted() -> None:
    pipe = Pipe()
    configure(LogSettings(format="json"), stream=pipe)
    times = iter([0.0, 1.0, 9.9, 10.0, 11.0, 11.0, 50.0])
    limited = RateLimited(Logger(logging.getLogger("x")), 10, clock=lambda: next(times))

    for _ in range(5):
        limited.warning("broker down", broker=1)
    limited.warning("broker down", key=2, broker=2)
    limited.warning("broker down", broker=1)

    assert [(event["broker"], event.get("left_out")) for event in pipe.events()] == [
        (1, None),
        (1, 2),
        (2, None),
        (1, 1),
    ]


def test_texts_that_are_never_the_same_do_not_fill_the_memory() -> None:
    limited = RateLimited(Logger(logging.getLogger("x")), 10, clock=lambda: 0.0)
    for number in range(5_000):
        limited.warning("checkpoint failed", key=f"no row {number}")
    assert len(limited._said) <= 1_000
