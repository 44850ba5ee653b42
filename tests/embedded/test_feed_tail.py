"""`feed` and `tail` end to end on the embedded broker, without Java or Docker."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consumer.cli.main import main
from consumer.generate import generate
from consumer.kafka.embedded import EmbeddedBroker, full_control_available

pytestmark = pytest.mark.skipif(not full_control_available(), reason="librdkafka's C functions cannot be reached")

PARTITIONS = 3


@pytest.fixture(scope="module")
def embedded() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture
def topic(embedded: EmbeddedBroker, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A topic of the test's own, which the settings name as input, and as dead letters so that `tail` reads it."""
    name = f"topic-{abs(hash(request.node.nodeid))}"
    embedded.create_topic(name, PARTITIONS)
    monkeypatch.setenv("CONSUMER_KAFKA__BOOTSTRAP_SERVERS", embedded.bootstrap)
    return name


@pytest.fixture
def feed(topic: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    def run(*arguments: str) -> tuple[int, dict[str, Any], str]:
        with monkeypatch.context() as patch:
            patch.setenv("CONSUMER_INPUT_TOPIC", topic)
            code = main(["feed", "--json", *arguments])
        captured = capfd.readouterr()
        return code, json.loads(captured.out), captured.err

    return run


@pytest.fixture
def tail(topic: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    def run(*arguments: str) -> list[dict[str, Any]]:
        with monkeypatch.context() as patch:
            patch.setenv("CONSUMER_DLQ_TOPIC", topic)
            assert main(["tail", "--dlq", "--no-follow", *arguments]) == 0
        return [json.loads(line) for line in capfd.readouterr().out.splitlines()]

    return run


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoints.ndjson"
    path.write_bytes(b"\n".join(generate(number) for number in range(7)))
    return path


def numbers(records: list[dict[str, Any]]) -> list[int]:
    return sorted(int(record["key"]) for record in records)


def test_numbers_go_to_their_partitions_and_values_arrive_unchanged(feed, tail, lines: Path) -> None:
    code, summary, _ = feed(str(lines))
    assert code == 0
    assert summary["delivered"] == 7
    assert summary["partitions"] == {"0": 3, "1": 2, "2": 2}
    records = tail()
    assert {int(record["key"]) % PARTITIONS - record["partition"] for record in records} == {0}
    expected = {str(number): json.loads(generate(number)) for number in range(7)}
    assert {record["key"]: record["value"] for record in records} == expected


def test_runs_of_numbers_stay_together_with_range(feed, tail, lines: Path) -> None:
    feed("--partition-by", "range:2", str(lines))
    assert {int(record["key"]): record["partition"] for record in tail()} == {
        number: number // 2 % PARTITIONS for number in range(7)
    }


def test_bad_input_is_named_and_its_neighbours_go_through(feed, tail, lines: Path) -> None:
    good = lines.read_bytes().splitlines()
    lines.write_bytes(b"\n".join([good[0], good[1][:50], good[2], b'{"no": "checkpoint"}', good[4]]))
    (lines.parent / "broken.json").write_text('{\n  "checkpoint_summary"')
    code, summary, errors = feed(str(lines.parent))
    assert code == 1
    assert (summary["delivered"], summary["refused"], summary["failed"]) == (3, 3, 0)
    assert "checkpoints.ndjson, line 2 is not JSON" in errors
    assert "checkpoints.ndjson, line 4 is no checkpoint" in errors
    assert "broken.json is not JSON" in errors
    assert numbers(tail()) == [0, 2, 4]


def test_standard_input(feed, tail, lines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with lines.open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        code, summary, _ = feed("-")
    assert (code, summary["delivered"]) == (0, 7)


def test_tail_begins_where_it_is_told_and_ends_where_it_is_told(feed, tail, lines: Path) -> None:
    feed(str(lines))
    assert len(tail("--from", "1")) == 7 - PARTITIONS
    assert len(tail("--from", "1000")) == len(tail("--from", "latest")) == 0
    assert len(tail("--max", "2")) == 2


def test_a_missing_topic_is_a_configuration_error(topic: str, lines: Path, monkeypatch, capfd) -> None:
    monkeypatch.setenv("CONSUMER_INPUT_TOPIC", "absent")
    assert main(["feed", str(lines)]) == 2
    error = capfd.readouterr().err.strip().splitlines()[-1]
    assert "CONSUMER_INPUT_TOPIC: topic absent does not exist" in error
