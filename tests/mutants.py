"""Damaged checkpoints by seed, and a child process that decodes them next to a strict parser of Python's own.

`python -m tests.mutants SEED FIRST COUNT [FOLDER]` prints each mutant's number before it is decoded, and at the end
how many were accepted. It dies of the mutant that crashes it, or takes longer than DEADLINE_SECONDS; a value that
differs from the reference's is a traceback.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

from consumer.checkpoint import Checkpoint, CheckpointHeader, GasCostSummary, Position, Summary
from consumer.errors import DecodeError
from consumer.generate import DIALECTS, generate

DEADLINE_SECONDS = 20.0
AT = Position("checkpoints", 0, 0)
SUMMARY_BYTES = 1500
"""About so long is the part that is read in full; every other mutant is damaged there."""

DEEP = [b"[" * depth + b"]" * depth for depth in (1, 200, 100_000)] + [b'{"a":' * 200 + b"1" + b"}" * 200]
VALUES = [
    *(b"null", b"true", b"false", b"0", b"-0", b"-1", b"01", b"1.0", b"1e3", b"1E+2", b"1.5", b"0.1e-400", b"1e999"),
    *(b"NaN", b"-Infinity", b"9223372036854775808", b"18446744073709551615", b"18446744073709551616", b"9" * 30),
    *(b"1" * 5000, b"0.3" + b"3" * 400, b'""', b'"7"', b'"+7"', b'"07"', b'"18446744073709551615"', b'"1_0"'),
    *('"\uff11"'.encode(), b'"18446744073709551616"', b'"Success"', b'"true"', b'"\\ud800"', b'"\\ud83d\\ude00"'),
    *(b'"\\u0000"', b'"\xff"', b'"\x01"', b'"\xed\xa0\x80"', b"[]", b"{}", b"[null]", b'{"V1":null}', b'{"a":1,"a":2}'),
    *(b'{"success":true}', b'{"kind":"genesis"}', *DEEP),
]
SCALAR = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null')
KEY = re.compile(rb'"\w+":')


def mutant(seed: str, number: int, real: list[bytes]) -> bytes:
    """Mutant `number` of the seed; always the same bytes."""
    random = Random(f"{seed}/{number}")
    data = original(random, real)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        data = random.choice(MUTATIONS)(random, data)
    return data


def original(random: Random, real: list[bytes]) -> bytes:
    """A checkpoint of 3 KB, one in ten of 40 KB, and one in thirty a real one, where there are any."""
    if real and random.random() < 1 / 30:
        return random.choice(real)
    size = 40_000 if random.random() < 0.1 else 0
    number = random.choice((0, 98, 99, 100))
    return generate(number, transactions=2, size_bytes=size, dialect=random.choice(DIALECTS))


def somewhere(random: Random, data: bytes) -> int:
    return random.randrange(min(len(data), SUMMARY_BYTES) if random.random() < 0.5 else len(data)) if data else 0


def flip(random: Random, data: bytes) -> bytes:
    changed = bytearray(data or b" ")
    changed[somewhere(random, data)] ^= 1 << random.randrange(8)
    return bytes(changed)


def truncate(random: Random, data: bytes) -> bytes:
    return data[: somewhere(random, data)]


def cut_out(random: Random, data: bytes) -> bytes:
    at = somewhere(random, data)
    return data[:at] + data[at + random.choice((1, 2, 10, 100)) :]


def splice(random: Random, data: bytes) -> bytes:
    at, start = somewhere(random, data), somewhere(random, data)
    return data[:at] + data[start : start + random.choice((1, 5, 50, 500))] + data[at:]


def insert(random: Random, data: bytes) -> bytes:
    at = somewhere(random, data)
    return data[:at] + random.choice((b" ", b"\n", b",", b"{", b"}", b'"', b"\\", b"\0", b"\xef\xbb\xbf")) + data[at:]


def swap_type(random: Random, data: bytes) -> bytes:
    found = SCALAR.search(data, somewhere(random, data))
    return data if found is None else data[: found.start()] + random.choice(VALUES) + data[found.end() :]


def swap_part(random: Random, data: bytes) -> bytes:
    """Any part of the document, large or small, replaced by something else."""
    try:
        part = document = json.loads(data)
    except (ValueError, RecursionError):
        return data
    while part:
        keys = list(part) if isinstance(part, dict) else range(len(part))
        key = random.choice(keys)
        if not isinstance(part[key], (dict, list)) or random.random() < 0.2:
            part[key] = "@@"
            break
        part = part[key]
    return (
        json.dumps(document, separators=(",", ":"), ensure_ascii=False)
        .encode("utf-8", "surrogatepass")
        .replace(b'"@@"', random.choice(VALUES))
    )


def repeat_key(random: Random, data: bytes) -> bytes:
    """The key twice: once more before itself with any value, or its value again somewhere behind."""
    found = KEY.search(data, somewhere(random, data))
    if found is None:
        return data
    later = KEY.search(data, somewhere(random, data)) if random.random() < 0.3 else None
    at = (later or found).start()
    return data[:at] + found[0] + random.choice(VALUES) + b"," + data[at:]


def swap_key(random: Random, data: bytes) -> bytes:
    found, other = (KEY.search(data, somewhere(random, data)) for _ in range(2))
    return data if found is None or other is None else data[: found.start()] + other[0] + data[found.end() :]


def trail(random: Random, data: bytes) -> bytes:
    return data + random.choice((b"\n", b"{}", b"\0", b",", b"null"))


MUTATIONS: list[Callable[[Random, bytes], bytes]] = [
    *(
        flip,
        truncate,
        cut_out,
        splice,
        insert,
        swap_type,
        swap_type,
        swap_part,
        swap_part,
        repeat_key,
        repeat_key,
        swap_key,
        trail,
    )
]


# --------------------------------------------------------------------------------------------------- the reference


def refuse(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def integer(text: str) -> int | str:
    """The number; its text where Python makes no number of so many digits."""
    return int(text) if len(text) < 4000 else text


def parse(data: bytes, pairs: Callable[[Any], Any] | None = None) -> Any:
    """Python's own parser, strict: ValueError where the bytes are not JSON. The last of equal keys counts."""
    return json.loads(data.decode(), parse_int=integer, parse_constant=refuse, object_pairs_hook=pairs)


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key comes twice")
    return dict(pairs)


