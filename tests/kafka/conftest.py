"""Fixtures of the tests that run whole processes on a real Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.brokers.find import Broker
from tests.brokers.topics import TopicFactory
from tests.kafka.pipelines import PARTITIONS, Pipeline


class PipelineFactory(Protocol):
    """`pipeline(protocol, reduced, **settings)`: topics and a group of its own, settings by name less the prefix."""

    def __call__(self, protocol: str, *, reduced: bool = False, **settings: str) -> Pipeline: ...


@pytest.fixture
def pipeline(broker: Broker, topics: TopicFactory, tmp_path: Path) -> Iterator[PipelineFactory]:
    made: list[Pipeline] = []

    def make(protocol: str, *, reduced: bool = False, **settings: str) -> Pipeline:
        names = topics(input=PARTITIONS, output=PARTITIONS, dlq=PARTITIONS)
        folder = tmp_path / names.group
        folder.mkdir()
        settings = {"KAFKA__GROUP_PROTOCOL": protocol, **settings}
        made.append(Pipeline(broker.bootstrap, names, folder, reduced, settings))
        return made[-1]

    yield make
    for one in made:
        one.close()
