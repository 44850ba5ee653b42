"""The registry's client against a real registry (Apicurio, Confluent-compatible interface)."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from consumer.avro import Encoder, compile_schema, decode
from consumer.errors import ConfigError, DecodeError, TransientError
from consumer.registry import Registry
from consumer.rest import Rest
from consumer.schemas import shipped_schema_path
from tests.brokers.apicurio import Apicurio
from tests.brokers.jars import Unavailable

SHIPPED = [json.loads(file.read_text()) for file in sorted(shipped_schema_path().glob("*/v1.avsc"))]
SUMMARY = SHIPPED[0]


@pytest.fixture(scope="module")
def apicurio() -> Iterator[Apicurio]:
    try:
        registry = Apicurio()
    except Unavailable as reason:
        if os.environ.get("TEST_REQUIRE_BROKER", "0") != "0":
            pytest.fail(f"no real schema registry: {reason}")
        pytest.skip(f"no real schema registry: {reason}")
    yield registry
    registry.close()


@pytest.fixture
def registry(apicurio: Apicurio) -> Registry:
    return Registry(Rest(apicurio.url, {}))


@pytest.fixture
def topic() -> str:
    return f"out.{uuid.uuid4().hex}"


def with_field(schema: Any, **field: Any) -> Any:
    return {**schema, "fields": [*schema["fields"], field]}


def set_compatibility(apicurio: Apicurio, topic: str, level: str) -> None:
    answer = Rest(apicurio.url, {}).call("PUT", f"/config/{topic}-value", {"compatibility": level})
    assert answer == (200, {"compatibility": level})


@pytest.mark.parametrize("schema", SHIPPED, ids=lambda schema: schema["name"])
def test_shipped_schemas_register_once_and_are_found_again(registry: Registry, topic: str, schema: Any) -> None:
    with pytest.raises(ConfigError, match=rf"is not registered under {topic}-value"):
        registry.id_of(schema, topic, auto_register=False)

    registered = registry.id_of(schema, topic, auto_register=True)

    assert registry.id_of(schema, topic, auto_register=False) == registered
    assert registry.id_of(schema, topic, auto_register=True) == registered
    assert registry.schema(registered).canonical == compile_schema(schema).canonical


def test_only_a_compatible_version_follows_and_the_old_one_stays_known(
    apicurio: Apicurio, registry: Registry, topic: str
) -> None:
    first = registry.id_of(SUMMARY, topic, auto_register=True)
    set_compatibility(apicurio, topic, "BACKWARD_TRANSITIVE")

    with pytest.raises(ConfigError, match=rf"is not compatible with the latest one of {topic}-value .*: .*more"):
        registry.id_of(with_field(SUMMARY, name="more", type="long"), topic, auto_register=True)
    second = registry.id_of(with_field(SUMMARY, name="more", type="long", default=0), topic, auto_register=True)

    assert second != first
    assert registry.id_of(SUMMARY, topic, auto_register=False) == first


def test_what_is_written_with_its_id_is_read_through_the_registry(registry: Registry, topic: str) -> None:
    golden = json.loads((shipped_schema_path() / "checkpoint-summary/examples/v1/typical.json").read_text())
    schema_id = registry.id_of(SUMMARY, topic, auto_register=True)
    framed = Encoder(compile_schema(SUMMARY), schema_id).encode(golden["value"])

    assert decode(framed, registry.schema) == (schema_id, golden["value"])


def test_unknown_id_and_a_url_that_leads_elsewhere(apicurio: Apicurio, registry: Registry, topic: str) -> None:
    with pytest.raises(DecodeError, match="schema id 987654 is unknown to http"):
        registry.schema(987654)
    elsewhere = Registry(Rest(apicurio.url.removesuffix("/apis/ccompat/v7"), {}))
    with pytest.raises(ConfigError, match=r"HTTP 404: .*CONSUMER_SCHEMA__REGISTRY_URL"):
        elsewhere.id_of(SUMMARY, topic, auto_register=True)


def test_tls_where_the_registry_speaks_none_is_said(apicurio: Apicurio) -> None:
    with pytest.raises(TransientError, match="SSLError"):
        Rest(apicurio.url.replace("http:", "https:"), {}).call("GET", "/subjects")
