"""Every kind of bad input, and every kind of wrong output, on one real partition between good checkpoints.

Each costs itself only: it is a dead letter with a clear reason, or accepted on purpose; its neighbours go through in
order; the member neither dies nor outgrows its memory.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from confluent_kafka import Producer

from tests.brokers.find import Broker
from tests.brokers.topics import TopicFactory
from tests.kafka.commands import WORKERS, Pipeline, Running, small
from tests.kafka.raw_records import produce_raw
from tests.kafka.workers_e2e import WRONG, WRONG_FROM
from tests.readback import ConcurrentReader, end_offsets

MIB = 1 << 20
HUGE = 10 * MIB
ANY_TIME = str(2**63 - 1)
MEMBER_MIB = 70 + 64 + 2 * 3 * HUGE // MIB
"""What the README says: a member and its budget; and the largest record, in librdkafka and in Python."""


class Bad(NamedTuple):
    """A record's value and more, and what the reason must say; None: accepted on purpose."""

    reason: str | None
    value: bytes | None
    key: bytes = b"key"
    headers: Any = ()
    timestamp: int = 0


def swapped(old: bytes, new: bytes, number: int = 7) -> bytes:
    data = small(number)
    assert old in data
    return data.replace(old, new, 1)


NUMBER = b'"sequence_number":7'
TEXT = b'"content_digest":"'
BAD_JSON = {
    "tombstone": Bad("value is null", None),
    "empty": Bad("value is empty", b""),
    "top-level scalar": Bad("Expected `object`, got `int`", b"1"),
    "top-level null": Bad("Expected `object`, got `null`", b"null"),
    "deep": Bad("nested too deeply", b'{"a":' * 100_000),
    "10 MB deep": Bad("Expected `object`", b"[" * HUGE),
    "10 MB of arrays": Bad("Expected `object`", b"[" + b"[]," * (HUGE // 3) + b"[]]"),
    "NaN": Bad("malformed", swapped(NUMBER, b'"sequence_number":NaN')),
    "Infinity": Bad("malformed", swapped(NUMBER, b'"sequence_number":-Infinity')),
    "1e999": Bad("out of range|sequence_number", swapped(NUMBER, b'"sequence_number":1e999')),
    "2^64": Bad("sequence_number", swapped(NUMBER, b'"sequence_number":18446744073709551616')),
    "1,000 digits": Bad("sequence_number|out of range", swapped(NUMBER, b'"sequence_number":' + b"1" * 1000)),
    "float": Bad("sequence_number", swapped(NUMBER, b'"sequence_number":7.0')),
    "UTF-8": Bad("not valid UTF-8", swapped(TEXT, TEXT + b"\xff")),
    "lone surrogate": Bad("surrogate", swapped(TEXT, TEXT + b"\\ud800")),
    "BOM": Bad("malformed", b"\xef\xbb\xbf" + small(7)),
    "control character": Bad("malformed|invalid|control", swapped(TEXT, TEXT + b"\x01")),
    "trailing data": Bad("malformed", small(7) + b"{}"),
    "truncated": Bad("truncated", small(7)[:-1]),
    "huge headers": Bad("truncated", small(7)[:-1], headers=[("h", b"x" * 2 * MIB)]),
    "huge key": Bad("truncated", small(7)[:-1], key=b"k" * 2 * MIB),
    "key that drives a terminal": Bad("truncated", small(7)[:-1], key=b"\x1b[2J\nlevel=error"),
}
ACCEPTED = {
    "duplicate keys, the last counts": Bad(None, swapped(NUMBER, b'"sequence_number":6,"sequence_number":7')),
    "10 MB of arrays that nobody reads": Bad(None, b'{"x":[' + b"[]," * (HUGE // 3) + b"[]]," + small(7)[1:]),
    "10 MB of text that nobody reads": Bad(None, b'{"x":"' + b"x" * HUGE + b'",' + small(7)[1:]),
    "10,000 headers": Bad(None, small(7), headers=[("name", None)] * 10_000),
    "names that drive a terminal": Bad(None, small(7), key=b"\x1b[2J\n", headers=[("\x1b[2J\n", b"\xff")]),
    "far future": Bad(None, small(7), timestamp=2**62),
}


def peak_mib(run: Running) -> int:
    """The most memory that the run's processes ever held resident, the largest one of them."""
    pids = [child.pid for child in psutil.Process(run.process.pid).children(recursive=True)]
    status = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return max(int(found[1]) for text in status if (found := re.search(r"VmHWM:\s+(\d+) kB", text))) >> 10


def digest(value: bytes) -> str:
    return f"size={len(value)};sha256={hashlib.sha256(value).hexdigest()}"


BOMB = b" " * 3 * HUGE
"""30 KB of gzip."""


class Fed(NamedTuple):
    """What a topic was fed: the numbers to be published, a pattern of offset and reason per dead letter, the end."""

    numbers: list[int]
    reasons: list[str]
    end: int


def feed(broker: Broker, topic: str) -> Fed:
    """Every bad record, and a good one behind each."""
    feeding = {"compression.type": "gzip", "message.max.bytes": 100 * MIB, "batch.num.messages": 1}
    producer = Producer({"bootstrap.servers": broker.bootstrap, **feeding})
    raw = partial(produce_raw, broker.bootstrap, topic, small(7))
    puts: list[tuple[Callable[[], object], str | None, int]] = []
    for bad in [*BAD_JSON.values(), *ACCEPTED.values()]:
        put = partial(producer.produce, topic, bad.value, bad.key, 0, headers=list(bad.headers))
        puts.append((partial(put, timestamp=bad.timestamp), bad.reason, 7))  # 0: the present time
    for number, (_, reason) in enumerate(WRONG.values(), WRONG_FROM):
        puts.append((partial(producer.produce, topic, small(number), b"key", 0), reason, number))
    puts.append((partial(producer.produce, topic, BOMB, b"bomb", 0), "truncated", 7))
    puts.append((partial(raw, headers=[(b"\xff\xfe", b"1")]), "a name is not valid UTF-8", 7))
    puts.append((partial(raw, timestamp_ms=-5), None, 7))

    numbers: list[int] = []
    reasons: list[str] = []
    for at, (produce, says, expected) in enumerate(puts):
        produce()
        assert producer.flush(30) == 0
        if says is None:
            numbers.append(expected)
        else:
            reasons.append(f"{2 * at}: .*({says})")
        producer.produce(topic, small(2 * at + 1), b"good", 0)
        numbers.append(2 * at + 1)
        assert producer.flush(30) == 0
    assert end_offsets(broker.bootstrap, [topic]) == {(topic, 0): 2 * len(puts)}
    return Fed(numbers, reasons, 2 * len(puts))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from /proc")
def test_each_costs_itself_only(broker: Broker, topics: TopicFactory) -> None:
    config = {"max.message.bytes": str(2 * HUGE), "message.timestamp.after.max.ms": ANY_TIME}
    source = topics(input=1, output=0, dlq=0, config=config)
    names = topics(input=0, output=1, dlq=1)._replace(input=source.input)
    pipeline = Pipeline(broker, names, worker=f"{WORKERS}:Mischief")
    fed = feed(broker, names.input)

    reader = ConcurrentReader(broker.bootstrap, [names.output, names.dlq])
    with pipeline.running(dlq__max_ratio=1) as run:
        reader.wait_for(len(fed.numbers) + len(fed.reasons))
        peak = peak_mib(run)
        done = run.stop()
    found = reader.finish()
    assert (done.code, done.loud) == (0, []), done.stderr
    assert all(map(str.isprintable, done.stderr.split("\n"))), "nothing drives the terminal or forges a line"
    outputs = [record for record in found if record.topic == names.output]
    assert [int(record.header("number") or -1) for record in outputs] == fed.numbers
    assert pipeline.committed() == {0: fed.end}
    letters = [record for record in found if record.topic == names.dlq]
    for letter, reason in zip(letters, fed.reasons, strict=True):
        said = [letter.header(f"__connect.errors.{name}") or "" for name in ("offset", "exception.message")]
        assert re.match(reason, ": ".join(said)), (reason, said)
    references = [letter.header("checkpoint-dlq-reference") for letter in letters]
    assert [reference for reference in references if reference] == [
        digest(BAD_JSON[name].value or b"") + (";bare" if name.startswith("huge") else "")
        for name in ("10 MB deep", "10 MB of arrays", "huge headers", "huge key")
    ] + [digest(BOMB)]
    listed = [json.loads(line) for line in pipeline.command("dlq", "list", "--json").splitlines()]
    assert listed[-1]["dead_letters"] == sum(listed[-1]["by_error"].values()) == len(letters) == len(listed) - 1
    assert peak < MEMBER_MIB, f"{peak} MiB"
