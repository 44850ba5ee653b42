"""What becomes of messages and of bad input: topics, keys, partitions, headers, parts, dead letters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from consumer.core import messages as m
from consumer.errors import PermanentError
from consumer.partitioning import partition_for_key
from consumer.records import OutRecord
from consumer.work.publish import Target
from consumer.worker import Output, Worker
from tests.unit.work.shop import MAX_BYTES, FakeRecord, Plain, Script, Shop, digest, headers_of

ERRORS = "__connect.errors."


def only_out(shop: Shop, number: int = 0) -> OutRecord:
    (item,) = shop.until_items(1, number)
    (out,) = item.outs
    return out


def bury(shop: Shop, attempts: int = 1) -> OutRecord:
    """Wait for the failure, decide as the machine does, and return the dead letter."""
    failed = shop.until(m.Failed)
    shop.post(m.DeadLetter(failed.partition, failed.epoch, failed.offset, attempts))
    item = shop.until_items(1, failed.partition)[0]
    assert item.dead
    (out,) = item.outs
    return out


# --------------------------------------------------------------------------------------------------------- output


def test_an_output_record_takes_key_and_partition_from_its_input() -> None:
    with Shop(Plain()) as shop:
        shop.submit([FakeRecord(7, b"1", 6, b"the key")], number=6)
        out = only_out(shop, 6)
    assert (out.topic, out.partition, out.key, out.value) == ("out", 6 % 4, b"the key", b"1")
    assert out.headers == [("checkpoint-source", b"in/6/7-7")]


def test_several_messages_are_numbered() -> None:
    with Shop(Script(_0=["a"], _1=[["a", "b", "c"]], _2=[["a"]])) as shop:
        shop.submit(range(3))
        items = shop.until_items(3)
    parts = [[headers_of(out).get("checkpoint-part") for out in item.outs] for item in items]
    assert parts == [[None], [b"1/3", b"2/3", b"3/3"], [None]]
    assert {headers_of(out)["checkpoint-source"] for out in items[1].outs} == {b"in/0/1-1"}


@pytest.mark.parametrize("nothing", [None, []])
def test_nothing_to_publish_still_moves_the_offset(nothing: Any) -> None:
    with Shop(Script(_0=[lambda: nothing])) as shop:
        shop.submit([0])
        (item,) = shop.until_items(1)
    assert (item.first, item.last, item.records, list(item.outs)) == (0, 0, 1, [])


def test_a_tuple_is_one_message() -> None:
    """Exactly a list means several."""
    with Shop(Script(_0=[("a", "b")])) as shop:
        shop.submit([0])
        assert only_out(shop).value == b"('a', 'b')"


@pytest.mark.parametrize("key", [b"chosen", "chosen"], ids=["bytes", "text"])
def test_a_chosen_key_decides_the_partition_as_java_does(key: Any) -> None:
    with Shop(Script(_0=[Output("a", key=key, headers={"x": "1", "y": b"2"})])) as shop:
        shop.submit([FakeRecord(0, b"0", 2)], number=2)
        out = only_out(shop, 2)
    assert out.key == b"chosen"
    assert out.partition == partition_for_key(b"chosen", 4) != 2 % 4
    assert headers_of(out) == {"checkpoint-source": b"in/2/0-0", "x": b"1", "y": b"2"}


def test_chosen_headers_leave_key_and_partition() -> None:
    with Shop(Script(_0=[Output("a", headers={"x": "1"})])) as shop:
        shop.submit([FakeRecord(0, b"0", 3)], number=3)
        out = only_out(shop, 3)
    assert (out.key, out.partition) == (b"key", 3)


@pytest.mark.parametrize(
    ("chosen", "named"),
    [
        ({"key": 5}, "the key of Output is a int"),
        ({"key": bytearray(b"k")}, "the key of Output is a bytearray"),
        ({"key": memoryview(b"k")}, "the key of Output is a memoryview"),
        ({"key": ["k"]}, "the key of Output is a list"),
        ({"key": "\ud800"}, "the key of Output has a lone surrogate"),
        ({"headers": {"x": ["1"]}}, "header 'x' of Output is a list"),
        ({"headers": {"x": 0}}, "header 'x' of Output is a int"),
        ({"headers": {"x": bytearray(b"1")}}, "header 'x' of Output is a bytearray"),
        ({"headers": {"x": "\ud800"}}, "header 'x' of Output has a lone surrogate"),
        ({"headers": {"\ud800": b"1"}}, "the name of Output has a lone surrogate"),
        ({"headers": {"x\0y": b"1"}}, "no str, or has a NUL"),
        ({"headers": {("x",): b"1"}}, "no str, or has a NUL"),
        ({"headers": {1: b"1"}}, "no str, or has a NUL"),
    ],
)
def test_a_key_or_header_that_the_client_does_not_take_fails_its_checkpoint_alone(chosen: Any, named: str) -> None:
    """On the poll thread it would end the member, or crash it, and all its partitions with it."""
    with Shop(Script(_0=[Output("a", **chosen)])) as shop:
        shop.submit(range(2))
        failed = shop.until(m.Failed)
        assert failed.kind is m.FailureKind.PERMANENT
        assert named in failed.error
        shop.post(m.DeadLetter(0, 1, failed.offset, 1))
        items = shop.until_items(2)
    assert [item.dead for item in items] == [True, False]


def test_traceparent_is_carried_over_and_nothing_else() -> None:
    found = [("traceparent", b"00-1-2-01"), ("secret", b"x")]
    with Shop(Script(_0=[["a", "b"]])) as shop:
        shop.submit([FakeRecord(0, b"0", found=found)])
        (item,) = shop.until_items(1)
    assert [headers_of(out).get("traceparent") for out in item.outs] == [b"00-1-2-01"] * 2
    assert all("secret" not in headers_of(out) for out in item.outs)


def test_outputs_go_by_type_in_one_item() -> None:
    @dataclass
    class Transfer:
        amount: int

    transfers = Target("transfers", 3, MAX_BYTES, lambda message: b"t%d" % message.amount)
    with Shop(
        Script(_0=[["plain", Transfer(5), Output(Transfer(6), key=b"k")]]), by_type={Transfer: transfers}
    ) as shop:
        shop.submit([FakeRecord(0, b"0", 5)], number=5)
        (item,) = shop.until_items(1, 5)
    assert [(out.topic, out.partition, out.value) for out in item.outs] == [
        ("out", 5 % 4, b"plain"),
        ("transfers", 5 % 3, b"t5"),
        ("transfers", partition_for_key(b"k", 3), b"t6"),
    ]
    assert [headers_of(out)["checkpoint-part"] for out in item.outs] == [b"1/3", b"2/3", b"3/3"]


# --------------------------------------------------------------------------------------------------- dead letters


def test_a_dead_letter_is_the_record_as_it_came_and_why() -> None:
    found = [("a", b"1"), ("traceparent", b"t"), (ERRORS + "stage", b"an older one"), ("a", b"2")]
    found += [(f"checkpoint-{name}", b"an older one") for name in ("dlq-reference", "attempts", "group")]
    with Shop(Script(_5=[PermanentError("no such account")])) as shop:
        shop.submit([FakeRecord(9, b"5", 3, b"k", found)], number=3)
        out = bury(shop, attempts=4)
    assert (out.topic, out.partition, out.key, out.value) == ("dlq", 3 % 2, b"k", b"5")
    assert out.headers == [
        ("a", b"1"),
        ("traceparent", b"t"),
        ("a", b"2"),
        (ERRORS + "topic", b"in"),
        (ERRORS + "partition", b"3"),
        (ERRORS + "offset", b"9"),
        (ERRORS + "stage", b"process_checkpoint"),
        (ERRORS + "exception.class.name", b"consumer.errors.PermanentError"),
        (ERRORS + "exception.message", b"no such account"),
        ("checkpoint-attempts", b"4"),
        ("checkpoint-group", b"group"),
    ]


@pytest.mark.parametrize(("value", "what"), [(None, b"null"), (b"", b"empty"), (b"junk", b"junk is no number")])
def test_undecodable_input_is_a_dead_letter_at_once(value: bytes | None, what: bytes) -> None:
    worker = Script()
    with Shop(worker) as shop:
        shop.submit([FakeRecord(0, value), 1])
        out = bury(shop)
        assert shop.seen[-2].kind is m.FailureKind.PERMANENT
        shop.until_items(2)
        assert shop.freed == {0: len(value or b"") + 1}
    assert out.value == value
    assert headers_of(out)[ERRORS + "stage"] == b"decode"
    assert what in headers_of(out)[ERRORS + "exception.message"]
    assert worker.calls == [1]


def test_a_value_that_does_not_fit_is_replaced_by_a_reference() -> None:
    value = b"5" + b"." * MAX_BYTES
    with Shop(Script(_5=[PermanentError("no")])) as shop:
        shop.submit([FakeRecord(0, value)])
        out = bury(shop)
    assert out.value is None
    assert headers_of(out)["checkpoint-dlq-reference"] == digest(value)


@pytest.mark.parametrize(
    ("key", "found"),
    [(b"k", [("h", b"x" * MAX_BYTES)]), (b"k" * MAX_BYTES, None), (b"k", [(f"h{n}", b"") for n in range(10_000)])],
    ids=["huge header", "huge key", "10,000 headers"],
)
def test_headers_or_a_key_that_do_not_fit_are_left_out_of_the_dead_letter(key: bytes, found: Any) -> None:
    with Shop(Script(_5=[PermanentError("no")])) as shop:
        shop.submit([FakeRecord(7, b"5", 0, key, found)])
        out = bury(shop)
    assert (out.key, out.value) == (None, None)
    headers = headers_of(out)
    assert headers["checkpoint-dlq-reference"] == digest(b"5") + b";bare"
    assert headers[ERRORS + "offset"] == b"7"
    assert len(headers) == 9


class BrokenHeaders(FakeRecord):
    """A header's name is not UTF-8: the client raises, and what it returns the next time crashes the process."""

    asked = 0

    def headers(self) -> Any:
        self.asked += 1
        assert self.asked == 1, "this would be a crash"
        raise SystemError("returned a result with an exception set")