def first(found: Mapping[str, Any], *names: str) -> Any:
    return next((found[name] for name in names if found.get(name) is not None), None)


def number(value: Any) -> int:
    assert type(value) is int or (type(value) is str and re.fullmatch(r"[0-9]{1,20}", value)), "no number was read"
    return int(value)


def gas_of(found: Mapping[str, Any]) -> GasCostSummary:
    burned = first(found, "computationCostBurned", "computation_cost_burned")
    return GasCostSummary(
        number(first(found, "computationCost", "computation_cost")),
        None if burned is None else number(burned),
        number(first(found, "storageCost", "storage_cost")),
        number(first(found, "storageRebate", "storage_rebate")),
        number(first(found, "nonRefundableStorageFee", "non_refundable_storage_fee")),
    )


def summary_of(document: Any) -> Summary:
    data = first(document["checkpoint_summary"], "data", "checkpoint")
    end = data.get("end_of_epoch_data") or data.get("endOfEpochData")
    return Summary(
        number(data["epoch"]),
        number(first(data, "sequence_number", "sequenceNumber")),
        number(first(data, "network_total_transactions", "networkTotalTransactions")),
        first(data, "content_digest", "contents_digest", "contentDigest", "contentsDigest"),
        data.get("previous_digest") or data.get("previousDigest"),
        gas_of(first(data, "epoch_rolling_gas_cost_summary", "epochRollingGasCostSummary")),
        number(first(data, "timestamp_ms", "timestampMs")),
        end and {re.sub("([A-Z])", r"_\1", key).lower(): value for key, value in end.items()},
    )


def count_of(document: Any) -> int:
    contents = document["checkpoint_contents"]
    return len(contents if isinstance(contents, list) else first(contents, "V1", "V2")["transactions"])


