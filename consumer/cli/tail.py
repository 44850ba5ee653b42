"""`tail`: prints the records of the output or dead-letter topic as JSON lines, values decoded."""

from __future__ import annotations

import argparse
import base64
import json
import logging
import math
import os
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime
from datetime import time as time_of_day
from itertools import islice
from typing import Any

from consumer.avro import CompiledSchema, compile_schema, decode
from consumer.cli.signals import StopRequest
from consumer.errors import DecodeError, ExitCode
from consumer.kafka.reader import Origin, TopicReader
from consumer.kafka.topics import find_topic
from consumer.log import configure
from consumer.records import Record, headers_of
from consumer.reducer import Reducer
from consumer.registry import schema_lookup
from consumer.schemas import SchemaStore, search_path
from consumer.settings import Settings, load_settings
from consumer.worker import Worker

__all__ = [
    "add_arguments",
    "as_avro",
    "as_text",
    "line_of",
    "parsed",
    "positive",
    "readable",
    "run",
    "schema_source",
    "timestamp_of",
]

Value = Callable[[bytes], dict[str, Any]]
"""From a record's value to the fields that show it: `value`, and where it cannot be decoded `error` and its bytes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's arguments."""
    parser.add_argument("--dlq", action="store_true", help="the dead letters instead of the output")
    parser.add_argument(
        "--from",
        dest="origin",
        type=_origin,
        default=Origin("earliest"),
        metavar="WHERE",
        help="earliest (default), latest, an OFFSET in every partition, or a TIME such as 2026-01-31T00:00:00Z",
    )
    parser.add_argument("--max", type=positive, metavar="N", help="end after N records")
    parser.add_argument("--no-follow", action="store_true", help="end at what is the end of the topic now")


def run(args: argparse.Namespace) -> int:
    """Print records until one of the ends asked for, or a signal.

    Raises:
        Stop: a setting is wrong, the topic is missing, or it cannot be read.
    """
    setting = "dlq_topic" if args.dlq else "output_topic"
    settings = load_settings(
        os.environ, config_file=args.config, required=frozenset({"kafka.bootstrap_servers", setting})
    )
    configure(settings.log)
    logger = logging.getLogger("consumer.tail")
    value = as_text if args.dlq else as_avro(schema_source(settings))
    with StopRequest() as stop:
        try:
            with stop.interruptible():
                topic = find_topic(settings, getattr(settings, setting), f"CONSUMER_{setting.upper()}", logger)
                reader = TopicReader(settings, topic, logger)
        except KeyboardInterrupt:
            return ExitCode.DONE  # before there was anything to print
        with closing(reader):
            records = reader.records(args.origin, follow=not args.no_follow, stop=lambda: bool(stop))
            for record in islice(records, args.max):
                print(line_of(topic.name, record, value), flush=not args.no_follow)
    return ExitCode.DONE


def schema_source(settings: Settings) -> Callable[[int], CompiledSchema]:
    """Where the schema of an id is found: the registry or the schema path, then the configured worker's own.

    The last is for a schema in no version file, whose id is made of its hash: only the worker itself knows it.
    """
    lookup = schema_lookup(settings.schema)
    own: dict[int, CompiledSchema] | None = None

    def schema(schema_id: int) -> CompiledSchema:
        nonlocal own
        try:
            return lookup(schema_id)
        except DecodeError:
            own = _own_schemas(settings) if own is None else own
            if schema_id not in own:
                raise
            return own[schema_id]

    return schema


def _own_schemas(settings: Settings) -> dict[int, CompiledSchema]:
    if not settings.worker:
        return {}
    from consumer.loading import encodings, make  # imports user code: only where an id asks for it

    worker = make(settings.worker, Worker, settings.worker_options, "CONSUMER_WORKER")
    reducer = (
        make(settings.reducer, Reducer, settings.reducer_options, "CONSUMER_REDUCER") if settings.reducer else None
    )
    compiled = [compile_schema(encoding.schema) for encoding in encodings(worker, reducer, settings)]
    store = SchemaStore(search_path(settings.schema.path))
    return {store.id_of(schema.parsed).id: schema for schema in compiled}


def line_of(topic: str, record: Record, value: Value) -> str:
    """One record as one line of JSON."""
    raw = record.value()
    fields = {
        "topic": topic,
        "partition": record.partition(),
        "offset": record.offset(),
        "timestamp": timestamp_of(*record.timestamp()),
        "key": readable(record.key()),
        **_headers(record),
        **({"value": None} if raw is None else value(raw)),
    }
    return json.dumps(fields, default=_plain)  # ASCII: no control character reaches a terminal


def timestamp_of(kind: int, milliseconds: int) -> str | int | None:
    """A record's timestamp: None where it has none, a plain number of milliseconds where no calendar has it."""
    try:
        stamp = datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds") if kind else None
    except (OverflowError, ValueError):
        return milliseconds
    return stamp.replace("+00:00", "Z") if stamp else None


def as_text(raw: bytes) -> dict[str, Any]:
    """A value that may be anything: JSON as itself, other text as text, the rest as base64."""
    try:
        return {"value": parsed(raw)}
    except ValueError:
        return {"value": readable(raw)}


def parsed(raw: bytes) -> Any:
    """JSON, where showing it again changes no value: ValueError where it is none, or holds NaN, 1e999 or the like."""
    try:
        value = json.loads(raw.decode(), parse_float=_float, parse_constant=_float)
        json.dumps(value)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no JSON, or no float")
    return value


def _finite(value: Any) -> Any:
    """The same with text in place of NaN and the infinities, which JSON does not have."""
    match value:
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case dict():
            return {key: _finite(inner) for key, inner in value.items()}
        case list():
            return [_finite(inner) for inner in value]
    return value


def as_avro(schema_for_id: Callable[[int], CompiledSchema]) -> Value:
    """A value in Confluent framing, decoded with the schema it names."""

    def decoded(raw: bytes) -> dict[str, Any]:
        try:
            return {"value": _finite(decode(raw, schema_for_id)[1])}
        except DecodeError as error:
            return {"value": None, "value_base64": base64.b64encode(raw).decode(), "error": str(error)}

    return decoded


def _headers(record: Record) -> dict[str, Any]:
    """The field `headers`, by name; a name that occurs more than once has a list."""
    shown: dict[str, list[Any]] = {}
    try:
        for name, value in headers_of(record):
            shown.setdefault(name, []).append(readable(value))
    except DecodeError as error:
        return {"headers": None, "headers_error": str(error)}
    return {"headers": {name: values[0] if len(values) == 1 else values for name, values in shown.items()}}


def readable(raw: bytes | None) -> Any:
    """Text where it is UTF-8, else `{"base64": ...}`."""
    if raw is None:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}


def _plain(value: Any) -> Any:
    """What Avro has and JSON has not."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, datetime | date | time_of_day):
        return value.isoformat()
    return str(value)  # a decimal, a UUID


def _origin(text: str) -> Origin:
    if text in ("earliest", "latest"):
        return Origin("earliest" if text == "earliest" else "latest")
    if text.isascii() and text.isdigit():
        return Origin("offset", int(text))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no place: use earliest, latest, an offset, or a time such as 2026-01-31T00:00:00Z"
        ) from None
    return Origin("time", round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000))


def positive(text: str) -> int:
    """An argument that is a number of records."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of records: use 1 or more")
    return int(text)
