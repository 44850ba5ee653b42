"""Settings: what is read from where, what is refused and in which words, and that no secret is ever shown."""

from __future__ import annotations

import json
import pickle
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.errors import ConfigError
from consumer.partitioning import Partitioning
from consumer.settings import RUN_REQUIRES, Start, as_text, load_settings, load_settings_and_sources, setting_name

SENTINEL = "hunter2-sentinel"
MINIMAL = {
    "CONSUMER_KAFKA__BOOTSTRAP_SERVERS": "kafka:9092",
    "CONSUMER_GROUP_ID": "summaries",
    "CONSUMER_INPUT_TOPIC": "in",
    "CONSUMER_OUTPUT_TOPIC": "out",
    "CONSUMER_WORKER": "consumer.workers:SummaryWorker",
}
CONTRACT_DEFAULTS = {
    "kafka.options": {},
    "kafka.group_protocol": "auto",
    "static_membership": False,
    "dlq_topic": "summaries.dlq",
    "reducer": None,
    "worker_options": {},
    "reducer_options": {},
    "concurrency": 1,
    "max_in_flight": 1,
    "delivery": "exactly_once",
    "start": Start("fail"),
    "batch.max_messages": 1000,
    "batch.max_bytes": 16 * 1024 * 1024,
    "batch.max_seconds": 1.0,
    "batch.linger_seconds": 0.02,
    "memory.max_bytes": 64 * 1024 * 1024,
    "retry.max_attempts": 8,
    "retry.initial_seconds": 0.5,
    "retry.multiplier": 1.5,
    "retry.max_seconds": 60.0,
    "retry.max_elapsed_seconds": 900.0,
    "dlq.max_consecutive": 10,
    "dlq.max_ratio": 0.01,
    "sequence.partitioning": Partitioning.parse("unknown"),
    "sequence.policy": "report",
    "schema.path": ("./schemas",),
    "schema.registry_url": None,
    "schema.registry_options": {},
    "schema.auto_register": False,
    "http.host": "127.0.0.1",
    "http.port": 8080,
    "shutdown.timeout_seconds": 10.0,
    "watchdog.call_seconds": 7200.0,
    "watchdog.stuck_seconds": 120.0,
    "log.level": "info",
    "log.format": "auto",
}


