"""A checkpoint read in cuts says what the whole document says, or is read whole."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.checkpoint import Checkpoint, CheckpointTransaction, Position, cut, wire
from consumer.checkpoint.read import parse
from consumer.errors import DecodeError
from consumer.generate import DIALECTS, generate

SAMPLES = Path(__file__).parent / "samples"
AT = Position("checkpoints", 0, 0)
INTACT = generate(7, transactions=3, size_bytes=0)
UNREAD = [b',"input_objects":[', b'"output_objects":[']


def compact(made: Any) -> bytes:
    return json.dumps(made, separators=(",", ":"), ensure_ascii=False).encode()


def in_cuts(data: bytes) -> bool:
    try:
        return cut._read_pieces(data) is not None
    except DecodeError:
        return False


def said(transactions: Any) -> list[tuple[Any, ...]]:
    return [(t.digest, t.kind, t.sender, t.status, t.events, t.event_count, t.gas_used) for t in transactions]


def whole(data: bytes) -> list[tuple[Any, ...]]:
    parsed = parse(msgspec.json.Decoder(wire.Document), data)
    return said(CheckpointTransaction(None, at, part) for at, part in enumerate(parsed.transactions))  # type: ignore[arg-type]


@pytest.mark.parametrize("transactions", [1, 2, 30])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_nodes_write_is_read_in_cuts(dialect: Any, transactions: int) -> None:
    data = generate(7, transactions=transactions, dialect=dialect)
    checkpoint = Checkpoint.decode(data, AT)
    assert in_cuts(data)
    assert said(checkpoint.transactions) == whole(data)
    assert len(checkpoint.transactions) == transactions
    assert checkpoint.data == json.loads(data)


@pytest.mark.parametrize("name", ["sui-2026", "iota-sdk-2025", "iota-sdk-2026"])
def test_samples_of_other_dialects_are_read_in_cuts(name: str) -> None:
    data = compact(json.loads((SAMPLES / f"{name}.json").read_bytes()))
    assert in_cuts(data)
    assert said(Checkpoint.decode(data, AT).transactions) == whole(data)


def test_real_checkpoints_are_read_in_cuts_once_compact(real_checkpoints: list[Path]) -> None:
    for path in real_checkpoints:
        data = compact(json.loads(path.read_bytes()))
        assert said(Checkpoint.decode(data, AT).transactions) == whole(data) == whole(path.read_bytes())
        assert in_cuts(data), path.name


def test_objects_are_read_when_they_are_asked_for() -> None:
    for unread in UNREAD:
        damaged = INTACT.replace(unread, unread + b"}", 1)
        checkpoint = Checkpoint.decode(damaged, AT)
        assert said(checkpoint.transactions) == whole(INTACT)
        with pytest.raises(DecodeError, match="malformed"):
            _ = checkpoint.data
        with pytest.raises(DecodeError, match="malformed"):
            _ = checkpoint.transactions[0].raw


def test_a_document_cut_short_anywhere_is_refused() -> None:
    for at in range(len(INTACT)):
        with pytest.raises(DecodeError):
            Checkpoint.decode(INTACT[:at], AT)


def test_a_missing_or_strange_transaction_is_read_whole() -> None:
    made = json.loads(INTACT)
    one, two, three = made["transactions"]
    for transactions in ([one, two], [two, one, three], [one, two, three, three], [{"x": 1}, one, two, three]):
        data = compact({**made, "transactions": transactions})
        assert not in_cuts(data)
    assert (
        Checkpoint.decode(compact({**made, "transactions": [two, one]}), AT).transactions[0].digest
        == whole(INTACT)[1][0]
    )


def test_an_input_without_objects_or_transactions_is_read_whole() -> None:
    made = json.loads(INTACT)
    for part in made["transactions"]:
        del part["input_objects"]
    assert said(Checkpoint.decode(compact(made), AT).transactions) == whole(INTACT)
    made["transactions"] = []
    assert Checkpoint.decode(compact(made), AT).transactions == ()


@pytest.mark.parametrize(
    "events", [None, [], {"data": []}, {"data": None}, {}, [{"a": [1, {}]}, 2, "x"], {"data": [{}, {}]}]
)
def test_events_are_counted_as_they_are_parsed(events: Any) -> None:
    made = json.loads(INTACT)
    made["transactions"][1]["events"] = events
    for parsed_first in (False, True):
        transaction = Checkpoint.decode(compact(made), AT).transactions[1]
        if parsed_first:
            assert transaction.events is transaction.events
        assert transaction.event_count == len(transaction.events)


@pytest.mark.parametrize("events", [5, "x", {"data": 1}])
def test_the_count_of_what_are_no_events_says_so(events: Any) -> None:
    made = json.loads(INTACT)
    made["transactions"][1]["events"] = events
    transaction = Checkpoint.decode(compact(made), AT).transactions[1]
    with pytest.raises(DecodeError, match="events: expected"):
        _ = transaction.event_count


def test_pieces_that_would_balance_each_other_do_not() -> None:
    """What an event says in JSON must not become the transaction's own."""
    made = json.loads(INTACT)
    inner = {"b": {"c": [{"e": {"f": [{"transaction": {}}]}}]}, "effects": made["transactions"][1]["effects"]}
    forged = {"a": 1, "input_objects": {**inner, "input_objects": 0}}
    made["transactions"][0]["events"] = {"data": [{"parsed_json": {"v": [forged]}}]}
    data = compact(made)
    assert not in_cuts(data)
    assert said(Checkpoint.decode(data, AT).transactions) == whole(data)


