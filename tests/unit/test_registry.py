"""The registry's client: what is asked, what every answer means, and that no fault lasts longer than its limit."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consumer.errors import ConfigError, DecodeError, TransientError
from consumer.registry import Registry, resolve_id, schema_lookup
from consumer.rest import KNOWN_OPTIONS, Rest
from consumer.schemas import shipped_schema_path
from consumer.settings import SchemaSettings
from tests.unit.fake_registry import FakeRegistry, fake_registry

SCHEMA = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}]}
NO_SUBJECT = (404, {"error_code": 40401, "message": "no subject"})
NO_VERSION = (404, {"error_code": 40402, "message": "no version"})
NO_SCHEMA = (404, {"error_code": 40403, "message": "no schema"})
FITS, FITS_NOT = (
    (200, {"is_compatible": True}),
    (200, {"is_compatible": False, "messages": ["field b\nhas no default"]}),
)
LOOK_UP = ("POST", "/base/subjects/my%2Ftopic-value?normalize=true")
CHECK = ("POST", "/base/compatibility/subjects/my%2Ftopic-value/versions/latest?verbose=true")
REGISTER = ("POST", "/base/subjects/my%2Ftopic-value/versions?normalize=true")


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with fake_registry() as registry:
        yield registry


def id_of(fake: FakeRegistry, *, auto_register: bool = False) -> int:
    return Registry(Rest(fake.url, {})).id_of(SCHEMA, "my/topic", auto_register=auto_register)


# ---- at start


def test_registered_schema_is_looked_up_and_nothing_else(fake: FakeRegistry) -> None:
    fake.answers = [(200, {"subject": "my/topic-value", "id": 7, "version": 1})]

    assert id_of(fake) == 7
    assert fake.requests == [(*LOOK_UP, {"schema": json.dumps(SCHEMA), "schemaType": "AVRO"})]


@pytest.mark.parametrize("answers", [[NO_SUBJECT, NO_SUBJECT], [NO_SUBJECT, NO_VERSION], [NO_SCHEMA, FITS]])
def test_unregistered_schema_is_registered_only_where_allowed(fake: FakeRegistry, answers: list[Any]) -> None:
    fake.answers = [*answers, (200, {"id": 8})]

    assert id_of(fake, auto_register=True) == 8
    assert [request[:2] for request in fake.requests] == [LOOK_UP, CHECK, REGISTER]

    fake.requests.clear()
    fake.answers = [*answers]
    with pytest.raises(ConfigError, match=r"is not registered under my/topic-value .*CONSUMER_SCHEMA__AUTO_REGISTER"):
        id_of(fake)
    assert [request[:2] for request in fake.requests] == [LOOK_UP, CHECK]


def test_a_schema_that_another_member_registers_at_the_same_time_is_looked_up(fake: FakeRegistry) -> None:
    fake.answers = [NO_SUBJECT, NO_SUBJECT, (409, {"error_code": 409, "message": "conflict"}), (200, {"id": 8})]

    assert id_of(fake, auto_register=True) == 8
    assert [request[:2] for request in fake.requests] == [LOOK_UP, CHECK, REGISTER, LOOK_UP]


@pytest.mark.parametrize("auto_register", [True, False])
def test_incompatible_schema_is_never_registered(fake: FakeRegistry, auto_register: bool) -> None:
    fake.answers = [NO_SCHEMA, FITS_NOT]

    with pytest.raises(ConfigError, match=r"is not compatible .*: .*has no default.*; give new fields a default"):
        id_of(fake, auto_register=auto_register)
    assert [request[:2] for request in fake.requests] == [LOOK_UP, CHECK]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((401, {}), "refuses the credentials"),
        ((403, b"no"), "refuses the credentials"),
        ((404, b"<html>"), "HTTP 404: {}"),
        ((404, {"error_code": 0, "message": "no such resource"}), "HTTP 404: .*no such resource"),
        ((422, {"error_code": 42201, "message": "bad\x1b[31m schema"}), r"HTTP 422: .*bad\\u001b\[31m schema"),
        ((302, b""), "HTTP 302"),
        ((200, b"<html>"), "HTTP 200"),
        ((200, {"id": "7"}), "HTTP 200"),
        ((200, {"id": True}), "HTTP 200"),
        ((200, []), "HTTP 200"),
        ((200, b'{"id": 7, "x": "' + b"y" * (4 << 20) + b'"}'), "HTTP 200"),
    ],
)
def test_definite_refusal_is_a_configuration_error_at_once(fake: FakeRegistry, answer: Any, reason: str) -> None:
    fake.answers = [answer]

    with pytest.raises(ConfigError, match=rf"^{fake.url} .*{reason}"):
        id_of(fake)
    assert len(fake.requests) == 1


def test_wrong_verdict_of_the_compatibility_check(fake: FakeRegistry) -> None:
    fake.answers = [NO_SCHEMA, (200, {"compatible": True})]

    with pytest.raises(ConfigError, match="does not check the schema against my/topic-value"):
        id_of(fake, auto_register=True)


# ---- faults


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_trouble_is_transient_and_asked_about_once(fake: FakeRegistry, status: int) -> None:
    fake.answers = [(status, {"message": "secret stack trace"})]

    with pytest.raises(TransientError, match=rf"^{fake.url} gives no answer \(HTTP {status}\): start it") as caught:
        id_of(fake)
    assert "secret" not in str(caught.value)
    assert len(fake.requests) == 1


def test_nobody_listens() -> None:
    with fake_registry() as gone:
        pass
    with pytest.raises(TransientError, match=r"gives no answer .*ConnectionRefusedError"):
        Rest(gone.url, {}).call("GET", "/x")


def test_a_call_that_hangs_ends_at_its_limit(fake: FakeRegistry) -> None:
    fake.hang = threading.Event()
    fake.answers = [(200, {})]
    try:
        with pytest.raises(TransientError, match=r"TimeoutError: timed out"):
            Rest(fake.url, {}, 0.05).call("GET", "/x")
    finally:
        fake.hang.set()


# ---- options


def test_credentials_are_sent_and_never_shown(fake: FakeRegistry) -> None:
    fake.answers = [(401, {"message": "user:s3cret"})]
    for options in ({"basic.auth.user.info": "user:s3cret"}, {"bearer.auth.token": "s3cret\n"}):
        with pytest.raises(ConfigError) as caught:
            Registry(Rest(fake.url, options)).id_of(SCHEMA, "t", auto_register=False)
        assert "s3cret" not in str(caught.value)

    assert [headers["Authorization"] for headers in fake.headers] == ["Basic dXNlcjpzM2NyZXQ=", "Bearer s3cret"]


@pytest.mark.parametrize(
    ("url", "options", "reason"),
    [
        ("http://h", {"zzz": "s3cret"}, f"zzz is unknown or no text; known texts are {', '.join(KNOWN_OPTIONS)}"),
        ("http://h", {"bearer.auth.token": 5}, "bearer.auth.token is unknown or no text"),
        ("http://h", {"bearer.auth.token": "s3cret\r\nX: y"}, "an HTTP header cannot hold"),
        ("https://h", {"ssl.ca.location": "/nowhere/ca.pem"}, "cannot load the TLS files /nowhere/ca.pem"),
        ("http://user:s3cret@h", {}, "is no URL like"),
        ("ftp://h", {}, "is no URL like"),
        ("http://", {}, "is no URL like"),
        ("http://h?token=s3cret", {}, "is no URL like"),
    ],
)
def test_wrong_url_or_option(url: str, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"^CONSUMER_SCHEMA__REGISTRY_(URL|OPTIONS).*{reason}") as caught:
        Rest(url, options)
    assert "s3cret" not in str(caught.value)


# ---- schemas by id


def test_schema_is_fetched_once(fake: FakeRegistry) -> None:
    fake.answers = [(200, {"schema": json.dumps(SCHEMA)})]
    registry = Registry(Rest(fake.url, {}))

    assert registry.schema(7) is registry.schema(7)
    assert registry.schema(7).name == "R"
    assert fake.requests == [("GET", "/base/schemas/ids/7", None)]


def test_unknown_id_is_asked_for_once(fake: FakeRegistry) -> None:
    fake.answers = [NO_SCHEMA]
    registry = Registry(Rest(fake.url, {}))

    for _ in range(3):
        with pytest.raises(DecodeError, match="schema id 7 is unknown to http"):
            registry.schema(7)
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"schema": 'syntax = "proto3";', "schemaType": "PROTOBUF"}, "schema id 7 at .* is no Avro"),
        ({"schema": '"x.Elsewhere"', "references": [{"name": "x.Elsewhere"}]}, "unknown type x.Elsewhere"),
        ({}, "does not give schema id 7"),
        ([], "does not give schema id 7"),
    ],
)
def test_what_is_no_avro_schema_is_refused(fake: FakeRegistry, body: Any, reason: str) -> None:
    fake.answers = [(200, body)]

    with pytest.raises(ConfigError, match=reason):
        Registry(Rest(fake.url, {})).schema(7)


# ---- from the settings


def test_id_comes_from_the_registry_or_the_schema_path_or_the_hash(fake: FakeRegistry) -> None:
    shipped = json.loads((shipped_schema_path() / "checkpoint-summary/v1.avsc").read_text())
    fake.answers = [(200, {"id": 70})]

    assert resolve_id(shipped, "t", SchemaSettings(registry_url=fake.url)) == (70, "registry")
    assert resolve_id(shipped, "t", SchemaSettings()) == (1, "schema path")
    assert resolve_id(SCHEMA, "t", SchemaSettings())[1] == "hash"


def test_lookup_asks_the_registry_or_the_schema_path(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.answers = [(200, {"schema": json.dumps(SCHEMA)})]

    assert schema_lookup(SchemaSettings(registry_url=fake.url))(1).name == "R"
    assert schema_lookup(SchemaSettings(path=(str(tmp_path),)))(1).name == "checkpoint_consumer.CheckpointSummary"