def refusal(environ: dict[str, str], **arguments: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(environ, **arguments)
    text = str(caught.value)
    assert "\n" not in text
    assert SENTINEL not in text
    return text


def test_defaults_are_those_of_the_contract() -> None:
    settings = load_settings(MINIMAL)
    given_or_computed = {
        "kafka.bootstrap_servers",
        "group_id",
        "instance_id",
        "input_topic",
        "output_topic",
        "worker",
    }

    assert {name: settings.get(name) for name in CONTRACT_DEFAULTS} == CONTRACT_DEFAULTS
    assert set(settings.masked()) == set(CONTRACT_DEFAULTS) | given_or_computed
    assert settings.instance_id
    assert settings.kafka.transaction_timeout_ms == 10_000


def test_arguments_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "consumer.toml"
    file.write_text("concurrency = 2\nmax_in_flight = 2\n[batch]\nmax_messages = 2\nmax_seconds = 2\n")
    environ = {**MINIMAL, "CONSUMER_MAX_IN_FLIGHT": "3", "CONSUMER_BATCH__MAX_SECONDS": "3"}

    settings, sources = load_settings_and_sources(
        environ, config_file=file, overrides={"batch__max_seconds": 4, "reducer": None, "http": {"port": 0}}
    )

    assert (settings.concurrency, settings.max_in_flight) == (2, 3)
    assert (settings.batch.max_messages, settings.batch.max_seconds) == (2, 4.0)
    assert (settings.http.port, settings.reducer) == (0, None)
    assert sources["concurrency"] == "file"
    assert sources["max_in_flight"] == "environment"
    assert sources["batch.max_seconds"] == "argument"
    assert sources["reducer"] == "default"


@pytest.mark.parametrize(
    ("variable", "text", "dotted", "expected"),
    [
        ("CONSUMER_BATCH__MAX_BYTES", "1048576", "batch.max_bytes", 1 << 20),
        ("CONSUMER_CONCURRENCY", "", "concurrency", 1),
        ("CONSUMER_STATIC_MEMBERSHIP", "1", "static_membership", True),
        ("CONSUMER_STATIC_MEMBERSHIP", "False", "static_membership", False),
        ("CONSUMER_SCHEMA__PATH", "/a:/b", "schema.path", ("/a", "/b")),
        ("CONSUMER_REDUCER", "", "reducer", None),
        ("CONSUMER_WORKER_OPTIONS", '{"a": [1, null]}', "worker_options", {"a": [1, None]}),
        (
            "CONSUMER_KAFKA__OPTIONS",
            '{"a": true, "b": 5, "c": "x"}',
            "kafka.options",
            {"a": "true", "b": "5", "c": "x"},
        ),
        ("CONSUMER_START", "timestamp:1970-01-01T00:00:01.5Z", "start", Start("timestamp", 1500)),
        ("CONSUMER_START", "timestamp:1970-01-01T01:00:00+01:00", "start", Start("timestamp", 0)),
        ("CONSUMER_START", "timestamp:1970-01-02", "start", Start("timestamp", 86_400_000)),
        ("CONSUMER_SEQUENCE__POLICY", "ignore", "sequence.policy", "ignore"),
    ],
)
def test_values_as_the_environment_writes_them(variable: str, text: str, dotted: str, expected: object) -> None:
    assert load_settings({**MINIMAL, variable: text}).get(dotted) == expected


def test_an_empty_value_is_the_default_and_wins_over_what_is_below() -> None:
    environ = {**MINIMAL, "CONSUMER_REDUCER": "a:B", "CONSUMER_INSTANCE_ID": "", "CONSUMER_DLQ_TOPIC": ""}

    settings = load_settings(environ, overrides={"reducer": "", "concurrency": None})

    assert (settings.reducer, settings.concurrency, settings.dlq_topic) == (None, 1, "summaries.dlq")
    assert settings.instance_id


def test_start_at_a_checkpoint_with_a_known_partitioning() -> None:
    environ = {**MINIMAL, "CONSUMER_START": "checkpoint:7", "CONSUMER_SEQUENCE__PARTITIONING": "range:100"}

    assert load_settings(environ).start == Start("checkpoint", 7)


def test_options_in_toml_may_be_written_with_dots(tmp_path: Path) -> None:
    file = tmp_path / "consumer.toml"
    file.write_text('[kafka.options]\nsecurity.protocol = "SSL"\n"ssl.ca.location" = "/ca.pem"\n')

    assert load_settings(MINIMAL, config_file=file).kafka.options == {
        "security.protocol": "SSL",
        "ssl.ca.location": "/ca.pem",
    }


def test_any_setting_may_come_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "options"
    secret.write_text(json.dumps({"sasl.password": SENTINEL}) + "\n")

    settings = load_settings({**MINIMAL, "CONSUMER_KAFKA__OPTIONS_FILE": str(secret)})

    assert settings.kafka.options == {"sasl.password": SENTINEL}
    assert "both set" in refusal(
        {**MINIMAL, "CONSUMER_KAFKA__OPTIONS": "{}", "CONSUMER_KAFKA__OPTIONS_FILE": str(secret)}
    )


def test_a_wrong_value_from_a_file_is_not_shown_but_where_it_is(tmp_path: Path) -> None:
    secret = tmp_path / "concurrency"
    secret.write_text(SENTINEL)

    said = f"CONSUMER_CONCURRENCY (from the file {secret}) must be a whole number of 1 or more"
    assert refusal({**MINIMAL, "CONSUMER_CONCURRENCY_FILE": str(secret)}) == said
    config = tmp_path / "consumer.toml"
    config.write_text(f'concurrency_file = "{secret}"')
    assert refusal(MINIMAL, config_file=config) == said
    assert "No such file" in refusal({**MINIMAL, "CONSUMER_CONCURRENCY_FILE": str(tmp_path / "none")})


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("CONSUMER_BATCH__MAX_MESAGES", "1", "did you mean CONSUMER_BATCH__MAX_MESSAGES?"),
        ("CONSUMER_GROUP", "g", "did you mean CONSUMER_GROUP_ID?"),
        ("CONSUMER_SERVICE_PORT_HTTP", "1", "enableServiceLinks: false"),
        ("CONSUMER_PORT_8080_TCP_ADDR", "1", "enableServiceLinks: false"),
        ("CONSUMER_CONCURRENCY", "0", "must be a whole number of 1 or more"),
        ("CONSUMER_CONCURRENCY", "1.5", "must be a whole number"),
        ("CONSUMER_BATCH__MAX_BYTES", "0", "a whole number of bytes of 1 or more"),
        ("CONSUMER_SHUTDOWN__TIMEOUT_SECONDS", "nan", "a number of seconds above 0"),
        ("CONSUMER_SHUTDOWN__TIMEOUT_SECONDS", "inf", "a number of seconds above 0"),
        ("CONSUMER_STATIC_MEMBERSHIP", "yes", "must be true or false"),
        ("CONSUMER_DELIVERY", "at_most_once", "one of exactly_once, at_least_once"),
        ("CONSUMER_LOG__LEVEL", "INFO", "one of debug, info, warning, error"),
        ("CONSUMER_HTTP__PORT", "65536", "a port from 1 to 65535, or 0 for off"),
        ("CONSUMER_KAFKA__OPTIONS", "[]", "must be a JSON object"),
        ("CONSUMER_KAFKA__OPTIONS", '{"transaction.timeout.ms": "10s"}', "transaction.timeout.ms"),
        ("CONSUMER_KAFKA__OPTIONS", f'{{"sasl.password": "{SENTINEL}}}', "must be a JSON object"),
        ("CONSUMER_WORKER_OPTIONS", f'{{"token": {SENTINEL}}}', "must be a JSON object"),
        ("CONSUMER_START", "begin", "must be fail, earliest, latest, checkpoint:N or timestamp:ISO"),
        ("CONSUMER_START", "latest:", "must be fail, earliest"),
        ("CONSUMER_START", "checkpoint:-1", "must be fail, earliest"),
        ("CONSUMER_START", "timestamp:yesterday", "such as timestamp:2026-01-31T00:00:00Z"),
        ("CONSUMER_START", "timestamp:1969-12-31T23:59:59Z", "or timestamp:ISO"),
        ("CONSUMER_START", "checkpoint:5", "set CONSUMER_SEQUENCE__PARTITIONING to modulo or range:N"),
        ("CONSUMER_SEQUENCE__PARTITIONING", "range:0", "range:N"),
        ("CONSUMER_SEQUENCE__POLICY", "skip", "must be one of ignore, report, skip_repeats, stop"),
        ("CONSUMER_DLQ__MAX_CONSECUTIVE", "-1", "must be a whole number of 0 or more"),
        ("CONSUMER_DLQ__MAX_RATIO", "1.5", "must be a number from 0 to 1"),
        ("CONSUMER_WORKER", "consumer.workers", "must be package.module:Name"),
        ("CONSUMER_REDUCER", "a b:C", "must be package.module:Name"),
        ("CONSUMER_INPUT_TOPIC", "in put", "must be at most 249 of the characters"),
        ("CONSUMER_GROUP_ID", "my group", "CONSUMER_DLQ_TOPIC (from the default) must be at most"),
        ("CONSUMER_OUTPUT_TOPIC", "in", "CONSUMER_OUTPUT_TOPIC is the input topic"),
        ("CONSUMER_DLQ_TOPIC", "in", "CONSUMER_DLQ_TOPIC is the input or the output topic"),
        ("CONSUMER_DLQ_TOPIC", "out", "CONSUMER_DLQ_TOPIC is the input or the output topic"),
        ("CONSUMER_BATCH__MAX_BYTES", "33554433", "more than half of CONSUMER_MEMORY__MAX_BYTES"),
        (
            "CONSUMER_SCHEMA__REGISTRY_URL",
            f"user:{SENTINEL}@host",
            "must be a URL that begins with http:// or https://",
        ),
        ("CONSUMER_SCHEMA__AUTO_REGISTER", "true", "needs a registry: set CONSUMER_SCHEMA__REGISTRY_URL"),
    ],
)
def test_what_is_refused_names_the_variable_and_what_to_do(variable: str, text: str, words: str) -> None:
    message = refusal({**MINIMAL, variable: text})

    assert words in message
    assert variable in message or "default" in message