def test_a_header_name_that_is_not_utf8_is_a_dead_letter_at_once() -> None:
    worker = Script()
    with Shop(worker) as shop:
        shop.submit([0, BrokenHeaders(1, b"1"), 2])
        failed = shop.until(m.Failed)
        assert failed.kind is m.FailureKind.PERMANENT
        shop.post(m.DeadLetter(0, 1, 1, 1))
        items = shop.until_items(3)
    assert worker.calls == [0, 2]
    assert [item.outs[0].topic for item in items] == ["out", "dlq", "out"]
    assert (items[1].outs[0].key, items[1].outs[0].value) == (b"key", b"1")
    assert b"headers cannot be read" in headers_of(items[1].outs[0])[ERRORS + "exception.message"]


def test_an_output_that_does_not_fit_is_a_dead_letter() -> None:
    with Shop(Script(_0=["x" * MAX_BYTES])) as shop:
        shop.submit([0])
        out = bury(shop)
    assert headers_of(out)[ERRORS + "stage"] == b"encode"
    message = headers_of(out)[ERRORS + "exception.message"]
    assert b"max.message.bytes" in message
    assert b"(2000)" in message


def test_a_schema_violation_is_a_dead_letter_and_nothing_of_the_checkpoint_is_published() -> None:
    with Shop(Script(_0=[["fine", "violation"]])) as shop:
        shop.submit([0])
        out = bury(shop)
    assert out.topic == "dlq"
    assert headers_of(out)[ERRORS + "exception.message"] == b"field x: 1.5 is no long"


