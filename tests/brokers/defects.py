"""What breaks in a broker while a test runs, told apart by the broker's log."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.brokers.find import Broker

DEFECTS = {
    # Kafka 4.3.1 takes a partition without a leader for a deleted one when it completes a transaction, and a broker
    # that comes back has a moment in which none has one. What such a transaction held is never told again.
    "likely deleted already and hence can be skipped": "left a transaction hanging (KAFKA-20734)",
    # CoordinatorRuntime does not ask of which epoch a load is that has ended. A broker that comes back leads by its old
    # registration first, is fenced and leads again; where the first load ends after the second has begun, the
    # coordinator serves groups that it has not read. Provoked with offsets.load.buffer.size=600000000, 600,000 offsets
    # in each partition: in 6 of 8 restarts nobody was given a partition, and 5 of them logged this; the other one came
    # after such a restart, and its coordinator failed to load what that had written.
    "Ignored load completion from __consumer_offsets": "took its group coordinator for loaded before it was",
}
"""What a broker logs, and the defect of the broker that it is a sign of."""
TELLING = re.compile(r" (WARN|ERROR|FATAL) |CoordinatorRuntime|BrokerLifecycleManager|Fencing")
"""In the log of a broker: the lines that say what became of it and its coordinators."""


@contextmanager
def unless_the_broker_breaks(broker: Broker) -> Iterator[None]:
    """Skips a test that failed while the broker logged one of DEFECTS: what broke is not ours, and cannot be survived.

    Any other failure is told together with what the broker said meanwhile.
    """
    before = len(broker.logged())
    try:
        yield
    except AssertionError as error:
        said = broker.logged()[before:]
        for text, defect in DEFECTS.items():
            if text in said:
                pytest.skip(f"the broker {defect}, and then: {str(error)[:300]}")
        error.add_note("\n".join(line[:300] for line in said.splitlines() if TELLING.search(line)))
        raise
