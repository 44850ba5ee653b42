"""What a poll makes of records and of errors that come in their place."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from consumer.core.messages import EndReached, FetchFailed, OutOfRange
from consumer.errors import PolicyStop
from consumer.kafka.conf import consumer_conf
from consumer.kafka.source import Source
from consumer.settings import load_settings


class FakeMessage:
    def __init__(self, partition: int, offset: int | None, error: int | None = None) -> None:
        self._at = partition, offset
        self._error = KafkaError(error) if error is not None else None

    def partition(self) -> int:
        return self._at[0]

    def offset(self) -> int | None:
        return self._at[1]

    def error(self) -> KafkaError | None:
        return self._error

    def __len__(self) -> int:
        return 10


class Nobody:
    def assigned(self, partitions: Sequence[int]) -> None: ...
    def revoked(self, partitions: Sequence[int]) -> None: ...
    def lost(self, partitions: Sequence[int]) -> None: ...


@pytest.fixture
def source() -> Source:
    names = {"bootstrap_servers": "127.0.0.1:1"}
    overrides = {"kafka": names, "group_id": "g", "input_topic": "in", "output_topic": "out", "worker": "a:B"}
    settings = load_settings({}, overrides=overrides)
    return Source(consumer_conf(settings, member=0, group_protocol="consumer")[0], "in", Nobody())


def sorted_by(source: Source, *messages: FakeMessage) -> tuple[dict[int, Any], list[Any]]:
    records, others = source._sort(messages, more=False)
    return {chunk.partition: chunk.offsets for chunk in records.chunks}, others


def test_nothing_from_behind_an_error_is_taken(source: Source) -> None:
    chunks, others = sorted_by(
        source,
        FakeMessage(0, 5),
        FakeMessage(0, 6, KafkaError._BAD_MSG),
        FakeMessage(1, 8),
        FakeMessage(0, 12),
        FakeMessage(0, 2**60, KafkaError._AUTO_OFFSET_RESET),
    )
    assert chunks == {0: [5], 1: [8]}
    (failed,) = others
    assert isinstance(failed, FetchFailed)
    assert (failed.partition, failed.error.partition(":")[0]) == (0, "_BAD_MSG")


def test_the_end_hides_nothing(source: Source) -> None:
    chunks, others = sorted_by(
        source,
        FakeMessage(0, 5, KafkaError._PARTITION_EOF),
        FakeMessage(0, 5),
        FakeMessage(1, 3, KafkaError.OFFSET_OUT_OF_RANGE),
    )
    assert chunks == {0: [5]}
    assert [type(event) for event in others] == [EndReached, OutOfRange]


def test_what_comes_in_one_poll_with_an_offset_out_of_range_is_fetched_again(source: Source) -> None:
    """It would be handled first, and the offset be judged by a position that it had moved."""
    chunks, others = sorted_by(source, FakeMessage(0, 2**60, KafkaError._AUTO_OFFSET_RESET), FakeMessage(0, 5))
    assert chunks == {}
    assert [type(event) for event in others] == [OutOfRange]


def test_a_beginning_that_could_not_be_asked_for_is_no_offset_out_of_range(source: Source) -> None:
    """librdkafka tells both with one code; a logical offset is None in Python."""
    _, (failed,) = sorted_by(source, FakeMessage(0, None, KafkaError._AUTO_OFFSET_RESET))
    assert isinstance(failed, FetchFailed)
    assert source._ended == {0}


def test_an_error_of_no_partition_is_in_the_log_alone(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    assert sorted_by(source, FakeMessage(-1, -1001, KafkaError._TRANSPORT)) == ({}, [])
    assert [line.getMessage() for line in caplog.records] == ["fetch failed"]


class FakeFetcher:
    """A client that refuses every seek, as one whose fetcher ended does."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def seek(self, at: TopicPartition) -> None:
        self.calls.append("seek")
        raise KafkaException(KafkaError(KafkaError._STATE))

    def __getattr__(self, name: str) -> Any:
        return lambda at: self.calls.append(name)


REASSIGNED = ["incremental_unassign", "incremental_assign", "pause"]


