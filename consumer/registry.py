"""A Confluent-compatible schema registry, and where the id of an output schema comes from.

The registry's interface: Confluent Platform, "Schema Registry API reference". The subject is `<output topic>-value`.
Confluent's own client is not used: it blocks for seconds without a limit of ours and raises its HTTP library's errors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from consumer.avro import CompiledSchema, compile_schema
from consumer.errors import ConfigError, DecodeError
from consumer.rest import CALL_SECONDS, Answer, Rest
from consumer.schemas import SchemaStore, search_path
from consumer.settings import SchemaSettings

__all__ = ["Registry", "resolve_id", "schema_lookup"]

Said = TypeVar("Said")
NO_SUBJECT, NO_VERSION, NO_SCHEMA = 40401, 40402, 40403


def resolve_id(
    schema: Mapping[str, Any], topic: str, settings: SchemaSettings, seconds: float = CALL_SECONDS
) -> tuple[int, str]:
    """The id that stands in front of `topic`'s values, and where it is from: `registry`, `schema path` or `hash`.

    With `hash` no version file knows the schema: the caller says so in one log line. `seconds` bounds each wait for
    the registry.

    Raises:
        ConfigError: the registry does not take the schema, or the schema path is damaged.
        TransientError: the registry does not answer.
    """
    if settings.registry_url:
        registry = Registry(Rest(settings.registry_url, settings.registry_options, seconds))
        return registry.id_of(schema, topic, auto_register=settings.auto_register), "registry"
    found = SchemaStore(search_path(settings.path)).id_of(schema)
    return found.id, "schema path" if found.from_version_file else "hash"


def schema_lookup(settings: SchemaSettings) -> Callable[[int], CompiledSchema]:
    """What `decode` asks for a schema: the registry where one is set, else the schema path."""
    if settings.registry_url:
        return Registry(Rest(settings.registry_url, settings.registry_options)).schema
    return SchemaStore(search_path(settings.path)).schema


class Registry:
    """Schemas and ids of one registry. No id is asked for twice, known or not: damaged records must not load it."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest
        self._schemas: dict[int, CompiledSchema | None] = {}

    def id_of(self, schema: Mapping[str, Any], topic: str, *, auto_register: bool) -> int:
        """The id of `schema` under the topic's subject; registers it only with `auto_register`, if it is compatible.

        A schema that the subject has already was checked when it came there, so an older one still runs.

        Raises:
            ConfigError: it is not registered and may not be, or is incompatible; the text says what to do.
            TransientError: the registry does not answer.
        """
        subject = f"{topic}-value"
        at = f"/subjects/{quote(subject, safe='')}"
        body = {"schema": json.dumps(schema), "schemaType": "AVRO"}
        found = self._rest.call("POST", f"{at}?normalize=true", body)
        if _error_code(found) not in (NO_SUBJECT, NO_SCHEMA):
            return self._said(found, "id", int, f"look up the schema under {subject}")
        self._check_compatible(subject, f"/compatibility{at}/versions/latest?verbose=true", body)
        if not auto_register:
            raise ConfigError(
                f"the output schema is not registered under {subject} at {self._rest.name}: register it (it is "
                "compatible), or allow the consumer to with CONSUMER_SCHEMA__AUTO_REGISTER=true"
            )
        registered = self._rest.call("POST", f"{at}/versions?normalize=true", body)
        if registered.status != 200:
            # Another member may have registered it meanwhile: of two at once a registry refuses one (Apicurio).
            found = self._rest.call("POST", f"{at}?normalize=true", body)
            registered = found if found.status == 200 else registered
        return self._said(registered, "id", int, f"register the schema under {subject}")

    def schema(self, schema_id: int) -> CompiledSchema:
        """The schema of an id.

        Raises:
            DecodeError: the registry does not know the id.
            TransientError: the registry does not answer.
            ConfigError: the registry answers, but not with an Avro schema that stands for itself.
        """
        if schema_id not in self._schemas:
            self._schemas[schema_id] = self._fetched(schema_id)
        compiled = self._schemas[schema_id]
        if compiled is None:
            raise DecodeError(f"schema id {schema_id} is unknown to {self._rest.name}: foreign or damaged")
        return compiled

    def _fetched(self, schema_id: int) -> CompiledSchema | None:
        answer = self._rest.call("GET", f"/schemas/ids/{schema_id}")
        if _error_code(answer) == NO_SCHEMA:
            return None
        text = self._said(answer, "schema", str, f"give schema id {schema_id}")
        try:
            return compile_schema(json.loads(text))
        except ValueError:
            raise ConfigError(f"schema id {schema_id} at {self._rest.name} is no Avro: read another topic") from None

    def _check_compatible(self, subject: str, path: str, body: Any) -> None:
        answer = self._rest.call("POST", path, body)
        if _error_code(answer) in (NO_SUBJECT, NO_VERSION):
            return  # nothing there yet to be compatible with
        if not self._said(answer, "is_compatible", bool, f"check the schema against {subject}"):
            raise ConfigError(
                f"the output schema is not compatible with the latest one of {subject} at {self._rest.name}: "
                f"{_shown(answer)}; give new fields a default, or write to another topic"
            )

    def _said(self, answer: Answer, key: str, kind: type[Said], doing: str) -> Said:
        """What the answer has under `key`."""
        said: Any = answer.body.get(key)
        if answer.status != 200 or type(said) is not kind:
            raise ConfigError(
                f"{self._rest.name} does not {doing} (HTTP {answer.status}: {_shown(answer)}); correct the "
                "schema, or CONSUMER_SCHEMA__REGISTRY_URL if it does not lead to a Confluent-compatible registry"
            )
        return said


def _error_code(answer: Answer) -> Any:
    """The registry's own code of a 404; None for everything else, also for another server's 404."""
    return answer.body.get("error_code") if answer.status == 404 else None


def _shown(answer: Answer) -> str:
    """What the registry says about it; JSON, so that no control character reaches a terminal."""
    return json.dumps(answer.body)[:400]