OWNED = """
        group.id group.protocol group.instance.id transactional.id enable.idempotence isolation.level
        enable.auto.commit auto.commit.enable auto.commit.interval.ms enable.auto.offset.store
        offset.store.method offset.store.path auto.offset.reset partition.assignment.strategy partitioner
        allow.auto.create.topics bootstrap.servers metadata.broker.list
"""
RUNS_CODE = "plugin.library.paths sasl.kerberos.kinit.cmd ssl.engine.location ssl.engine.id ssl.providers"


@pytest.mark.parametrize(
    ("option", "reason"),
    [(name, "from its other settings") for name in OWNED.split()] + [(name, "code") for name in RUNS_CODE.split()],
)
def test_owned_and_dangerous_librdkafka_options_are_refused_by_name(option: str, reason: str) -> None:
    message = refusal({**MINIMAL, "CONSUMER_KAFKA__OPTIONS": json.dumps({option: SENTINEL})})

    assert message.startswith(f"CONSUMER_KAFKA__OPTIONS may not hold {option}: ")
    assert reason in message


@pytest.mark.parametrize("dotted", sorted(RUN_REQUIRES))
def test_a_required_setting(dotted: str) -> None:
    without = {name: value for name, value in MINIMAL.items() if name != setting_name(dotted)}

    assert refusal(without).startswith(f"{setting_name(dotted)} is required: ")
    assert load_settings(without, required=frozenset()).get(dotted) in ("", None)


