"""`dlq`: what is in the dead-letter topic and why, and `resume` after a stop by the dead-letter limit."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, Self

from consumer.cli.tail import parsed, positive, readable, timestamp_of
from consumer.errors import ConfigError, DecodeError, ExitCode, Stop
from consumer.kafka.preflight import Preflight
from consumer.kafka.reader import Origin, TopicReader
from consumer.kafka.topics import find_topic
from consumer.log import configure, printable
from consumer.patience import Patience
from consumer.records import Headers, Record, headers_of
from consumer.settings import Settings, load_settings
from consumer.work.publish import ATTEMPTS, CONNECT, GROUP, REFERENCE

__all__ = ["DeadLetter", "add_arguments", "run", "value_lines", "without_counts"]

_HEX_BYTES = 4096
_logger = logging.getLogger("consumer.dlq")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's arguments; `--config` and `--json` may stand before the action or behind it."""
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--config", type=Path, metavar="FILE", help="TOML file of settings; the environment wins")
    common.add_argument("--json", action="store_true", help="print JSON")
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    listing = actions.add_parser("list", parents=[common], help="one line per dead letter, then how many of each error")
    listing.add_argument("--error", metavar="CLASS", help="only those of this exception class, such as DecodeError")
    listing.add_argument("--max", type=positive, metavar="N", help="end after N dead letters")
    listing.set_defaults(action=_list)

    showing = actions.add_parser("show", parents=[common], help="everything about one dead letter")
    showing.add_argument("place", type=_place, metavar="PARTITION/OFFSET", help="where `dlq list` found it")
    showing.set_defaults(action=_show)

    resuming = actions.add_parser("resume", parents=[common], help="forget the group's dead-letter counts")
    resuming.add_argument("--partition", type=int, action="append", metavar="P", help="only this one; may be repeated")
    resuming.set_defaults(action=_resume)


def run(args: argparse.Namespace) -> int:
    """Carry out one action.

    Raises:
        Stop: a setting is wrong, a topic or the dead letter is missing, or the group has members.
    """
    required = {"kafka.bootstrap_servers", "input_topic" if args.action is _resume else "dlq_topic"}
    if args.action is _resume:
        required.add("group_id")
    settings = load_settings(os.environ, config_file=args.config, required=frozenset(required))
    configure(settings.log)
    args.action(args, settings)
    return ExitCode.DONE


class DeadLetter(NamedTuple):
    """What the headers of a dead letter say; None where there is no such header. Positions as `TOPIC/PARTITION/OFFSET`.

    Foreign records may lie in the topic too: nothing here is trusted.
    """

    partition: int
    offset: int
    timestamp: str | int | None
    original: str | None
    stage: str | None
    error: str | None
    message: str | None
    attempts: str | None
    group: str | None
    reference: str | None

    @classmethod
    def of(cls, record: Record, headers: Headers) -> Self:
        """Read the headers; of a name that occurs twice the last one, which is ours."""
        said = {name: (value or b"").decode("utf-8", "backslashreplace") for name, value in headers}
        place = [said.get(CONNECT + part) for part in ("topic", "partition", "offset")]
        return cls(
            record.partition(),
            record.offset(),
            timestamp_of(*record.timestamp()),
            "/".join(filter(None, place)) if all(place) else None,
            said.get(CONNECT + "stage"),
            said.get(CONNECT + "exception.class.name"),
            said.get(CONNECT + "exception.message"),
            said.get(ATTEMPTS),
            said.get(GROUP),
            said.get(REFERENCE),
        )

    def is_of(self, error: str | None) -> bool:
        """Whether it is of this exception class, named in full or without its module; None: of any."""
        return error in (None, self.error, (self.error or "").rpartition(".")[2])

    def line(self) -> str:
        """One line for people."""
        message = self.message or ""
        shown = message if len(message) <= 160 else message[:159] + "…"
        words = [f"{self.partition}/{self.offset}", self.timestamp, self.original, self.stage, self.error]
        return "  ".join(
            printable(str(word or "?")) for word in [*words, self.group, f"attempt {self.attempts}", shown]
        )


def _headers(record: Record) -> Headers:
    try:
        return headers_of(record)
    except DecodeError:
        return []  # not written by us


def _reader(settings: Settings, topic: str, setting: str) -> TopicReader:
    return TopicReader(settings, find_topic(settings, topic, setting, _logger), _logger)


# ------------------------------------------------------------------------------------------------------------ list


def _list(args: argparse.Namespace, settings: Settings) -> None:
    counts: Counter[str] = Counter()
    with closing(_reader(settings, settings.dlq_topic, "CONSUMER_DLQ_TOPIC")) as reader:
        for record in reader.records(Origin("earliest"), follow=False, stop=lambda: False):
            letter = DeadLetter.of(record, _headers(record))
            if not letter.is_of(args.error):
                continue
            print(json.dumps(letter._asdict()) if args.json else letter.line())
            counts[letter.error or "?"] += 1
            if counts.total() == args.max:
                break
    if args.json:
        print(json.dumps({"dead_letters": counts.total(), "by_error": counts}))
    else:
        shown = "".join(f"\n  {count:>8,}  {printable(error)}" for error, count in counts.most_common())
        print(f"{counts.total():,} dead letters in {settings.dlq_topic}{shown}")


# ------------------------------------------------------------------------------------------------------------ show


