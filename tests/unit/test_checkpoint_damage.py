"""Whatever the bytes: a value or a DecodeError that names the field, never another exception, never the payload."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.checkpoint import (
    Checkpoint,
    CheckpointHeader,
    Position,
    decoder_for,
    epoch_of,
    is_end_of_epoch,
    sequence_number_of,
)
from consumer.errors import DecodeError, TransientError
from consumer.generate import DIALECTS, generate

AT = Position("checkpoints", 0, 0)
INTACT = generate(99, size_bytes=0)
DECODERS = [decoder_for(Checkpoint), decoder_for(CheckpointHeader)]
both = pytest.mark.parametrize("decode", DECODERS, ids=["Checkpoint", "CheckpointHeader"])


class Mirror(msgspec.Struct):
    class Signed(msgspec.Struct):
        class Data(msgspec.Struct):
            epoch: int
            sequence_number: int
            end_of_epoch_data: dict[str, Any] | None = None

        data: Data

    checkpoint_summary: Signed


@pytest.mark.parametrize("decode", [*DECODERS, decoder_for(Mirror)], ids=["Checkpoint", "CheckpointHeader", "Struct"])
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (None, "null"),
        (b"", "empty"),
        (b"1", "Expected `object`, got `int`"),
        (b"null", "Expected `object`, got `null`"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "checkpoint_summary"),
        (b"\xef\xbb\xbf" + INTACT, "malformed"),
        (b"NaN", "malformed"),
        (b"[" * 5_000_000, "nested too deeply|Expected"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"a":"\xff","checkpoint_summary":{"data":"\xff"}}', "UTF-8|Expected"),
        (INTACT[:200], "truncated"),
        (b'"a"', "Expected `object`, got `str`"),
        (b"true", "Expected `object`, got `bool`"),
        (b"1e999", "Expected `object`|out of range"),
        (b"{" + INTACT[1:].replace(b"{", b"{\x01", 1), "malformed"),
        (b"\0" * 100, "malformed"),
    ],
)
def test_not_a_checkpoint(decode: Any, data: bytes | None, says: str) -> None:
    with pytest.raises(DecodeError, match=says):
        decode(data, AT)


@pytest.mark.parametrize(
    "tail",
    [b"", b"{", b"\xff", b'{"a":"\xff"}', b'"\\ud800"', b'"\x01"', b"NaN", b"01", b"[" * 100_000],
)
def test_checkpoint_checks_all_of_the_document(tail: bytes) -> None:
    with pytest.raises(DecodeError):
        Checkpoint.decode(b'{"x":' + tail + b"," + INTACT[1:], AT)


@both
def test_invalid_utf8_in_what_is_read(decode: Any) -> None:
    with pytest.raises(DecodeError, match="not valid UTF-8"):
        decode(INTACT.replace(b'"content_digest":"', b'"content_digest":"\xff'), AT)


@both
def test_utf8_is_checked_across_slices_in_little_memory(decode: Any) -> None:
    for fill in range(4):
        text = "x" * (200_000 + fill) + "\N{GRINNING FACE}" * 200_000
        data = INTACT.replace(b"{", b'{"text":"%b",' % text.encode(), 1)
        tracemalloc.start()
        decode(data, AT)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2.5 * len(data)
    whole = json.dumps(json.loads(INTACT)).encode()
    for cut in (b"\xf0\x9f", b"\xf0\x9f\x98"):
        with pytest.raises(DecodeError, match="not valid UTF-8"):
            decode(whole.replace(b"{", b'{"text":"' + cut + b'",', 1), AT)


@pytest.mark.parametrize(
    "tail", [b"{}", b",", b"\0", b"\xff", INTACT], ids=["object", "comma", "NUL", "byte", "another checkpoint"]
)
def test_trailing_data_is_refused_but_by_the_header_which_does_not_read_that_far(tail: bytes) -> None:
    with pytest.raises(DecodeError):
        Checkpoint.decode(INTACT + tail, AT)
    assert CheckpointHeader.decode(INTACT + tail, AT) == CheckpointHeader.decode(INTACT, AT)


MANY = 1_000_000
BOMBS = {
    "arrays": b"[" + b"[]," * MANY + b"[]]",
    "objects": b"[" + b"{}," * MANY + b"{}]",
    "text": b'"%b"' % (b"x" * MANY),
}


@both
@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'{"checkpoint_summary"', b'{"x":@,"checkpoint_summary"'),
        (b'"auth_signature":', b'"x":@,"auth_signature":'),
        (b'"status":"Success"', b'"status":{"Success":@}'),
        (b'"events":null', b'"events":{"data":@}'),
        (b'"price":1000', b'"price":@'),
    ],
    ids=["top", "summary", "status", "events", "transaction"],
)
def test_what_nobody_reads_costs_copies_at_most(decode: Any, bomb: bytes, old: bytes, new: bytes) -> None:
    assert old in INTACT
    data = INTACT.replace(old, new.replace(b"@", bomb), 1)
    tracemalloc.start()
    decode(data, AT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3.1 * len(bomb)


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_what_is_read_costs_so_many_times_its_size(bomb: bytes) -> None:
    """Accepted on purpose: how large a record may be is said by its topic."""
    data = INTACT.replace(b'"end_of_epoch_data":{', b'"end_of_epoch_data":{"x":%b,' % bomb, 1)
    tracemalloc.start()
    assert Checkpoint.decode(data, AT).summary.end_of_epoch is not None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 * len(bomb)


@both
def test_invalid_utf8_before_the_transactions_is_refused_also_where_nobody_reads(decode: Any) -> None:
    with pytest.raises(DecodeError, match="not valid UTF-8"):
        decode(INTACT.replace(b'"end_of_epoch_data"', b'"end_of_epo\xe3h_data"'), AT)


def test_truncated_anywhere() -> None:
    for end in range(0, len(INTACT), 37):
        with pytest.raises(DecodeError):
            decoder_for(Checkpoint)(INTACT[:end], AT)


@both
@given(data=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_random_bytes(decode: Any, data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(data, AT)


@both
@given(st.sampled_from(DIALECTS), st.integers(0), st.binary(max_size=3), st.integers(0, 3))
def test_damaged_bytes(decode: Any, dialect: Any, at: int, put: bytes, cut: int) -> None:
    data = generate(99, size_bytes=0, dialect=dialect)
    at %= len(data)
    try:
        checkpoint = decode(data[:at] + put + data[at + cut :], AT)
        if isinstance(checkpoint, Checkpoint):
            assert all(isinstance(t.events, list) for t in checkpoint.transactions)
            assert checkpoint.data["transactions"]
    except DecodeError as error:
        said = str(error)
        assert 0 < len(said) < 300


NUMBERS = ["epoch", "sequence_number", "network_total_transactions", "timestamp_ms"]
GAS = ["computationCost", "computationCostBurned", "storageCost", "storageRebate", "nonRefundableStorageFee"]
WRONG = ["-1", "1.0", "1e3", "1.5", "true", "18446744073709551616", "1" * 400, "1" * 5000, "null", "[]", "{}"]
WRONG += ['"-1"', '"+1"', '" 1"', '"1 "', '""', '"1.0"', '"1e3"', '"0x1"', '"18446744073709551616"', '"1_0"']
WRONG += ['"\uff11"']


def with_number(name: str, text: str) -> bytes:
    made = json.loads(INTACT)
    data = made["checkpoint_summary"]["data"]
    (data if name in NUMBERS else data["epoch_rolling_gas_cost_summary"])[name] = "@"
    return json.dumps(made, ensure_ascii=False).replace('"@"', text, 1).encode()


@both
@pytest.mark.parametrize("name", NUMBERS + GAS)
def test_wrong_numbers_name_the_field(decode: Any, name: str) -> None:
    snake = "".join("_" + c.lower() if c.isupper() else c for c in name)
    for text in WRONG:
        if (name, text) == ("computationCostBurned", "null"):
            assert decode(with_number(name, text), AT).summary.gas.computation_cost_burned is None
            continue
        with pytest.raises(DecodeError, match=f"{name}|{snake}") as caught:
            decode(with_number(name, text), AT)
        assert "1844" not in str(caught.value)
        assert "111" not in str(caught.value)


@both
@pytest.mark.parametrize("name", NUMBERS + GAS)
@pytest.mark.parametrize("number", [0, 1, 2**53 + 1, 2**63, 2**64 - 1])
def test_right_numbers_are_exact(decode: Any, name: str, number: int) -> None:
    snake = "".join("_" + c.lower() if c.isupper() else c for c in name)
    for text in (str(number), f'"{number}"'):
        summary = decode(with_number(name, text), AT).summary
        assert getattr(summary if name in NUMBERS else summary.gas, snake) == number


def test_large_numbers_elsewhere_stay_integers() -> None:
    made = json.loads(INTACT)
    made["transactions"][0]["output_objects"] = [2**64, 10**30, -(2**63) - 1]
    checkpoint = Checkpoint.decode(json.dumps(made).encode(), AT)
    objects = checkpoint.data["transactions"][0]["output_objects"]
    assert objects == [2**64, 10**30, -(2**63) - 1]
    assert all(type(number) is int for number in objects)
    too_large = Checkpoint.decode(INTACT.replace(b'"price":1000', b'"price":1e999'), AT)
    with pytest.raises(DecodeError, match="out of range"):
        _ = too_large.data


def test_the_last_of_two_equal_keys_counts() -> None:
    data = INTACT.replace(b'"sequence_number":99', b'"sequence_number":1,"sequence_number":99', 1)
    assert [decode(data, AT).summary.sequence_number for decode in DECODERS] == [99, 99]


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("transaction", "data"), [], "transaction.data"),
        (("transaction",), {}, "transaction is missing"),
        (("transaction", "data", 0, "intent_message", "value", "V1", "kind"), {}, "kind"),
        (("transaction", "data", 0, "intent_message", "value", "V1", "kind"), {"kind": 1}, "Expected `str`"),
        (("transaction", "data", 0, "intent_message", "value", "V1"), {"sender": "0x1"}, "kind is missing"),
        (("effects", "V1", "status"), "Maybe", "status"),
        (("effects", "V1", "status"), {"success": 1}, "Expected `bool | str | null`, got `int`"),
        (("effects", "V1", "status"), {"success": "maybe"}, "status"),
        (("effects", "V1", "status"), {"status": [[]] * 9}, "got `array`"),
        (("effects", "V1", "status"), {}, "status"),
        (("effects",), {"V9": {}}, "transaction_digest is missing"),
        (("effects", "V1", "gas_used", "storageCost"), -1, "storage_cost"),
    ],
)
def test_wrong_transactions(path: tuple[Any, ...], value: Any, says: str) -> None:
    made = json.loads(INTACT)
    part = made["transactions"][1]
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    with pytest.raises(DecodeError, match=says):
        Checkpoint.decode(json.dumps(made).encode(), AT)


def test_events_of_another_shape() -> None:
    made = json.loads(INTACT)
    made["transactions"][0]["events"] = 5
    with pytest.raises(DecodeError, match="events"):
        _ = Checkpoint.decode(json.dumps(made).encode(), AT).transactions[0].events


def test_a_struct_that_mirrors_the_json() -> None:
    mirror = decoder_for(Mirror)(INTACT, AT)
    assert (sequence_number_of(mirror), epoch_of(mirror), is_end_of_epoch(mirror)) == (99, 0, True)


class Half:
    def __init__(self, data: bytes, position: Position) -> None:
        self.sequence_number = data.decode()
        self.position = position

    @classmethod
    def decode(cls, data: bytes, position: Position) -> Half:
        if data == b"down":
            raise TransientError("down")
        return cls(data, position)


@pytest.mark.parametrize("text", ["-1", "18446744073709551616", "9" * 5000, "1.0", ""])
def test_a_number_that_no_checkpoint_has_is_none(text: str) -> None:
    assert sequence_number_of(Half(text.encode(), AT)) is None
    assert sequence_number_of(Half(b"18446744073709551615", AT)) == 2**64 - 1


def test_a_class_with_decode() -> None:
    decode = decoder_for(Half)
    half = decode(b"12", AT)
    assert half.position is AT
    assert (sequence_number_of(half), epoch_of(half), is_end_of_epoch(half)) == (12, None, False)
    assert sequence_number_of(decode(b"-1", AT)) is None
    with pytest.raises(DecodeError, match=r"Half\.decode raised UnicodeDecodeError"):
        decode(b"\xff", AT)
    with pytest.raises(DecodeError, match="empty"):
        decode(b"", AT)
    with pytest.raises(TransientError):
        decode(b"down", AT)


def test_no_payload_in_what_is_said_of_a_users_type() -> None:
    kind = msgspec.defstruct("Kinded", [("kind", Literal["a", "b"])])
    with pytest.raises(DecodeError) as caught:
        decoder_for(kind)(b'{"kind":"secret"}', AT)
    assert "secret" not in str(caught.value)
    assert "$.kind" in str(caught.value)


@pytest.mark.parametrize("wrong", [dict, int, object, "Checkpoint", None, Checkpoint.decode])
def test_types_that_cannot_be_decoded_to(wrong: Any) -> None:
    with pytest.raises(TypeError, match="checkpoint_type"):
        decoder_for(wrong)


@pytest.mark.parametrize("other", [None, 5, {}, object()])
def test_what_does_not_tell(other: Any) -> None:
    assert (sequence_number_of(other), epoch_of(other), is_end_of_epoch(other)) == (None, None, False)
