"""Proves exactly-once, or at-least-once, from the topics alone.

What counts is what a read_committed reader finds: the input, the output with its `checkpoint-source` and
`checkpoint-part` headers, the dead letters, and the group's committed offsets. `check` is a pure function over these;
`collect` reads them from a broker that has come to rest, `ConcurrentReader` beside a running group.

Offsets have holes (transaction markers, aborted records, compaction), so only *delivered* input offsets are counted.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from tests.readback import Collected, ConcurrentReader, Place, Record, collect, committed_offsets, read_topic

__all__ = [
    "Collected",
    "ConcurrentReader",
    "Record",
    "Report",
    "Source",
    "Violation",
    "check",
    "collect",
    "committed_offsets",
    "read_topic",
]

SOURCE, PART, REFERENCE = "checkpoint-source", "checkpoint-part", "checkpoint-dlq-reference"
ORIGIN = "__connect.errors."


class Source(NamedTuple):
    """Which input an output record says it was made of: `part` of `parts`, from offset `first` to `last`."""

    topic: str
    partition: int
    first: int
    last: int
    part: int = 1
    parts: int = 1

    @classmethod
    def of(cls, record: Record) -> Source:
        """Read the headers; ValueError where they are missing or make no sense."""
        topic, partition, offsets = (record.header(SOURCE) or "").rsplit("/", 2)
        first, last = map(int, offsets.split("-"))
        part, parts = map(int, (record.header(PART) or "1/1").split("/"))
        if not (0 <= first <= last and 1 <= part <= parts):
            raise ValueError(f"{SOURCE} {record.header(SOURCE)} {PART} {record.header(PART)}")
        return cls(topic, int(partition), first, last, part, parts)

    @property
    def place(self) -> Place:
        return self.topic, self.partition

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.first}-{self.last}"


class Violation(NamedTuple):
    """One broken promise: `kind` is a word for tests, `detail` names the records."""

    kind: str
    detail: str


@dataclass
class Report:
    """What was found. `ok` says whether every promise was kept; the counts say whether anything was tested."""

    violations: list[Violation] = field(default_factory=list)
    accounted: int = 0
    """Input records below the committed offsets that are accounted for."""
    filtered: int = 0
    dead_letters: int = 0
    repeated: int = 0
    """Output records and dead letters beyond the first of their kind; allowed at least once only."""

    @property
    def ok(self) -> bool:
        return not self.violations

    @property
    def kinds(self) -> set[str]:
        return {violation.kind for violation in self.violations}

    def add(self, kind: str, detail: str) -> None:
        self.violations.append(Violation(kind, detail))

    def __str__(self) -> str:
        lines = [f"{kind}: {detail}" for kind, detail in self.violations[:20]]
        more = len(self.violations) - len(lines)
        return "\n".join([*lines, *([f"... and {more} more"] if more else [])]) or f"ok, {self.accounted} accounted for"


def check(
    inputs: Iterable[Record],
    outputs: Iterable[Record],
    dead_letters: Iterable[Record],
    committed: Mapping[Place, int],
    *,
    filtered: Callable[[Record], bool] = lambda record: False,
    expected_values: Callable[[Sequence[Record]], Sequence[bytes | None]] | None = None,
    concurrent: Iterable[Record] | None = None,
    allow_duplicates: bool = False,
) -> Report:
    """Check every promise; each argument holds its records in the order of their offsets per partition.

    Args:
        committed: the group's next offset per input partition; a partition that is missing has none.
        filtered: whether the test's worker publishes nothing for this input record.
        expected_values: from the input records of one source (less the filtered and the dead-lettered) to the
            values of its parts.
        concurrent: what a `ConcurrentReader` of the output topics saw.
        allow_duplicates: check at-least-once: repeats, and output past the committed offset, are counted or
            ignored; loss, disorder and wrong values still are violations.
    """
    outputs, report = list(outputs), Report()
    checker = _Checker(inputs, committed, report, allow_duplicates)
    made = checker.read_sources(outputs)
    checker.order(made)
    complete = checker.parts(made)
    dead = checker.dead_letters(dead_letters)
    checker.coverage(complete, dead, filtered)
    if expected_values is not None:
        checker.values(made, complete, dead, filtered, expected_values)
    if concurrent is not None:
        _same_sequence(outputs, concurrent, report)
    return report


Made = list[tuple[Record, Source]]
Dead = dict[tuple[Place, int], Record]


@dataclass
class _Lane:
    """What one output partition has held of one source partition so far."""

    last: Source | None = None
    highest: int = -1
    seen: set[int] = field(default_factory=set)

    def continued_by(self, source: Source) -> bool:
        """Whether `source` is a later part of what came last."""
        return self.last is not None and self.last._replace(part=source.part) == source and source.part > self.last.part


class _Checker:
    """The input and the committed offsets that every check needs, and where each reports to."""

    def __init__(
        self, inputs: Iterable[Record], committed: Mapping[Place, int], report: Report, allow_duplicates: bool
    ) -> None:
        self.records: dict[Place, dict[int, Record]] = defaultdict(dict)
        for record in inputs:
            self.records[record.place][record.offset] = record
        self.offsets = {place: sorted(records) for place, records in self.records.items()}
        self.committed = committed
        self.report = report
        self.once = not allow_duplicates

    def read_sources(self, outputs: Sequence[Record]) -> Made:
        """Every output record with its source; a source must begin and end at an input record that is there."""
        made: Made = []
        for record in outputs:
            try:
                source = Source.of(record)
            except ValueError as error:
                self.report.add("no source", f"{record}: {error}")
                continue
            if not {source.first, source.last} <= self.records[source.place].keys():
                self.report.add("unknown source", f"{record} names {source}, which is not in the input")
            made.append((record, source))
        return made

    def order(self, made: Made) -> None:
        """Per output partition and source partition, sources and their parts only move forward.

        At least once, going back is a repeat where all of it was there before; what is new still moves forward.
        """
        lanes: dict[tuple[Place, Place], _Lane] = defaultdict(_Lane)
        for record, source in made:
            lane = lanes[record.place, source.place]
            offsets = self._within(source)
            repeats = all(offset > lane.highest or offset in lane.seen for offset in offsets)
            if not (lane.continued_by(source) or source.first > lane.highest or (repeats and not self.once)):
                self.report.add("order", f"{record} made of {source} part {source.part} follows {lane.last}")
            lane.last, lane.highest = source, max(lane.highest, source.last)
            lane.seen.update(offsets)

    def parts(self, made: Made) -> list[Source]:
        """The sources that are complete, each once, in order of their offsets."""
        parts: dict[Source, Counter[int]] = defaultdict(Counter)
        for _, source in made:
            parts[source._replace(part=1)][source.part] += 1
        for whole, counts in parts.items():
            self.report.repeated += counts.total() - len(counts)
            if self.once and counts.total() > len(counts):
                self.report.add("duplicate", f"{whole}: {_listed(p for p, n in counts.items() if n > 1)} twice")
            if len(counts) < whole.parts:
                missing = set(range(1, whole.parts + 1)) - counts.keys()
                self.report.add("missing part", f"{whole}: {_listed(missing)} of {whole.parts}")
        return sorted(whole for whole, counts in parts.items() if len(counts) == whole.parts)

    def dead_letters(self, dead_letters: Iterable[Record]) -> Dead:
        """The dead letters by the input record they came from."""
        dead: Dead = {}
        highest: dict[tuple[Place, Place], int] = {}
        for letter in dead_letters:
            try:
                origin = self._origin(letter)
            except ValueError:
                self.report.add("no source", f"dead letter {letter} has no {ORIGIN}partition and offset")
                continue
            if origin in dead:
                self.report.repeated += 1
                if self.once:
                    self.report.add("duplicate", f"dead letters {dead[origin]} and {letter}")
            original = self.records[origin[0]].get(origin[1])
            if original is None:
                self.report.add("unknown source", f"dead letter {letter} names {origin}, which is not in the input")
            elif letter.header(REFERENCE) is None and (letter.key, letter.value) != (original.key, original.value):
                self.report.add("value", f"dead letter {letter} differs from {original}")
            lane = letter.place, origin[0]
            if self.once and origin[1] < highest.get(lane, -1):
                self.report.add("order", f"dead letter {letter} of offset {origin[1]} follows that of {highest[lane]}")
            highest[lane] = origin[1]
            dead.setdefault(origin, letter)
        return dead

    def coverage(self, complete: Sequence[Source], dead: Dead, filtered: Callable[[Record], bool]) -> None:
        """Every input record below the committed offset is accounted for, once; none at or past it.

        A batch (first < last) also spans what gave no message, filtered and dead-lettered records among them.
        """
        singles: Counter[tuple[Place, int]] = Counter()
        spanned: Counter[tuple[Place, int]] = Counter()
        for source in complete:
            counter = singles if source.first == source.last else spanned
            counter.update((source.place, offset) for offset in self._within(source))
        for place, offsets in self.offsets.items():
            committed = self.committed.get(place, 0)
            for offset in offsets:
                at = place, offset
                empty = filtered(self.records[place][offset])
                self._account(at, offset < committed, singles[at], spanned[at], at in dead, empty)

    def _account(self, at: tuple[Place, int], below: bool, single: int, spanned: int, dead: bool, empty: bool) -> None:
        name = f"{at[0][0]}/{at[0][1]}/{at[1]}"
        if not below:
            if self.once and (single or spanned or dead):
                self.report.add("past committed", f"{name} is published, the committed offset does not include it")
            return
        explicit = single + dead + empty
        if not explicit and not spanned:
            self.report.add("lost", f"{name} is committed and not accounted for")
            return
        self.report.accounted += 1
        self.report.filtered += empty
        self.report.dead_letters += dead
        if self.once and (explicit > 1 or spanned > 1 or (single and spanned)):
            self.report.add("duplicate", f"{name}: {single} outputs, {spanned} batches, {dead=}, filtered={empty}")

    def values(
        self,
        made: Made,
        complete: Sequence[Source],
        dead: Dead,
        filtered: Callable[[Record], bool],
        expected_values: Callable[[Sequence[Record]], Sequence[bytes | None]],
    ) -> None:
        """Every output is what the worker makes of its input."""
        published: dict[Source, set[bytes | None]] = defaultdict(set)
        for record, source in made:
            published[source].add(record.value)
        for whole in complete:
            records = [self.records[whole.place][offset] for offset in self._within(whole)]
            worked = [r for r in records if (r.place, r.offset) not in dead and not filtered(r)]
            found = [published[whole._replace(part=part)] for part in range(1, whole.parts + 1)]
            if found != [{value} for value in expected_values(worked)]:
                self.report.add("value", f"{whole}: the output is not what its input gives")

    @staticmethod
    def _origin(letter: Record) -> tuple[Place, int]:
        topic, partition, offset = (letter.header(ORIGIN + name) or "" for name in ("topic", "partition", "offset"))
        return (topic, int(partition)), int(offset)

    def _within(self, source: Source) -> list[int]:
        offsets = self.offsets.get(source.place, [])
        return offsets[bisect_left(offsets, source.first) : bisect_right(offsets, source.last)]


def _same_sequence(final: Iterable[Record], concurrent: Iterable[Record], report: Report) -> None:
    expected, seen = _by_place(final), _by_place(concurrent)
    for place in sorted(expected.keys() | seen.keys()):
        if expected.get(place) != seen.get(place):
            was, now = len(seen.get(place, [])), len(expected.get(place, []))
            report.add("concurrent reader", f"{place[0]}/{place[1]}: saw {was} records then, {now} now, not the same")


def _by_place(records: Iterable[Record]) -> dict[Place, list[Record]]:
    ordered = sorted(records, key=lambda record: record.place)  # stable: the order within a partition stays
    return {place: list(group) for place, group in groupby(ordered, key=lambda record: record.place)}


def _listed(parts: Iterable[int]) -> str:
    return "part " + ", ".join(map(str, sorted(parts)))
