"""What a member counts: names that dashboards may group by, never texts."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Any

import pytest

from consumer.core.history import History
from consumer.core.machine import Machine
from consumer.core.messages import Outcome, TransactionEnded
from consumer.core.partition import Partition, State
from consumer.core.policy import Policy
from consumer.kafka.transactor import LATE
from consumer.telemetry import Telemetry


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("delivery: MSG_SIZE_TOO_LARGE: Broker: Message size too large", "MSG_SIZE_TOO_LARGE"),
        ("send_offsets_to_transaction: _TIMED_OUT: Local: Timed out", "_TIMED_OUT"),
        (LATE.format(37, 20.0), "none"),
        ("its partitions were given back", "none"),
        ("", "none"),
    ],
)
def test_a_failed_transaction_is_counted_by_the_clients_name_for_it(said: str, error: str) -> None:
    telemetry = Telemetry("in", 0)
    telemetry.transaction(TransactionEnded(Outcome.ABORTED, said))
    series = telemetry.snapshot(Machine(Policy(), Random(0)), {}, {})
    assert [labels for name, labels in series if name == "transaction_errors_total"] == [(error,)]


def numbers(partition: Partition, *, end: int, position: int = 0, told: int | None = None) -> dict[str, float]:
    """What is said of a partition, by the metric's name."""
    telemetry, machine = Telemetry("in", 0), Machine(Policy(), Random(0))
    machine.partitions[4] = partition
    if told is not None:
        telemetry.reach({4: told})
    series = telemetry.snapshot(machine, {4: end}, {4: position})
    return {name: found[0] for (name, labels), found in series.items() if labels == ("in", "4")}


def partition(state: State = State.RUNNING, **fields: Any) -> Partition:
    return Partition(4, 1, state, **fields)


def test_what_is_committed_is_told_also_where_checkpoints_have_no_number() -> None:
    known = partition(position=20, committed=10, delivered=deque([10, 15]))
    assert numbers(known, end=30) == {"lag_records": 20, "next_offset": 10}
    known.history = History(sequence_number=41)
    assert numbers(known, end=30)["next_sequence_number"] == 42


def test_a_new_partition_has_lag_before_its_first_commit() -> None:
    assert numbers(partition(position=8, delivered=deque([5, 7])), end=30) == {"lag_records": 25}


@pytest.mark.parametrize("state", [State.LOCATING, State.POSITIONING])
def test_a_partition_whose_place_is_not_known_is_not_taken_to_be_at_offset_0(state: State) -> None:
    assert numbers(partition(state), end=30) == {}
    assert numbers(partition(state, committed=10), end=30)["lag_records"] == 20


def test_transaction_markers_at_the_end_are_no_lag() -> None:
    assert numbers(partition(position=29, committed=29), end=30, position=30)["lag_records"] == 0


def test_what_the_brokers_say_counts_where_the_client_fetches_no_more() -> None:
    assert numbers(partition(position=10, committed=10), end=10, told=30)["lag_records"] == 20
    assert numbers(partition(position=10, committed=10), end=-1, told=30)["lag_records"] == 20


def test_a_partition_that_a_bounded_run_is_done_with_has_no_lag() -> None:
    assert numbers(partition(State.ENDED, position=10, committed=10), end=30) == {"next_offset": 10}
