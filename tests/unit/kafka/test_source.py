"""What a poll makes of records and of errors that come in their place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaError

from consumer.core.messages import EndReached, FetchFailed, OutOfRange
from consumer.kafka.conf import consumer_conf
from consumer.kafka.source import Source
from consumer.settings import load_settings


class FakeMessage:
    def __init__(self, partition: int, offset: int, error: int | None = None) -> None:
        self._at = partition, offset
        self._error = KafkaError(error) if error is not None else None

    def partition(self) -> int:
        return self._at[0]

    def offset(self) -> int:
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


def test_the_end_and_an_offset_out_of_range_hide_nothing(source: Source) -> None:
    chunks, others = sorted_by(
        source,
        FakeMessage(0, 5, KafkaError._PARTITION_EOF),
        FakeMessage(0, 5),
        FakeMessage(1, 3, KafkaError.OFFSET_OUT_OF_RANGE),
    )
    assert chunks == {0: [5]}
    assert [type(event) for event in others] == [EndReached, OutOfRange]


def test_an_error_of_no_partition_is_in_the_log_alone(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    assert sorted_by(source, FakeMessage(-1, -1001, KafkaError._TRANSPORT)) == ({}, [])
    assert [line.getMessage() for line in caplog.records] == ["fetch failed"]
