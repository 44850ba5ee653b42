"""What a member counts: names that dashboards may group by, never texts."""

from __future__ import annotations

from random import Random

import pytest

from consumer.core.machine import Machine
from consumer.core.messages import Outcome, TransactionEnded
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
    series = telemetry.snapshot(Machine(Policy(), Random(0)), {})
    assert [labels for name, labels in series if name == "transaction_errors_total"] == [(error,)]