def test_a_partition_that_is_not_fetched_any_more_is_assigned_anew(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetcher = FakeFetcher()
    monkeypatch.setattr(source, "_consumer", fetcher)
    assert not source.seek(0, 7), "why it ended was never told"
    assert source.seek(0, 7)
    assert fetcher.calls == ["seek", *REASSIGNED]

    fetcher.calls.clear()
    sorted_by(source, FakeMessage(1, 6, KafkaError._BAD_MSG), FakeMessage(1, 2**60, KafkaError._AUTO_OFFSET_RESET))
    assert source.seek(1, 6), "it was told behind another error"
    assert fetcher.calls == REASSIGNED


def test_what_is_revoked_after_a_partition_was_assigned_anew_may_be_another_members_already(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    queue: list[FakeMessage | None] = [None, None]
    fetcher = FakeFetcher()
    fetcher.__dict__["poll"] = lambda seconds: queue.pop(0)
    monkeypatch.setattr(source, "_consumer", fetcher)
    monkeypatch.setattr(source._rebalances, "lost", lambda numbers: told.append(f"lost {numbers}"), raising=False)
    monkeypatch.setattr(source._rebalances, "revoked", lambda numbers: told.append(f"revoked {numbers}"))
    while not source.seek(0, 7):
        pass
    source._on_revoke(cast(Any, fetcher), at(7))
    source.poll(0.0, 1)
    source._on_revoke(cast(Any, fetcher), at(7))
    assert told == ["lost [3]", "revoked [3]"]


class Coordinator:
    """Instead of the client: no answer to a question about a partition that a transaction holds."""

    def __init__(self, *held: int, raises: bool = True) -> None:
        self.held = set(held)
        self.raises = raises
        self.asked: list[list[int]] = []

    def committed(self, partitions: Sequence[TopicPartition], seconds: float) -> list[Any]:
        numbers = [at.partition for at in partitions]
        self.asked.append(numbers)
        refused = KafkaError(KafkaError._TIMED_OUT)
        if self.raises and self.held & set(numbers):
            raise KafkaException(refused)
        return [
            SimpleNamespace(partition=n, offset=10 * n, metadata=None, error=refused if n in self.held else None)
            for n in numbers
        ]

    def locate(self, source: Source, left: list[int], calls: int) -> list[int]:
        """What is found in so many calls; taken out of `left`."""
        found: list[int] = []
        while calls and left:
            calls -= 1
            some = source.locate_some(left)
            assert some == {number: (10 * number, "") for number in some}
            found += some
            left[:] = [number for number in left if number not in some]
        return found


@pytest.mark.parametrize("raises", [True, False], ids=["raised", "told"])
def test_a_partition_without_an_answer_does_not_keep_the_others(
    source: Source, monkeypatch: pytest.MonkeyPatch, raises: bool
) -> None:
    coordinator = Coordinator(1, raises=raises)
    monkeypatch.setattr(source, "_consumer", coordinator)
    left = [0, 1, 2]
    assert coordinator.locate(source, left, 4) == [0, 2]
    assert coordinator.asked == [[0, 1, 2], [0], [1], [2]]
    coordinator.held.clear()
    assert coordinator.locate(source, left, 1) == [1]


def test_what_is_held_is_asked_alone_and_together_once_nothing_else_is_to_be_asked(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator = Coordinator(0, 1, 2)
    monkeypatch.setattr(source, "_consumer", coordinator)
    left = [0, 1, 2]
    coordinator.locate(source, left, 4)
    coordinator.asked.clear()
    coordinator.locate(source, left, 4)
    assert coordinator.asked == [[0], [1, 2, 0], [1], [2, 0, 1]]
    left += [3, 4]
    assert coordinator.locate(source, left, 2) == [3, 4], "new ones do not wait for the held ones"
    left.remove(1)  # revoked
    coordinator.held.clear()
    assert sorted(coordinator.locate(source, left, 2)) == [0, 2]


class FakeCommits:
    """Instead of the client, which would wait for the brokers of a commit when it is collected."""

    def __init__(self) -> None:
        self.asynchronous: list[bool] = []

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> None:
        self.asynchronous.append(asynchronous)


def at(offset: int) -> list[TopicPartition]:
    return [TopicPartition("in", 3, offset)]


@pytest.fixture
def committing(source: Source, monkeypatch: pytest.MonkeyPatch) -> Source:
    monkeypatch.setattr(source, "_consumer", FakeCommits())
    return source


def test_a_late_answer_to_an_earlier_commit_is_not_taken_for_this_ones(committing: Source) -> None:
    committing.commit(at(7))
    committed = committing.commit(at(9))
    committing._on_commit(None, at(7))
    assert not committed(0.0)
    committing._on_commit(None, at(9))
    assert committed(0.0)


def test_a_commit_that_is_refused_raises(committing: Source) -> None:
    committed = committing.commit(at(7))
    committing._on_commit(KafkaError(KafkaError.ILLEGAL_GENERATION), at(7))
    with pytest.raises(KafkaException, match="ILLEGAL_GENERATION"):
        committed(0.0)


def test_in_a_rebalance_callback_the_coordinator_is_asked_what_is_committed(
    committing: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {3: (6, "")}
    monkeypatch.setattr(committing, "locate", lambda numbers, seconds: {number: there[number] for number in numbers})
    committed = committing.commit(at(7))
    seen = []

    def inside() -> None:
        seen.append(committed(0.0))
        there[3] = (7, "")
        seen.append(committed(0.0))

    committing._guard(inside)
    assert seen == [False, True]
    assert not committed(0.0)


def test_once_nothing_polls_any_more_it_is_asked_too(committing: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member that ends takes its marks back, after the commit that is under way."""
    monkeypatch.setattr(committing, "locate", lambda numbers, seconds: dict.fromkeys(numbers, (7, "")))
    committed = committing.commit(at(7))
    assert not committed(0.0)
    committing.poll_no_more()
    assert committed(0.0)


def test_no_commit_is_synchronous(committing: Source) -> None:
    committing.commit(at(7))
    assert committing._consumer.asynchronous == [True]  # type: ignore[attr-defined]


def test_what_ends_the_member_while_it_leaves_is_not_lost(source: Source) -> None:
    """As where it leaves to join again, and gives its partitions back in there."""

    source._guard(broken, [0])  # what the client calls within `close`
    with pytest.raises(PolicyStop, match="the work thread has ended"):
        source.close()


def test_a_failure_is_not_replaced_by_another_one_while_leaving(source: Source) -> None:
    source._guard(broken, [0])
    source.abandon()


def broken(partitions: Sequence[int]) -> None:
    raise PolicyStop("the work thread has ended")
