"""Finds the JSON documents in files: one per file, pretty or compact, or one per line; streamed, in bounded memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from consumer.errors import ConfigError

__all__ = ["Document", "documents_in", "files_in"]

SUFFIXES = frozenset({".json", ".jsonl", ".ndjson"})
_LINE_END = 2
"""Bytes that may end a line and are not part of its document."""


class Document(NamedTuple):
    """One document of a file, beginning at `line` (from 1): its bytes as they stand there, or why it has none."""

    line: int
    data: bytes
    error: str | None = None


def files_in(paths: Iterable[str]) -> list[str]:
    """The files to read, `-` among them, in order; of a folder its .json, .jsonl and .ndjson files, all levels down.

    Numbers in names count as numbers, so `9.json` comes before `10.json`.

    Raises:
        ConfigError: a path does not exist, or a folder holds no such file.
    """
    files: list[str] = []
    for path in paths:
        if path == "-" or Path(path).is_file():
            files.append(path)
        elif Path(path).is_dir():
            inside = [str(p) for p in Path(path).rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()]
            if not inside:
                raise ConfigError(
                    f"{path} holds no .json, .jsonl or .ndjson file: give a folder or file of checkpoints"
                )
            files.extend(sorted(inside, key=_natural))
        else:
            raise ConfigError(f"{path} does not exist: give files or folders of checkpoints, or - for standard input")
    return files


def documents_in(stream: BinaryIO, max_bytes: int, whole: Callable[[bytes], bool]) -> Iterator[Document]:
    """The documents of one stream; never holds much more than `max_bytes`, the largest a document may be.

    A line that is complete JSON is a document. Anything else is taken to be the beginning of one over several lines,
    up to the end of the file; but a line that is a `whole` checkpoint by itself shows that what came before it was
    a damaged line (or several), which then is a document of its own, with its error, and costs no neighbour.
    """
    pending: list[bytes] = []
    pending_bytes = begun = 0
    for number, line in enumerate(_lines(stream, max_bytes), 1):
        text = line.strip()
        if pending and text.startswith(b"{") and whole(text):
            yield _joined(begun, pending, pending_bytes, max_bytes)
            pending, pending_bytes = [], 0
        if pending:
            pending_bytes += len(line)
            if pending_bytes <= max_bytes + _LINE_END:
                pending.append(line)
        elif text and _is_json(text):
            yield Document(number, text) if len(text) <= max_bytes else _too_large(number, max_bytes)
        elif text:
            pending, pending_bytes, begun = [line], len(line), number
    if pending:
        yield _joined(begun, pending, pending_bytes, max_bytes)


def _lines(stream: BinaryIO, max_bytes: int) -> Iterator[bytes]:
    """Lines; of one longer than `max_bytes` only the beginning, still longer than that."""
    while line := stream.readline(max_bytes + _LINE_END):
        rest = line
        while not rest.endswith(b"\n") and (rest := stream.readline(max_bytes)):
            pass
        yield line


def _joined(line: int, parts: list[bytes], size: int, max_bytes: int) -> Document:
    data = b"".join(parts).strip()
    if size > max_bytes + _LINE_END or len(data) > max_bytes:
        return _too_large(line, max_bytes)
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except msgspec.DecodeError as error:
        return Document(line, b"", f"is not JSON: {error}")
    return Document(line, data)


def _too_large(line: int, max_bytes: int) -> Document:
    return Document(line, b"", f"is larger than {max_bytes:,} bytes, the most that the topic takes (max.message.bytes)")


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except msgspec.DecodeError:
        return False
    return True


def _natural(path: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path)]