def test_a_forged_transaction_among_the_objects_is_one_too_many() -> None:
    made = json.loads(INTACT)
    one, two, _ = made["transactions"]
    forged = json.loads(compact(two).replace(b'"sender":"0x', b'"sender":"0xbad'))
    one["output_objects"] = [one["output_objects"], forged]
    data = compact(made)
    assert not in_cuts(data)
    assert said(Checkpoint.decode(data, AT).transactions) == whole(data)


def test_what_stands_behind_the_objects_is_not_looked_at() -> None:
    for tail in (b'\xff junk "]}]}', INTACT.replace(b'{"transaction"', b'{ "transaction"')):
        checkpoint = Checkpoint.decode(INTACT + tail, AT)
        assert said(checkpoint.transactions) == whole(INTACT)
        with pytest.raises(DecodeError):
            _ = checkpoint.data


def test_the_raw_form_of_what_another_list_replaces_is_an_error() -> None:
    for other in (b"[]", b"{}"):
        data = INTACT[:-1] + b',"transactions":' + other + b',"x":[{"y":[]}]}'
        assert in_cuts(data)
        with pytest.raises(DecodeError, match="another list follows"):
            _ = Checkpoint.decode(data, AT).transactions[2].raw


# What could be taken for something else, as a text and as JSON.
DIGEST = whole(INTACT)[1][0]
FORGED = {"transaction": {"data": [], "x": 1}, "effects": {"V1": {"transaction_digest": DIGEST}}, "events": None}
TEXTS = [',"input_objects":', '{"transaction":{', '},{"transaction":{', ',"transactions":[', "]}]}", "\\", '"', "é"]
traps: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(TEXTS) | st.just(json.loads(INTACT)["transactions"][1]) | st.just(FORGED) | st.just([]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "transaction", "transactions", "input_objects", "output_objects", "events", *TEXTS]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


@given(st.sampled_from(DIALECTS), st.lists(traps, min_size=1, max_size=4), st.integers(0, 2**32))
def test_traps_anywhere_change_nothing(dialect: Any, found: list[Any], seed: int) -> None:
    """Valid JSON, in any order: what is read, in cuts or whole, is what the whole document says."""
    made, random = json.loads(generate(7, transactions=2, size_bytes=0, dialect=dialect)), Random(seed)

    def trapped(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            pairs = [(key, trapped(inner, key)) for key, inner in value.items()]
            if len(value) > 1 and random.random() < 0.1:
                pairs.insert(random.randrange(len(pairs) + 1), ("zzz", random.choice(found)))
            if random.random() < 0.1:
                random.shuffle(pairs)
            return dict(pairs)
        if isinstance(value, list) and (name.endswith("objects") or name == "events"):
            return [*value, random.choice(found)] if random.random() < 0.5 else value
        return [trapped(inner) for inner in value] if isinstance(value, list) else value

    data = compact(trapped(made))
    try:
        expected = whole(data)
    except DecodeError:
        with pytest.raises(DecodeError):
            Checkpoint.decode(data, AT)
    else:
        assert said(Checkpoint.decode(data, AT).transactions) == expected