def test_a_reducer_may_do_without_an_output_topic() -> None:
    environ = {**MINIMAL, "CONSUMER_REDUCER": "consumer.reducers:EpochReducer"}
    del environ["CONSUMER_OUTPUT_TOPIC"]

    assert load_settings(environ).output_topic is None


def test_static_membership_needs_an_instance_id_that_kafka_takes() -> None:
    environ = {**MINIMAL, "CONSUMER_STATIC_MEMBERSHIP": "true", "CONSUMER_CONCURRENCY": "3"}

    assert load_settings({**environ, "CONSUMER_INSTANCE_ID": "pod-0"}).instance_id == "pod-0"
    assert "CONSUMER_INSTANCE_ID (from" in refusal({**environ, "CONSUMER_INSTANCE_ID": "pod 0"})


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("[batch]\nmax_mesages = 1", "did you mean CONSUMER_BATCH__MAX_MESSAGES?"),
        ("batch = 5", "CONSUMER_BATCH (from the file) is no setting"),
        ('[batch]\nmax_messages = "many"', "CONSUMER_BATCH__MAX_MESSAGES (from the file) must"),
        ("group_id = 5", "CONSUMER_GROUP_ID (from the file) must"),
        ("= 5", "cannot be read as TOML"),
        ("schema.path = [5]", "CONSUMER_SCHEMA__PATH"),
        ("schema.path = 5", "CONSUMER_SCHEMA__PATH"),
        ('group_id_file = "a\\u0000b"', "CONSUMER_GROUP_ID_FILE"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, toml: str, words: str) -> None:
    file = tmp_path / "consumer.toml"
    file.write_text(toml)
    environ = {name: value for name, value in MINIMAL.items() if name != "CONSUMER_GROUP_ID"}

    assert words in refusal(environ, config_file=file)


def test_a_missing_file_and_a_wrong_argument_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(MINIMAL, config_file=tmp_path / "none.toml")
    assert "did you mean CONSUMER_CONCURRENCY?" in refusal(MINIMAL, overrides={"concurency": 2})


