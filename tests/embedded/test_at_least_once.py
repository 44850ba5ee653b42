"""The commit of `at_least_once` beside the consumer's other calls, which a commit that waits would hold up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from consumer.core.messages import Outcome, Transact, TransactionEnded
from consumer.kafka.conf import consumer_conf
from consumer.kafka.embedded import EmbeddedBroker, full_control_available
from consumer.kafka.preflight import Topic
from consumer.kafka.sinks import make_sink
from consumer.kafka.source import Source
from consumer.kafka.transactor import Ready, Sink
from consumer.settings import Settings, load_settings

pytestmark = pytest.mark.skipif(not full_control_available(), reason="librdkafka's C functions cannot be reached")

COMMIT = Transact([], {0: (1, "")})


class Member:
    """A source and its sink; commits from within the callback that takes its partitions away."""

    def __init__(self, settings: Settings, number: int) -> None:
        self.owned: set[int] = set()
        self.ended: TransactionEnded | None = None
        conf, _ = consumer_conf(settings, member=number, group_protocol="consumer")
        self.source = Source(conf, "in", self)
        self.sink: Sink = make_sink(settings, number, [Topic("out", 1, 1_000_000)], lambda: self.source, lambda: None)
        self.sink.rebuild()
        assert isinstance(self.sink.step(1.0), Ready)
        self.source.join()

    def assigned(self, partitions: Sequence[int]) -> None:
        self.owned.update(partitions)

    def revoked(self, partitions: Sequence[int]) -> None:
        self.owned.difference_update(partitions)
        self.sink.begin(COMMIT)
        self.steps(until=time.monotonic() + 2.0)

    lost = revoked

    def steps(self, until: float) -> None:
        while self.ended is None and time.monotonic() < until:
            result = self.sink.step(0.2)
            self.ended = result if isinstance(result, TransactionEnded) else None

    def poll_until(self, true: Callable[[], bool], *others: Member) -> None:
        deadline = time.monotonic() + 20
        while not true():
            assert time.monotonic() < deadline
            for one in (self, *others):
                one.source.poll(0.05, 1)


@pytest.fixture
def embedded() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        broker.create_topic("in", 2)
        yield broker


@pytest.fixture
def settings(embedded: EmbeddedBroker) -> Settings:
    return load_settings(
        {},
        overrides={
            "kafka": {"bootstrap_servers": embedded.bootstrap},
            "group_id": "group",
            "input_topic": "in",
            "output_topic": "out",
            "worker": "consumer.workers:SummaryWorker",
            "delivery": "at_least_once",
        },
    )


@pytest.fixture
def join(settings: Settings) -> Iterator[Callable[[], Member]]:
    """Members of the group, closed at the end: the collector would do it wherever it runs, and call them back."""
    made: list[Member] = []

    def make() -> Member:
        made.append(Member(settings, len(made)))
        return made[-1]

    yield make
    for one in made:
        one.sink.discard()
        one.source.abandon()


def test_it_is_done_before_the_partitions_are_given_back(join: Callable[[], Member]) -> None:
    first = join()
    first.poll_until(lambda: len(first.owned) == 2)
    second = join()
    first.poll_until(lambda: first.ended is not None or len(first.owned) < 2, second)
    assert first.ended is not None
    assert first.ended.outcome is Outcome.COMMITTED


def test_the_consumer_can_be_polled_while_no_broker_answers_it(
    embedded: EmbeddedBroker, join: Callable[[], Member]
) -> None:
    member = join()
    member.poll_until(lambda: len(member.owned) == 2)
    embedded.set_broker_down()
    member.sink.begin(COMMIT)
    member.steps(until=time.monotonic() + 0.5)
    assert member.ended is None, "nobody can have answered"
    polled = time.monotonic()
    member.source.poll(0.1, 1)
    embedded.set_broker_up()
    assert time.monotonic() - polled < 5
    while member.ended is None:
        member.source.poll(0.05, 1)
        member.steps(until=time.monotonic() + 0.1)