def test_a_condemned_offset_is_dead_lettered_unworked() -> None:
    worker = Script()
    with Shop(worker) as shop:
        shop.submit([0, 1, 2], condemned={1: "delivery: INVALID_RECORD: no"})
        items = shop.until_items(3)
    assert worker.calls == [0, 2]
    assert [item.dead for item in items] == [False, True, False]
    headers = headers_of(items[1].outs[0])
    assert headers[ERRORS + "exception.message"] == b"delivery: INVALID_RECORD: no"
    assert headers[ERRORS + "stage"] == b"publish"
    assert items[1].history.sequence_number == 1, "its number counts as seen"


def test_a_dead_letter_keeps_its_place() -> None:
    with Shop(Script(_1=[PermanentError("no")])) as shop:
        shop.submit(range(3))
        failed = shop.until(m.Failed)
        assert shop.quiet() == []
        shop.post(m.DeadLetter(0, 1, failed.offset, 1))
        items = shop.until_items(3)
    assert [item.outs[0].topic for item in items] == ["out", "dlq", "out"]


def test_a_worker_of_no_key() -> None:
    class Filter(Worker[Any]):
        def process_checkpoint(self, checkpoint: Any) -> Any:
            return Output({"a": 1}, key="")

    with Shop(Filter()) as shop:
        shop.submit([FakeRecord(0, b"1", 2, None)], number=2)
        out = only_out(shop, 2)
    assert (out.key, out.partition) == (b"", partition_for_key(b"", 4))