def _show(args: argparse.Namespace, settings: Settings) -> None:
    partition, offset = args.place
    with closing(_reader(settings, settings.dlq_topic, "CONSUMER_DLQ_TOPIC")) as reader:
        record = reader.record_at(partition, offset)
    if record is None:
        raise Stop(f"{settings.dlq_topic}/{partition}/{offset} holds no record: use a place that `dlq list` prints")
    headers = _headers(record)
    letter = DeadLetter.of(record, headers)
    value, note = record.value(), None
    if value is None and letter.reference is not None:
        value, note = _original(settings, letter.original or "", letter.reference)
    if args.json:
        fields = {**letter._asdict(), "key": readable(record.key()), "note": note}
        fields["headers"] = [[name, readable(header)] for name, header in headers]
        fields["value"] = None if value is None else _value(value)
        print(json.dumps(fields))
        return
    facts = {**letter._asdict(), "note": note, "key": readable(record.key())}
    lines = [f"{name:<10} {printable(str(fact))}" for name, fact in facts.items() if fact is not None]
    lines += [f"header     {printable(name)}: {printable(str(readable(header)))}" for name, header in headers]
    print("\n".join([*lines, *value_lines(value)]))


def _original(settings: Settings, original: str, reference: str) -> tuple[bytes | None, str]:
    """The value that did not fit into the dead-letter topic, from where it was read, and what to say about it."""
    place = re.fullmatch(r"([\w.-]+)/(\d{1,9})/(\d{1,18})", original, re.ASCII)
    if place is None:
        return None, f"the value did not fit ({reference}), and the headers do not say where it came from"
    try:
        with closing(_reader(settings, place[1], "the dead letter's original topic")) as reader:
            record = reader.record_at(int(place[2]), int(place[3]))
    except Stop as error:
        return None, f"the value did not fit ({reference}); the original cannot be read: {error}"
    if record is None:
        return None, f"the value did not fit ({reference}); the original is not there any more"
    value = record.value()
    digest = f"size={len(value or b'')};sha256={hashlib.sha256(value or b'').hexdigest()}"
    if not reference.startswith(digest):
        return None, f"the value did not fit ({reference}); at {original} there is another one ({digest})"
    return value, f"the value did not fit; it was fetched from {original}, and its SHA-256 is right"


def _value(value: bytes) -> Any:
    try:
        return parsed(value)
    except ValueError:
        return readable(value)


def value_lines(value: bytes | None) -> Iterator[str]:
    """JSON indented, other text with its control characters escaped, the beginning of other bytes in hex."""
    if value is None:
        yield "value      null"
        return
    try:
        text = json.dumps(parsed(value), indent=2)
    except (ValueError, RecursionError):
        try:
            text = "\n".join(map(printable, value.decode().split("\n")))
        except UnicodeDecodeError:
            rows = [value[at : at + 16] for at in range(0, min(len(value), _HEX_BYTES), 16)]
            text = "\n".join(f"{16 * number:08x}  {row.hex(' ')}" for number, row in enumerate(rows))
            text += f"\n… {len(value) - _HEX_BYTES:,} bytes more" if len(value) > _HEX_BYTES else ""
    yield f"value      {len(value):,} bytes"
    yield text


# ---------------------------------------------------------------------------------------------------------- resume


def _resume(args: argparse.Namespace, settings: Settings) -> None:
    topic = find_topic(settings, settings.input_topic, "CONSUMER_INPUT_TOPIC", _logger)
    chosen = set(args.partition or range(topic.partitions))
    if strange := sorted(chosen - set(range(topic.partitions))):
        raise ConfigError(f"--partition {strange[0]}: {topic.name} has partitions 0 to {topic.partitions - 1}")
    preflight = Preflight(settings, Patience(False, lambda: False))
    if members := preflight.members():
        raise ConfigError(f"group {settings.group_id} has members: {', '.join(sorted(members))}: stop them first")
    plan, rewritten = [], {}
    for number, (offset, metadata) in sorted(preflight.committed(topic.partitions, stable=True).items()):
        if number in chosen:
            counts, rest = without_counts(metadata)
            counted = None if counts is None else counts._asdict()
            plan.append({"partition": number, "next_offset": offset, "dead_letters": counted})
            rewritten.update({number: (offset, rest)} if counts is not None else {})
            if not args.json:
                what = counts.sentence() if counts else "nothing to reset"
                print(f"{topic.name}/{number}  next offset {offset}  {what}", flush=True)
    if rewritten and (error := preflight.alter(rewritten)) is not None:
        reason = f"{error.name()}: {error.str()}"
        raise ConfigError(f"the brokers refuse the offsets of group {settings.group_id} ({reason}): stop its members")
    summary = {"group": settings.group_id, "topic": topic.name, "reset": sorted(rewritten), "partitions": plan}
    print(json.dumps(summary) if args.json else f"{len(rewritten)} of {len(plan)} partitions reset")


class Counts(NamedTuple):
    """A partition's dead-letter counts: those at the end of what is committed, and among its last 1,000 records."""

    consecutive: int
    of_last_1000: int

    def sentence(self) -> str:
        """For people."""
        return f"{self.consecutive} dead letters in a row, {self.of_last_1000} of the last 1,000"


def without_counts(metadata: str) -> tuple[Counts | None, str]:
    """The dead-letter counts in a committed offset's metadata (None: it has none), and the metadata without them.

    Keys that this version does not know stay.
    """
    try:
        history = json.loads(metadata)
        dead = history.pop("dead") if history["v"] == 1 else {}
        return Counts(dead["run"], int(dead["last"], 16).bit_count()), json.dumps(history, separators=(",", ":"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None, metadata


def _place(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,9})/(\d{1,18})", text, re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no place: use PARTITION/OFFSET as `dlq list` prints it")
    return int(found[1]), int(found[2])
