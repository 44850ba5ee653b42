"""Hypothesis strategies: random Avro schemas, each with values that fit it."""

from __future__ import annotations

import datetime
import itertools
import string
from typing import Any

from hypothesis import strategies as st

__all__ = ["INT", "LONG", "schemas_and_values"]

INT = st.integers(-(1 << 31), (1 << 31) - 1)
LONG = st.integers(-(1 << 63), (1 << 63) - 1)
TEXT = st.text(max_size=20)
TIME = st.times().map(lambda at: at.replace(fold=0))
DATETIME = st.datetimes(
    datetime.datetime(1, 1, 2), datetime.datetime(9999, 12, 30), timezones=st.just(datetime.UTC)
).map(lambda at: at.replace(fold=0))

Pair = tuple[Any, st.SearchStrategy[Any]]
"""A schema and the strategy of its values."""

SCALARS: list[Pair] = [
    ("null", st.none()),
    ("boolean", st.booleans()),
    ("int", INT),
    ("long", LONG),
    ("float", st.floats(width=32)),
    ("double", st.floats()),
    ("string", TEXT),
    ("bytes", st.binary(max_size=20)),
    ({"type": "long", "logicalType": "timestamp-micros"}, DATETIME),
    (
        {"type": "long", "logicalType": "timestamp-millis"},
        DATETIME.map(lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)),
    ),
    ({"type": "int", "logicalType": "date"}, st.dates()),
    ({"type": "long", "logicalType": "time-micros"}, TIME),
    ({"type": "string", "logicalType": "uuid"}, st.uuids()),
    (
        {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
        st.decimals(-9999999, 9999999, places=2),
    ),
]


@st.composite
def schemas_and_values(draw: st.DrawFn) -> Pair:
    """A schema of records, arrays, maps, unions, enums, fixed and scalars, and the strategy of its values."""
    names = (f"N{number}" for number in itertools.count())
    return _record(draw, names, 2)


def _any(draw: st.DrawFn, names: Any, depth: int) -> Pair:
    makers = [_scalar, _scalar, _enum, _fixed, _optional] + ([_record, _array, _map, _union] if depth else [])
    pair: Pair = draw(st.sampled_from(makers))(draw, names, depth)
    return pair


def _scalar(draw: st.DrawFn, names: Any, depth: int) -> Pair:
    return draw(st.sampled_from(SCALARS))


def _enum(draw: st.DrawFn, names: Any, depth: int) -> Pair:
    symbols = draw(st.lists(st.text(string.ascii_uppercase, min_size=1, max_size=3), min_size=1, unique=True))
    return {"type": "enum", "name": next(names), "symbols": symbols}, st.sampled_from(symbols)


def _fixed(draw: st.DrawFn, names: Any, depth: int) -> Pair:
    size = draw(st.integers(1, 9))
    return {"type": "fixed", "name": next(names), "size": size}, st.binary(min_size=size, max_size=size)


def _optional(draw: st.DrawFn, names: Any, depth: int) -> Pair:
    schema, values = draw(st.sampled_from(SCALARS[1:]))
    return draw(st.permutations(["null", schema])), st.none() | values


def _array(draw: st.DrawFn, names: Any, depth: int) -> Pair:
    schema, values = draw(st.sampled_from(SCALARS[1:])) if depth == 1 else _record(draw, names, depth - 1, 1)
    return {"type": "array", "items": schema}, st.lists(values, max_size=4)


def _map(draw: st.DrawFn, names: Any, depth: int) -> Pair:
    schema, values = _any(draw, names, depth - 1)
    return {"type": "map", "values": schema}, st.dictionaries(TEXT, values, max_size=4)


def _union(draw: st.DrawFn, names: Any, depth: int) -> Pair:
    """Branches whose values are of different kinds, and no `double`: fastavro would put an int there."""
    kinds = [SCALARS[0], SCALARS[1], SCALARS[3], SCALARS[6], SCALARS[7], _record(draw, names, depth - 1)]
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=1, unique_by=id))
    return [schema for schema, _ in chosen], st.one_of(*(values for _, values in chosen))


def _record(draw: st.DrawFn, names: Any, depth: int, least: int = 0) -> Pair:
    name = next(names)
    fields = {f"f{at}": _any(draw, names, depth) for at in range(draw(st.integers(least, 4)))}
    if least:
        fields["f0"] = SCALARS[3]
    schema = {"type": "record", "name": name, "fields": [{"name": n, "type": s} for n, (s, _) in fields.items()]}
    return schema, st.fixed_dictionaries({field: values for field, (_, values) in fields.items()})
