"""Limits of a bounded run: what lies past them, when a partition has ended, when the last checkpoint was seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer import CaughtUp, CheckpointHeader, EndOfEpoch, MaxCheckpoint
from consumer.checkpoint import Position, decoder_for, numbers_of
from consumer.generate import generate
from consumer.limits import Limits
from consumer.partitioning import Partitioning

PARTITIONS = st.integers(1, 12)
NUMBERS = st.integers(0, 300)
LAYOUTS = st.sampled_from(["modulo", "range:1", "range:7", "range:100"])


def header(number: int, epoch_length: int = 10) -> CheckpointHeader:
    value = generate(number, size_bytes=0, transactions=1, epoch_length=epoch_length)
    found: CheckpointHeader = decoder_for(CheckpointHeader)(value, Position("in", 0, number))
    return found


@dataclass
class Bare:
    """A type of the user's own, without a sequence number."""

    text: str = ""


def test_without_a_limit_nothing_ends() -> None:
    limits = Limits()
    assert not limits.bounded
    assert not limits.past(header(5))
    assert not limits.ended(0, 5)
    assert not limits.reached(5, 5)


def test_max_checkpoint_is_inclusive() -> None:
    limits = Limits(MaxCheckpoint(5))
    assert [limits.past(header(number)) for number in (4, 5, 6)] == [False, False, True]
    assert [limits.reached(number, None) for number in (None, 4, 5, 6)] == [False, False, True, True]


def test_end_of_epoch_is_inclusive_and_reached_by_the_epochs_last_checkpoint_only() -> None:
    limits = Limits(EndOfEpoch(1))
    assert [limits.past(header(number)) for number in (9, 10, 19, 20)] == [False, False, False, True]
    ended = [numbers_of(header(number))[1] for number in (8, 9, 18, 19)]
    assert ended == [None, 0, None, 1]
    assert [limits.reached(19, epoch) for epoch in ended] == [False, False, False, True]


def test_caught_up_knows_offsets_only() -> None:
    limits = Limits(CaughtUp(), ends={0: 7})
    assert limits.bounded
    assert not limits.past(header(10**6))
    assert not limits.reached(10**6, 10**6)


def test_a_predicate_is_asked_about_the_decoded_checkpoint() -> None:
    asked: list[Any] = []

    def past(checkpoint: Any) -> bool:
        asked.append(checkpoint)
        return bool(checkpoint.summary.epoch > 0)

    limits = Limits(past)
    assert limits.bounded
    assert [limits.past(header(number)) for number in (9, 10)] == [False, True]
    assert all(isinstance(checkpoint, CheckpointHeader) for checkpoint in asked)


@pytest.mark.parametrize("until", [MaxCheckpoint(5), EndOfEpoch(0)])
def test_a_checkpoint_without_numbers_is_never_past(until: Any) -> None:
    assert not Limits(until).past(Bare())


@given(LAYOUTS, PARTITIONS, NUMBERS)
def test_with_a_known_partitioning_a_partition_ends_with_its_last_number_within_the_limit(
    layout: str, partitions: int, limit: int
) -> None:
    partitioning = Partitioning.parse(layout)
    limits = Limits(MaxCheckpoint(limit), partitioning, partitions)
    run = 1 if layout == "modulo" else int(layout.partition(":")[2])
    for partition in range(partitions):
        own = [number for number in range(limit + 1) if number // run % partitions == partition]
        assert limits.last_number(partition) == (own[-1] if own else -1)
        assert limits.ended(partition, None) is (not own)
        if own:
            assert limits.ended(partition, own[-1])
            assert not limits.ended(partition, own[-1] - 1)


@given(PARTITIONS, NUMBERS)
def test_with_an_unknown_one_it_does_not(partitions: int, limit: int) -> None:
    limits = Limits(MaxCheckpoint(limit), Partitioning.parse("unknown"), partitions)
    assert limits.last_number(0) is None
    assert not limits.ended(0, limit)