SECRETS = {
    **MINIMAL,
    "CONSUMER_KAFKA__OPTIONS": json.dumps(
        {
            "sasl.password": SENTINEL,
            "sasl.username": SENTINEL,
            "ssl.key.pem": SENTINEL,
            "ssl.key.password": SENTINEL,
            "ssl.keystore.password": SENTINEL,
            "sasl.jaas.config": SENTINEL,
            "sasl.oauthbearer.client.secret": SENTINEL,
            "sasl.oauthbearer.config": SENTINEL,
            "sasl.oauthbearer.assertion.private.key.pem": SENTINEL,
            "ssl.ca.location": "/ca.pem",
            "ssl.key.location": "/key.pem",
            "security.protocol": "SASL_SSL",
        }
    ),
    "CONSUMER_WORKER_OPTIONS": json.dumps(
        {
            "dsn": f"postgresql://me:{SENTINEL}@db/x",
            "conninfo": f"host=db password='{SENTINEL} too' port=5",
            "nested": {"api_key": SENTINEL, "list": [f"https://{SENTINEL}@host/"]},
            "key": f"-----BEGIN PRIVATE KEY-----\n{SENTINEL}",
        }
    ),
    "CONSUMER_SCHEMA__REGISTRY_URL": f"https://me:{SENTINEL}@registry:8081/path",
    "CONSUMER_SCHEMA__REGISTRY_OPTIONS": json.dumps(
        {"basic.auth.user.info": f"me:{SENTINEL}", "auth": ["me", SENTINEL], "bearer.auth.token": SENTINEL}
    ),
}


def test_nothing_printed_shows_a_secret() -> None:
    settings = load_settings(SECRETS)
    masked = settings.masked()

    for shown in (json.dumps(masked, default=str), repr(settings), str(settings.kafka), f"{settings.schema}"):
        assert SENTINEL not in shown
    assert masked["kafka.options"]["security.protocol"] == "SASL_SSL"
    assert masked["kafka.options"]["ssl.key.location"] == "/key.pem"
    assert masked["schema.registry_url"] == "***"
    assert masked["worker_options"]["nested"] == {"api_key": "***", "list": ["***"]}
    assert settings.kafka.options["sasl.password"] == SENTINEL


def test_settings_travel_to_a_member() -> None:
    settings = load_settings(SECRETS)

    assert pickle.loads(pickle.dumps(settings)) == settings


NAMES = st.text("abcXYZ019._-", min_size=1, max_size=20).filter(lambda name: name not in (".", ".."))


@given(
    group=NAMES,
    start=st.one_of(
        st.sampled_from(["fail", "earliest", "latest"]),
        st.integers(0, 2**64 - 1).map("checkpoint:{}".format),
        st.datetimes(min_value=datetime(1970, 1, 2)).map(lambda t: f"timestamp:{t.isoformat()}"),
    ),
    partitioning=st.one_of(st.just("modulo"), st.integers(1, 10**6).map("range:{}".format)),
    options=st.dictionaries(
        st.text("xyz.", min_size=1), st.one_of(st.text(max_size=9), st.integers(), st.booleans()), max_size=3
    ),
    seconds=st.floats(0.02, 10**9),
    path=st.lists(st.text("abc/.", min_size=1), min_size=1, max_size=3),
)
def test_what_is_shown_is_read_back(
    group: str, start: str, partitioning: str, options: dict[str, Any], seconds: float, path: list[str]
) -> None:
    overrides = {
        "group_id": group,
        "input_topic": "in.put",
        "dlq_topic": "dead",
        "start": start,
        "sequence__partitioning": partitioning,
        "kafka": {"options": options},
        "worker_options": options,
        "batch__max_seconds": seconds,
        "schema__path": path,
    }
    settings = load_settings({**MINIMAL, "CONSUMER_OUTPUT_TOPIC": "the.output"}, overrides=overrides)

    assert load_settings({setting_name(name): as_text(settings.get(name)) for name in settings.masked()}) == settings
