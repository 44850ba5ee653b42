"""JSON with holes: built once, filled for every checkpoint."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

__all__ = ["Template"]

_HOLE = re.compile(rb'"<#(\w+)>"|<(\w+)>')


class Template(NamedTuple):
    """JSON with holes: `parts` are its pieces, an empty one at the index of every hole."""

    parts: list[bytes]
    holes: list[tuple[int, str]]

    @classmethod
    def of(cls, document: Any) -> Template:
        """`"<name>"` becomes a hole within a string, `"<#name>"` one in place of the string."""
        parts: list[bytes] = []
        holes: list[tuple[int, str]] = []
        text = msgspec.json.encode(document)
        end = 0
        for hole in _HOLE.finditer(text):
            parts += (text[end : hole.start()], b"")
            holes.append((len(parts) - 1, (hole[1] or hole[2]).decode()))
            end = hole.end()
        return cls([*parts, text[end:]], holes)

    def fill(self, values: dict[str, bytes]) -> bytes:
        """The document with every hole filled."""
        parts = self.parts.copy()
        for index, name in self.holes:
            parts[index] = values[name]
        return b"".join(parts)
