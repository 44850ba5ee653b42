"""The header read from a prefix is the header of the whole document, whatever the order and the spelling of it."""

from __future__ import annotations

import gc
import json
import sys
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.checkpoint import Checkpoint, CheckpointHeader, Position, cut, read, wire
from consumer.errors import DecodeError
from consumer.generate import DIALECTS, generate

AT = Position("checkpoints", 0, 0)
KINDS = ["ProgrammableTransaction", "ConsensusCommitPrologueV1", "EndOfEpochTransaction", "Programmable", "EndOfEpoch"]
TRICKS = ["transactions", ',"transactions":[', '"transactions"', "\\", '\\","transactions":[', "}],", "é\n"]

KNOWN = {
    name
    for part in vars(wire).values()
    if isinstance(part, type) and issubclass(part, msgspec.Struct)
    for name in part.__struct_fields__
} - {"transactions"}

texts = st.sampled_from(TRICKS) | st.text(max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def whole(data: bytes) -> tuple[Any, int]:
    """The header by a parse of the whole document."""
    parsed = msgspec.json.decode(data, type=wire.HeaderDocument[wire.Anything])
    return read.summary(parsed.checkpoint_summary), len(_listed(parsed.checkpoint_contents))


def _listed(contents: Any) -> Any:
    return contents if isinstance(contents, list) else contents.V1.transactions


def shuffled(value: Any, random: Random, extras: list[tuple[str, Any]]) -> Any:
    """The same JSON with the keys of every object in another order, and an unknown one now and then."""
    if isinstance(value, dict):
        pairs = [(key, shuffled(inner, random, extras)) for key, inner in value.items()]
        name, extra = random.choice(extras)
        if name not in value and not _is_kind(value) and random.random() < 0.3:
            pairs.append((name, extra))
        random.shuffle(pairs)
        return dict(pairs)
    if isinstance(value, list):
        return [shuffled(inner, random, extras) for inner in value]
    return value


def _is_kind(value: dict[str, Any]) -> bool:
    """Whether this is the one thing that is known by its only key."""
    return len(value) == 1 and next(iter(value)) in KINDS


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    dialect = draw(st.sampled_from(DIALECTS))
    made = json.loads(generate(draw(st.integers(0, 3)), transactions=2, size_bytes=0, dialect=dialect, epoch_length=2))
    extras = draw(st.lists(st.tuples(texts.filter(lambda name: name not in KNOWN), values), min_size=1, max_size=4))
    random = Random(draw(st.integers(0, 2**32)))
    for transaction in made["transactions"]:
        transaction["input_objects"] = transaction["output_objects"] = random.choice(extras)[1]
    indent = draw(st.sampled_from([None, 0, 2, "\t", 80]))
    return json.dumps(shuffled(made, random, extras), ensure_ascii=draw(st.booleans()), indent=indent).encode()


@given(documents())
def test_prefix_and_whole_document_agree(data: bytes) -> None:
    header = CheckpointHeader.decode(data, AT)
    assert (header.summary, header.transaction_count) == whole(data)
    assert Checkpoint.decode(data, AT).summary == header.summary


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("indent", [None, 2, "\t"])
def test_nothing_behind_the_cut_is_read(dialect: Any, indent: Any) -> None:
    data = json.dumps(json.loads(generate(7, dialect=dialect)), indent=indent).encode()
    damaged = data[: data.rindex(b'"transactions"')] + b'"transactions": [}}\xff'
    assert CheckpointHeader.decode(damaged, AT) == CheckpointHeader.decode(data, AT)
    with pytest.raises(DecodeError):
        Checkpoint.decode(damaged, AT)


def test_the_count_is_of_the_contents() -> None:
    made = json.loads(generate(7, transactions=5))
    made["transactions"] = made["transactions"][:1]
    assert CheckpointHeader.decode(json.dumps(made).encode(), AT).transaction_count == 5


def test_an_escaped_key_is_found_by_the_whole_parse() -> None:
    data = generate(7).replace(b'},"transactions":[', b'},"trans\\u0061ctions":[')
    assert CheckpointHeader.decode(data, AT) == CheckpointHeader.decode(generate(7), AT)


def test_many_keys_of_that_name_cost_no_more_than_a_few_parses(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []

    def parse(decoder: Any, data: bytes) -> Any:
        parsed.append(len(data))
        return read.parse(decoder, data)

    monkeypatch.setattr(cut, "parse", parse)
    data = b'{"a":[' + b'{"b":1,"transactions":[]},' * 20_000 + b"0]}"
    with pytest.raises(DecodeError, match="checkpoint_summary"):
        CheckpointHeader.decode(data, AT)
    assert len(parsed) == 10
    assert sum(parsed[:-1]) < 1_000


def test_a_checkpoint_that_nobody_needs_is_gone_at_once() -> None:
    """Without the garbage collector: a cycle kept ten checkpoints of 50 MB (measured)."""
    data = generate(7)
    held = sys.getrefcount(data)
    checkpoint = Checkpoint.decode(data, AT)
    assert checkpoint.data["transactions"][0] is checkpoint.transactions[0].raw
    assert sys.getrefcount(data) > held
    gc.disable()
    try:
        del checkpoint
        assert sys.getrefcount(data) == held
    finally:
        gc.enable()
