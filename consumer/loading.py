"""From the settings to the user's objects: import paths, factories, schemas, and what the work thread needs of them."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consumer.avro import CompiledSchema, Encoder, compile_schema, message_type_of, result_type_of
from consumer.errors import ConfigError, Stop
from consumer.reducer import Reducer
from consumer.schemas import resolve_schema, search_path
from consumer.settings import Settings
from consumer.targets import Target
from consumer.worker import Worker

_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def make(target: Target, base: type, options: Mapping[str, Any], setting: str) -> Any:
    """Import and call `target`; the result is an instance of `base`.

    Raises:
        ConfigError: it cannot be imported or called; the text names the setting.
    """
    factory = _imported(target, setting) if isinstance(target, str) else target
    try:
        made = factory(**options)
    except Stop:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"{setting}={_shown(target)} could not be made with {setting}_OPTIONS ({', '.join(options) or 'none'}): "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, base):
        raise ConfigError(
            f"{setting}={_shown(target)} makes a {type(made).__name__}, which is no consumer.{base.__name__}"
        )
    return made


def _imported(path: str, setting: str) -> Callable[..., Any]:
    if not _PATH.fullmatch(path):
        raise ConfigError(f"{setting}={path} is no import path: write package.module:Name")
    module_name, _, name = path.partition(":")
    here = str(Path.cwd())
    if not sys.flags.safe_path and here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"{setting}={path} cannot be imported: {type(error).__name__}: {error}: correct the path, or install the "
            "package where this command runs"
        ) from error
    if not callable(found):
        raise ConfigError(f"{setting}={path} is no class and no factory")
    made: Callable[..., Any] = found
    return made


def _shown(target: Target) -> str:
    return target if isinstance(target, str) else f"{target.__module__}:{getattr(target, '__qualname__', target)}"


@dataclass(frozen=True, slots=True)
class Encoding:
    """One output: its topic and the schema of its values; `message_type` None: whatever nothing else takes."""

    topic: str
    schema: Mapping[str, Any]
    message_type: type | None
    compiled: CompiledSchema


def check_messages(worker: type, reducer: type) -> None:
    """Raises TypeError where the reducer's Message is not the worker's; both must be annotated."""
    made, taken = message_type_of(worker), message_type_of(reducer)
    if made is not None and taken is not None and not issubclass(made, taken):
        raise TypeError(
            f"{reducer.__name__} takes {taken.__name__} messages, but {worker.__name__} makes {made.__name__}: "
            "annotate both with the same Message type"
        )


def encodings(worker: Worker[Any], reducer: Reducer[Any, Any] | None, settings: Settings) -> list[Encoding]:
    """Everything this pool may publish.

    Raises:
        ConfigError: a schema is missing or wrong, the reducer takes other messages, or there is nothing to publish to.
    """
    folders = search_path(settings.schema.path)
    found = []
    publishes: Worker[Any] | Reducer[Any, Any] = worker
    message_type = message_type_of(type(worker))
    if reducer is not None:
        try:
            check_messages(type(worker), type(reducer))
        except TypeError as error:
            raise ConfigError(f"CONSUMER_REDUCER={settings.reducer}: {error}") from None
        result_type = result_type_of(type(reducer))
        if reducer.schema is not None or result_type not in (None, message_type):
            publishes, message_type = reducer, result_type

    def add(topic: str, owner: type, schema: Any, derived_from: type | None, takes: type | None) -> None:
        resolved = resolve_schema(owner, schema, folders, derived_from)
        found.append(Encoding(topic, resolved, takes, compile_schema(resolved)))

    for output_type, (topic, schema) in (worker.outputs or {}).items():
        add(topic, type(worker), schema, output_type, output_type)
    if settings.output_topic is not None and not (found and publishes.schema is None and message_type is None):
        add(settings.output_topic, type(publishes), publishes.schema, message_type, None)
    if not found and reducer is None:
        raise ConfigError("there is no output topic: set CONSUMER_OUTPUT_TOPIC")
    return found


def encoder(encoding: Encoding, schema_id: int) -> Encoder:
    """The encoder of one output."""
    return Encoder(encoding.compiled, schema_id)
