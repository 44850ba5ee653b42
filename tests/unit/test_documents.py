"""Documents are found in files of either layout, streamed, and damage stays where it is."""

import io
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.cli.documents import Document, documents_in, files_in
from consumer.errors import ConfigError


def checkpoint(number: int) -> dict[str, Any]:
    return {"checkpoint_summary": {"data": {"sequence_number": number}}, "transactions": [{"a": []}, {}]}


def whole(data: bytes) -> bool:
    try:
        return "checkpoint_summary" in json.loads(data)
    except ValueError:
        return False


def found(data: bytes, max_bytes: int = 10_000) -> list[Document]:
    return list(documents_in(io.BytesIO(data), max_bytes, whole))


COMPACT = [json.dumps(checkpoint(n)).encode() for n in range(4)]
PRETTY = json.dumps(checkpoint(7), indent=2).encode()


def test_one_compact_document() -> None:
    assert found(COMPACT[0]) == [Document(1, COMPACT[0])]


def test_one_pretty_document_keeps_its_bytes() -> None:
    assert found(PRETTY + b"\n") == [Document(1, PRETTY)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_line_each_with_blank_lines_between(end: bytes) -> None:
    documents = found(end.join([COMPACT[0], b"", COMPACT[1], b"  ", COMPACT[2]]))
    assert documents == [Document(1, COMPACT[0]), Document(3, COMPACT[1]), Document(5, COMPACT[2])]


@pytest.mark.parametrize("bad", [0, 1, 3])
def test_a_damaged_line_costs_none_of_its_neighbours(bad: int) -> None:
    lines = [*COMPACT]
    lines[bad] = lines[bad][:-9]
    documents = found(b"\n".join(lines))
    assert [d.data for d in documents] == [b"" if n == bad else line for n, line in enumerate(COMPACT)]
    assert documents[bad].line == bad + 1
    assert "not JSON" in (documents[bad].error or "")


def test_a_line_that_is_json_but_no_checkpoint_is_left_to_the_caller() -> None:
    assert found(b"17\n" + COMPACT[0]) == [Document(1, b"17"), Document(2, COMPACT[0])]


def test_a_truncated_pretty_document_is_an_error() -> None:
    (only,) = found(PRETTY[:-3])
    assert "not JSON" in (only.error or "")


def test_an_empty_stream_has_no_documents() -> None:
    assert found(b"") == found(b"\n\n") == []


def test_a_document_may_be_as_large_as_the_limit_and_no_larger() -> None:
    assert found(COMPACT[0], len(COMPACT[0])) == [Document(1, COMPACT[0])]
    assert found(PRETTY + b"\n", len(PRETTY)) == [Document(1, PRETTY)]
    for data in (COMPACT[0], PRETTY):
        (only,) = found(data, len(data) - 1)
        assert "max.message.bytes" in (only.error or "")


def test_a_line_that_is_too_large_costs_none_of_its_neighbours() -> None:
    large = json.dumps(checkpoint(1) | {"x": "y" * 900}).encode()
    documents = found(b"\n".join([COMPACT[0], large, COMPACT[2]]), 200)
    assert [document.data for document in documents] == [COMPACT[0], b"", COMPACT[2]]
    assert [document.line for document in documents] == [1, 2, 3]
    assert "200 bytes" in (documents[1].error or "")


class Endless(io.RawIOBase):
    """20 MB of `unit` over and over."""

    def __init__(self, unit: bytes) -> None:
        self.unit = unit
        self.left = 20_000_000

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        size = min(len(buffer), self.left)
        buffer[:size] = (self.unit * (size // len(self.unit) + 1))[:size]
        self.left -= size
        return size


@pytest.mark.parametrize("unit", [b"x", b"y" * 99 + b"\n"], ids=["one line", "many lines"])
def test_memory_stays_bounded_by_the_limit(unit: bytes) -> None:
    tracemalloc.start()
    try:
        (only,) = documents_in(io.BufferedReader(Endless(unit)), 100_000, whole)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert only.error
    assert peak < 2_000_000


@given(st.lists(st.integers(0, 10**6)), st.sampled_from([b"\n", b"\n\n", b"\r\n"]))
def test_every_line_that_is_a_checkpoint_is_found(numbers: list[int], end: bytes) -> None:
    lines = [json.dumps(checkpoint(number)).encode() for number in numbers]
    assert [document.data for document in found(end.join(lines))] == lines


def test_folders_are_read_in_order_of_the_numbers_in_names(tmp_path) -> None:
    for name in ("10.json", "9.json", "sub/2.ndjson", "README.md", "c-1-x.JSONL"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [path.removeprefix(f"{tmp_path}/") for path in files_in([str(tmp_path)])]
    assert names == ["9.json", "10.json", "c-1-x.JSONL", "sub/2.ndjson"]


def test_a_named_file_is_taken_whatever_it_is_called(tmp_path) -> None:
    (tmp_path / "data").touch()
    assert files_in(["-", str(tmp_path / "data")]) == ["-", str(tmp_path / "data")]


def test_what_is_not_there_is_refused_before_anything_is_fed(tmp_path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        files_in([str(tmp_path / "nothing")])
    with pytest.raises(ConfigError, match=r"holds no \.json"):
        files_in([str(tmp_path)])
