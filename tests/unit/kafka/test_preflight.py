"""Preflight's questions on an admin client that answers what a test says."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from consumer import patience
from consumer.errors import ConfigError
from consumer.kafka import preflight as module
from consumer.kafka import search
from consumer.kafka.preflight import DEFAULT_MAX_BYTES, Preflight
from consumer.partitioning import Partitioning
from consumer.patience import Patience
from consumer.settings import load_settings


class FakeAdmin:
    """One topic with one partition and a limit of 40 MB, told once all `errors` were."""

    def __init__(self, *errors: int) -> None:
        self.errors = list(errors)

    def list_topics(self, timeout: float) -> Any:
        topic = SimpleNamespace(error=None, partitions={0: SimpleNamespace(leader=1)})
        return SimpleNamespace(topics={"out": topic})

    def describe_topics(self, topics: Any, **named: Any) -> dict[str, Future[Any]]:
        refused: Future[Any] = Future()
        refused.set_exception(KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)))
        return dict.fromkeys(topics.topic_names, refused)

    def describe_configs(self, resources: list[Any], **named: Any) -> dict[Any, Future[Any]]:
        answer: Future[Any] = Future()
        if self.errors:
            answer.set_exception(KafkaException(KafkaError(self.errors.pop(0))))
        else:
            answer.set_result({"max.message.bytes": SimpleNamespace(value="40000000")})
        return dict.fromkeys(resources, answer)


def asking(monkeypatch: pytest.MonkeyPatch, *errors: int, start: str = "fail", endless: bool = False) -> Preflight:
    monkeypatch.setattr(patience, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(module, "make_admin", lambda *_: FakeAdmin(*errors))
    names = {"bootstrap_servers": "b:1"}
    overrides = {"kafka": names, "group_id": "g", "input_topic": "in", "output_topic": "out", "worker": "a:B"}
    settings = load_settings({}, overrides={**overrides, "start": start, "sequence__partitioning": "modulo"})
    return Preflight(settings, Patience(endless, lambda: False))


def limit_of(monkeypatch: pytest.MonkeyPatch, *errors: int) -> int:
    return asking(monkeypatch, *errors).topics(["out"])["out"].max_bytes


@pytest.mark.parametrize("error", [KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError.REQUEST_TIMED_OUT])
def test_a_limit_that_is_not_told_at_once_is_asked_for_again(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    # Taken for the default, it would turn every larger output record into a dead letter.
    assert limit_of(monkeypatch, error, error) == 40_000_000


def test_the_default_is_assumed_where_the_limit_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert limit_of(monkeypatch, KafkaError.TOPIC_AUTHORIZATION_FAILED) == DEFAULT_MAX_BYTES


@pytest.mark.parametrize(("name", "right"), [("in", "Read"), ("elsewhere", "Write")])
def test_a_topic_that_is_hidden_from_this_principal_is_not_called_missing(
    monkeypatch: pytest.MonkeyPatch, name: str, right: str
) -> None:
    preflight = asking(monkeypatch)

    def list_topics(topic: str | None = None, *, timeout: float) -> Any:
        hidden = SimpleNamespace(error=KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
        return SimpleNamespace(topics={topic: hidden} if topic else {})

    monkeypatch.setattr(preflight.admin, "list_topics", list_topics)
    with pytest.raises(ConfigError, match=rf"topic {name} \(.*grant this principal {right} on it"):
        preflight.topics([name])


class Group:
    """What the brokers say of a group: at every look one step of each story, at last the last again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, start: str = "earliest") -> None:
        self.committed: list[dict[int, Any]] = [{}]
        self.members: list[list[str]] = [[]]
        self.refusals: list[int] = []
        self.written: list[Any] = []
        self.preflight = asking(monkeypatch, start=start, endless=True)
        monkeypatch.setattr(module, "COORDINATOR_SECONDS", 0.0)
        monkeypatch.setattr(self.preflight, "committed", lambda partitions: self._next(self.committed))
        monkeypatch.setattr(self.preflight, "members", lambda: self._next(self.members))
        monkeypatch.setattr(self.preflight, "_offsets", lambda partitions, spec: {0: 0})
        monkeypatch.setattr(self.preflight, "alter", self._alter)

    @staticmethod
    def _next(story: list[Any]) -> Any:
        return story.pop(0) if len(story) > 1 else story[0]

    def _alter(self, offsets: Any) -> KafkaError | None:
        self.written.append(offsets)
        return KafkaError(self.refusals.pop()) if self.refusals else None

    def start(self) -> None:
        self.preflight.start_group(1, Partitioning.parse("modulo"))


@pytest.mark.parametrize(
    "code", [KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.NON_EMPTY_GROUP]
)
def test_the_start_of_a_group_is_written_again(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Until there is a coordinator, and no member."""
    group = Group(monkeypatch)
    group.refusals = [code] * 2000
    group.start()
    assert group.written == [{0: (0, "")}] * 2001


@pytest.mark.parametrize("start", ["earliest", "fail"])
def test_offsets_that_appear_while_a_group_has_members_hold(monkeypatch: pytest.MonkeyPatch, start: str) -> None:
    """Its start is written before anyone joins: what is said of the offsets of a group with members may be stale."""
    group = Group(monkeypatch, start)
    group.members = [["dead on host"]]
    group.committed = [{}] * 10 + [{0: (7, "")}]
    group.start()
    assert group.written == []


def test_offsets_that_appear_while_a_checkpoint_is_searched_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(monkeypatch, "checkpoint:5")
    group.committed = [{}, {}, {0: (7, "")}]
    monkeypatch.setattr(group.preflight, "_find_checkpoint", lambda *_: {0: 3})
    group.start()
    assert group.written == []


def test_a_group_without_offsets_is_started_once_its_members_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(monkeypatch)
    group.members = [["dead on host"]] * 3 + [[]]
    group.start()
    assert group.written == [{0: (0, "")}]


def test_a_group_that_keeps_its_members_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(monkeypatch)
    group.members = [["one on host"]]
    monkeypatch.setattr(module, "ALONE_SECONDS", 0.0)
    with pytest.raises(ConfigError, match="members: one on host: stop them"):
        group.start()
    assert group.written == []


def test_a_search_asks_for_a_second_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a stop is heard, and the supervisor hears of this process."""
    asked: list[float] = []

    def get_watermark_offsets(partition: Any, seconds: float) -> tuple[int, int]:
        asked.append(seconds)
        if len(asked) < 3:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return 7, 7

    reader = SimpleNamespace(get_watermark_offsets=get_watermark_offsets, close=lambda: None)
    monkeypatch.setattr(search, "make_client", lambda *_: reader)
    preflight = asking(monkeypatch, start="checkpoint:5")
    assert preflight._find_checkpoint(5, 1, Partitioning.parse("modulo")) == {0: 7}
    assert asked == [1.0, 1.0, 1.0]
