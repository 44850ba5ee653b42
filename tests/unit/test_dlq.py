"""`dlq` without a broker: what is read out of headers that anyone may have written, and how it is shown."""

from __future__ import annotations

import argparse
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from consumer.cli import dlq
from consumer.cli.dlq import DeadLetter, value_lines, without_counts
from consumer.core.history import History
from consumer.records import Headers
from consumer.work.publish import CONNECT


class Fetched:
    """A dead letter as a consumer gives it."""

    def partition(self) -> int:
        return 2

    def offset(self) -> int:
        return 17

    def key(self) -> None:
        return None

    def value(self) -> None:
        return None

    def headers(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_767_225_600_123


def letter(*headers: tuple[str, bytes]) -> DeadLetter:
    found: Headers = [(name if name.startswith("checkpoint") else CONNECT + name, value) for name, value in headers]
    return DeadLetter.of(Fetched(), found)


def test_a_foreign_record_is_a_line_too() -> None:
    assert letter().line() == "2/17  2026-01-01T00:00:00.123Z  ?  ?  ?  ?  attempt None  ?"
    assert letter(("topic", b"in"), ("partition", b"3")).original is None


def test_a_line_is_one_line_that_drives_no_terminal() -> None:
    evil = b"a\nb\x1b[31m\xff" + b"x" * 1000
    names = ("topic", "partition", "offset", "stage", "exception.class.name", "exception.message")
    line = letter(*((name, evil) for name in names), ("checkpoint-group", evil)).line()
    assert line.isprintable()
    assert "a\\nb\\x1b[31m\\xff" in line
    assert line.endswith("…")


def test_the_last_of_two_equal_headers_is_ours() -> None:
    assert letter(("stage", b"theirs"), ("stage", b"decode")).stage == "decode"


@pytest.mark.parametrize(
    ("asked", "is_of"),
    [(None, True), ("DecodeError", True), ("consumer.errors.DecodeError", True), ("Error", False), ("", False)],
)
def test_an_error_is_named_in_full_or_without_its_module(asked: str | None, is_of: bool) -> None:
    assert letter(("exception.class.name", b"consumer.errors.DecodeError")).is_of(asked) is is_of


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        (None, ["value      null"]),
        (b"", ["value      0 bytes", ""]),
        (b'{"a":"\x7f"}', ["value      9 bytes", '{\n  "a": "\\u007f"\n}']),
        (b'{"a":"\xc2\x9b"}', ["value      10 bytes", '{\n  "a": "\\u009b"\n}']),
        (b"a\x1b[2J\nb", ["value      7 bytes", "a\\x1b[2J\nb"]),
        (b"[" * 1000 + b"]" * 1000, ["value      2,000 bytes", "[" * 1000 + "]" * 1000]),
        (b'{"a":1e999}', ["value      11 bytes", '{"a":1e999}']),
        (b"\xff" * 17, ["value      17 bytes", "00000000  " + "ff " * 15 + "ff\n00000010  ff"]),
    ],
)
def test_a_value_is_shown_as_what_it_is(value: bytes | None, lines: list[str]) -> None:
    assert list(value_lines(value)) == lines


def test_of_many_bytes_the_beginning_is_shown() -> None:
    assert list(value_lines(b"\xff" * 5000))[-1].endswith("\n… 904 bytes more")


NOT_OURS = ["", "text", "[]", "1", "null", '{"v":2,"dead":{"run":1,"last":"1"}}', '{"dead":{"run":1,"last":"1"}}']
NOT_OURS += [
    "[" * 4096,
    '{"v":1,"seq":7}',
    '{"v":1,"dead":null}',
    '{"v":1,"dead":{"run":1}}',
    '{"v":1,"dead":{"run":1,"last":"x"}}',
]


@pytest.mark.parametrize("metadata", NOT_OURS)
def test_metadata_without_counts_stays_as_it_is(metadata: str) -> None:
    assert without_counts(metadata) == (None, metadata)


@given(st.integers(0, 2**64 - 1), st.integers(0, 1000), st.integers(1, 2**1000 - 1), st.integers(1, 2**8192 - 1))
def test_a_member_reads_the_rest_as_it_was(number: int, run: int, window: int, seen: int) -> None:
    history = History(number, 3, run, window, seen)
    counts, rest = without_counts(history.encode())
    assert counts == (run, window.bit_count())
    assert History.decode(rest) == replace(history, dead_run=0, dead_window=0)


def test_counts_are_taken_out_and_nothing_else() -> None:
    history: dict[str, Any] = {"v": 1, "seq": 2**64 - 1, "seen": "AQ==", "dead": {"run": 3, "last": "f7"}, "new": [1]}
    counts, rest = without_counts(json.dumps(history))
    assert counts == (3, 7)
    assert json.loads(rest) == {"v": 1, "seq": 2**64 - 1, "seen": "AQ==", "new": [1]}


@pytest.mark.parametrize("text", ["", "3", "3/", "a/1", "-1/2", "1/2/3", "²/1"])
def test_other_places_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="PARTITION/OFFSET"):
        dlq._place(text)
