"""Every kind of bad input at once on a real Kafka, between good checkpoints; and `dlq` over what becomes of it."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from consumer.checkpoint import CheckpointHeader
from consumer.generate import generate
from consumer.worker import Worker
from tests.brokers.find import Broker
from tests.brokers.topics import TopicFactory, Topics
from tests.kafka.commands import COMMAND, ROOT, Pipeline, small
from tests.kafka.raw_records import produce_raw
from tests.kafka.workers_e2e import ECHO

MIB = 1 << 20


class Bad(NamedTuple):
    """A record that must become a dead letter, and a word of the reason."""

    reason: str
    value: bytes | None = None
    headers: Any = ()
    key: bytes = b"bad"
    timestamp: int = 0
