"""Fixtures of the tests that run whole processes on a real Kafka."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from tests.brokers.find import Broker
from tests.brokers.topics import TopicFactory
from tests.kafka.pipelines import NOTHING, PARTITIONS, Pipeline


class PipelineFactory(Protocol):
    """`pipeline(protocol, settings, reduced)`: topics and a group of its own, settings by name less the prefix."""

    def __call__(self, protocol: str, settings: Mapping[str, str] = NOTHING, *, reduced: bool = False) -> Pipeline: ...


@pytest.fixture
def pipeline(broker: Broker, topics: TopicFactory, tmp_path: Path) -> Iterator[PipelineFactory]:
    made: list[Pipeline] = []

    def make(protocol: str, settings: Mapping[str, str] = NOTHING, *, reduced: bool = False) -> Pipeline:
        names = topics(input=PARTITIONS, output=PARTITIONS, dlq=PARTITIONS)
        folder = tmp_path / names.group
        folder.mkdir()
        configured = {"KAFKA__GROUP_PROTOCOL": protocol, **settings}
        made.append(Pipeline(broker.bootstrap, names, folder, reduced, configured))
        return made[-1]

    yield make
    for one in made:
        one.close()
