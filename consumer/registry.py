"""A Confluent-compatible schema registry, and where the id of an output schema comes from.

The registry's interface: Confluent Platform, "Schema Registry API reference". The subject is `<output topic>-value`.
Confluent's own client is not used: it blocks for seconds without a limit of ours and raises its HTTP library's errors.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote

from consumer.avro import CompiledSchema, compile_schema
from consumer.errors import ConfigError, DecodeError
from consumer.rest import TOTAL_SECONDS, Answer, Rest
from consumer.schemas import SchemaStore, search_path

__all__ = ["Registry", "SchemaSettings", "resolve_id", "schema_lookup"]

NO_SUBJECT, NO_VERSION, NO_SCHEMA = 40401, 40402, 40403
UNKNOWN_ID_SECONDS = 60.0
"""How long an id that the registry did not know is not asked for again: damaged records must not become its load."""
MAX_UNKNOWN_IDS = 10_000


class SchemaSettings(Protocol):
    """The group SCHEMA of the settings."""

    @property
    def path(self) -> Sequence[str]: ...
    @property
    def registry_url(self) -> str | None: ...
    @property
    def registry_options(self) -> Mapping[str, Any]: ...
    @property
    def auto_register(self) -> bool: ...


def resolve_id(
    schema: Mapping[str, Any], topic: str, settings: SchemaSettings, seconds: float = TOTAL_SECONDS
) -> tuple[int, str]:
    """The id that stands in front of `topic`'s values, and where it is from: `registry`, `schema path` or `hash`.

    With `hash` no version file knows the schema: the caller says so in one log line. `seconds` bounds each call to
    the registry, tries and pauses included.

    Raises:
        ConfigError: the registry does not take the schema, or the schema path is damaged.
        TransientError: the registry cannot be reached.
    """
    if settings.registry_url:
        registry = Registry(Rest(settings.registry_url, settings.registry_options, total_seconds=seconds))
        return registry.id_of(schema, topic, auto_register=settings.auto_register), "registry"
    found = SchemaStore(search_path(settings.path)).id_of(schema)
    return found.id, "schema path" if found.from_version_file else "hash"


def schema_lookup(settings: SchemaSettings) -> Callable[[int], CompiledSchema]:
    """What `decode` asks for a schema: the registry where one is set, else the schema path."""
    if settings.registry_url:
        return Registry(Rest(settings.registry_url, settings.registry_options)).schema
    return SchemaStore(search_path(settings.path)).schema


class Registry:
    """Schemas and ids of one registry. What was once found is never asked for again."""

    def __init__(self, rest: Rest, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rest = rest
        self._clock = clock
        self._schemas: dict[int, CompiledSchema] = {}
        self._unknown_until: dict[int, float] = {}

    def id_of(self, schema: Mapping[str, Any], topic: str, *, auto_register: bool) -> int:
        """The id of `schema` under the topic's subject; registers it only with `auto_register`, if it is compatible.

        A schema that the subject has already was checked when it came there, so an older one still runs.

        Raises:
            ConfigError: it is not registered and may not be, or is incompatible; the text says what to do.
            TransientError: the registry cannot be reached.
        """
        subject = f"{topic}-value"
        at = f"/subjects/{quote(subject, safe='')}"
        body = {"schema": json.dumps(schema), "schemaType": "AVRO"}
        found = self._rest.call("POST", f"{at}?normalize=true", body)
        if _error_code(found) not in (NO_SUBJECT, NO_SCHEMA):
            return self._id(found, f"look up the schema under {subject}")
        self._check_compatible(subject, f"/compatibility{at}/versions/latest?verbose=true", body)
        if not auto_register:
            raise ConfigError(
                f"the output schema is not registered under {subject} at {self._rest.name}: register it (it is "
                "compatible), or allow the consumer to with CONSUMER_SCHEMA__AUTO_REGISTER=true"
            )
        registered = self._rest.call("POST", f"{at}/versions?normalize=true", body)
        return self._id(registered, f"register the schema under {subject}")

    def schema(self, schema_id: int) -> CompiledSchema:
        """The schema of an id.

        Raises:
            DecodeError: the registry does not know the id.
            TransientError: the registry cannot be reached.
            ConfigError: the registry answers, but not with an Avro schema.
        """
        known = self._schemas.get(schema_id)
        if known is not None:
            return known
        if self._clock() < self._unknown_until.get(schema_id, 0.0):
            raise self._unknown(schema_id)
        answer = self._rest.call("GET", f"/schemas/ids/{schema_id}")
        if _error_code(answer) == NO_SCHEMA:
            if len(self._unknown_until) >= MAX_UNKNOWN_IDS:
                self._unknown_until.clear()
            self._unknown_until[schema_id] = self._clock() + UNKNOWN_ID_SECONDS
            raise self._unknown(schema_id)
        compiled = compile_schema(self._avro(answer, schema_id))
        self._schemas[schema_id] = compiled
        return compiled

    def _unknown(self, schema_id: int) -> DecodeError:
        return DecodeError(f"schema id {schema_id} is unknown to the registry at {self._rest.name}: foreign or damaged")

    def _avro(self, answer: Answer, schema_id: int) -> Any:
        body = answer.body if isinstance(answer.body, dict) else {}
        if answer.status == 200 and body.get("schemaType", "AVRO") == "AVRO" and not body.get("references"):
            try:
                return json.loads(body["schema"])
            except (KeyError, TypeError, ValueError):
                raise self._refused(answer, f"give schema id {schema_id} as Avro") from None
        raise self._refused(answer, f"give schema id {schema_id} as Avro without references")

    def _check_compatible(self, subject: str, path: str, body: Any) -> None:
        answer = self._rest.call("POST", path, body)
        if _error_code(answer) in (NO_SUBJECT, NO_VERSION):
            return  # nothing there yet to be compatible with
        verdict = answer.body.get("is_compatible") if isinstance(answer.body, dict) else None
        if answer.status != 200 or not isinstance(verdict, bool):
            raise self._refused(answer, f"check the schema against {subject}")
        if not verdict:
            raise ConfigError(
                f"the output schema is not compatible with the latest one of {subject} at {self._rest.name}: "
                f"{_explanation(answer)}; give new fields a default, or write to another topic"
            )

    def _id(self, answer: Answer, doing: str) -> int:
        schema_id = answer.body.get("id") if isinstance(answer.body, dict) else None
        if answer.status != 200 or type(schema_id) is not int:
            raise self._refused(answer, doing)
        return schema_id

    def _refused(self, answer: Answer, doing: str) -> ConfigError:
        return ConfigError(
            f"{self._rest.name} does not {doing} (HTTP {answer.status}: {_explanation(answer)}); correct the schema, "
            "or CONSUMER_SCHEMA__REGISTRY_URL if it does not lead to a Confluent-compatible registry"
        )


def _error_code(answer: Answer) -> int | None:
    """The registry's own code of a 404; None for everything else, also for another server's 404."""
    if answer.status != 404 or not isinstance(answer.body, dict):
        return None
    code = answer.body.get("error_code")
    return code if isinstance(code, int) else None


def _explanation(answer: Answer) -> str:
    """What the registry says about it, on one line of at most 400 printable characters."""
    body = answer.body if isinstance(answer.body, dict) else {}
    said = body.get("message") or body.get("messages") or body.get("reason") or "no explanation"
    text = "; ".join(map(str, said)) if isinstance(said, list) else str(said)
    return "".join(character if character.isprintable() else " " for character in text)[:400]