def transaction_of(document: Any) -> tuple[Any, ...]:
    """Kind, sender, digest, status, gas and events."""
    signed = document["transaction"]
    inner = first(signed["data"][0]["intent_message"], "value") if signed.get("data") else signed["transaction"]
    inner = first(inner, "V1") or inner
    effects = first(document["effects"], "V1", "V2") or document["effects"]
    kind = inner["kind"]
    if isinstance(kind, dict):
        words = kind["kind"].split("_") if "kind" in kind else None
        kind = "".join(word[:1].upper() + word[1:] for word in words) if words else next(iter(kind))
    kind = {"Programmable": "ProgrammableTransaction", "EndOfEpoch": "EndOfEpochTransaction"}.get(kind, kind)
    status = effects.get("status") if effects.get("success") is None else effects["success"]
    if isinstance(status, dict):
        status = status.get("success", status.get("status", next(iter(status))))
    succeeded = str(status).lower() in ("success", "true")
    assert succeeded or str(status).lower() in ("failure", "false"), "no status was read"
    events = document.get("events")
    return (
        *(kind, inner["sender"], first(effects, "transaction_digest", "transactionDigest")),
        "success" if succeeded else "failure",
        gas_of(first(effects, "gas_used", "gas_cost_summary", "gasUsed")),
        (events.get("data") if isinstance(events, dict) else events) or [],
    )


# ------------------------------------------------------------------------------------------------------ comparing


def headers(data: bytes) -> Iterator[Any]:
    """The documents that a header may be read from: the whole, or what stands before its transactions."""
    cuts = [data[: found.start()].rstrip() for found in re.finditer(b'"transactions"', data)]
    for text in [data, *(cut[:-1] + b"}" for cut in cuts if cut.endswith(b","))]:
        try:
            yield parse(text)
        except (ValueError, RecursionError):
            continue


def same(read: Any, expected: Any) -> bool:
    """Equal, with equal types all the way down: 1 is neither True nor 1.0."""
    return repr(read) == repr(expected)


def check_header(data: bytes) -> bool:
    """Whether it is accepted; AssertionError where what was read stands nowhere in the bytes."""
    try:
        header = CheckpointHeader.decode(data, AT)
    except DecodeError:
        return False
    for document in headers(data):
        try:
            if same((header.summary, header.transaction_count), (summary_of(document), count_of(document))):
                return True
        except (AssertionError, AttributeError, KeyError, TypeError):
            continue  # not the document that was read
    raise AssertionError(f"the header differs from every reading of the reference: {header}")


OBJECTS = re.compile(rb',"input_objects":.*?(?=\},\{"transaction":\{|\}\]\}$)', re.DOTALL)


def documents(data: bytes) -> Iterator[Any]:
    """The documents that the transactions may be read from: the whole, or what is left of it without their objects.

    The whole alone where it is JSON: only a key that comes twice may count in another way, and some digests may be
    those of another document.
    """
    for text, pairs in ((data, unique), (data, None), (OBJECTS.sub(b"", data), None)):
        try:
            yield parse(text, pairs)
        except (ValueError, RecursionError):
            continue
        if pairs is unique:
            return


def check_whole(data: bytes) -> bool:
    """Whether it is accepted; AssertionError where a value differs from the reference's."""
    try:
        checkpoint = Checkpoint.decode(data, AT)
    except DecodeError:
        return False
    if not any(agrees(checkpoint, document) for document in documents(data)):
        raise AssertionError("the transactions differ from every reading of the reference")
    try:
        assert same(checkpoint.data, parse(data))
    except DecodeError:
        return True
    return True


def agrees(checkpoint: Checkpoint, document: Any) -> bool:
    """Whether the summary and the transactions are those of the document."""
    try:
        facts = [transaction_of(transaction) for transaction in document["transactions"]]
        if not same(checkpoint.summary, summary_of(document)) or len(checkpoint.transactions) != len(facts):
            return False
    except (AssertionError, AttributeError, KeyError, TypeError):
        return False  # not the document that was read
    for read, (*expected, events) in zip(checkpoint.transactions, facts, strict=True):
        if not same([read.kind, read.sender, read.digest, read.status, read.gas_used], expected):
            return False
        try:
            if not same(read.events, events) or read.event_count != len(events):
                return False
        except DecodeError:
            continue
    return True


def main(seed: str, start: int, count: int, folder: str | None = None) -> None:
    """Check the mutants, each with its own deadline: the default action of SIGALRM ends the process, whatever hangs."""
    real = [path.read_bytes() for path in sorted(Path(folder).glob("*.json"))] if folder else []
    accepted: Counter[str] = Counter()
    for index in range(start, start + count):
        os.write(1, b"%d\n" % index)
        data = mutant(seed, index, real)
        signal.setitimer(signal.ITIMER_REAL, DEADLINE_SECONDS)
        accepted["Checkpoint"] += check_whole(data)
        accepted["CheckpointHeader"] += check_header(data)
        signal.setitimer(signal.ITIMER_REAL, 0)
    print(json.dumps(accepted))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
