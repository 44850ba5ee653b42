"""Which broker the tests run against; the order is in the package's docstring."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Protocol

from tests.brokers.container import ContainerBroker, image_name
from tests.brokers.foreign import ForeignBroker
from tests.brokers.jars import Unavailable
from tests.brokers.jvm import JvmBroker

ADVICE = (
    "no broker for the tests marked `kafka`: set KAFKA_BOOTSTRAP_SERVERS, or start a Docker engine, or install Java 17 "
    "and Maven (Debian: openjdk-17-jre-headless maven)"
)


class Broker(Protocol):
    """What the fixture `broker` gives; what each does is said in JvmBroker."""

    kind: str
    owned: bool
    bootstrap: str

    @property
    def describe(self) -> str: ...

    @property
    def running(self) -> bool: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def kill(self) -> None: ...

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...

    def logged(self) -> str: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Found:
    """A running broker or None, and why each better choice was passed over."""

    broker: Broker | None
    passed_over: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """What to tell the user."""
        chosen = self.broker.describe if self.broker else f"NONE: {ADVICE}"
        return [f"broker: {chosen}", *(f"broker: not used: {reason}" for reason in self.passed_over)]


def expected() -> str:
    """What `find_broker` will try first, told cheaply and without starting anything."""
    if bootstrap := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        return f"{bootstrap} (KAFKA_BOOTSTRAP_SERVERS)"
    choices = []
    if os.environ.get("DOCKER_HOST") or Path("/var/run/docker.sock").exists():
        choices.append(f"a container of {image_name()}")
    if which("java"):
        choices.append("a JVM process")
    return ", else ".join(choices) or f"none ({ADVICE})"


def find_broker() -> Found:
    """Start the first broker that can be had. Raises RuntimeError where the one named in the environment is silent."""
    if bootstrap := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        return Found(ForeignBroker(bootstrap))
    passed_over: list[str] = []
    for make in (ContainerBroker, JvmBroker):
        try:
            return Found(make(), tuple(passed_over))
        except (Unavailable, RuntimeError) as reason:
            passed_over.append(f"{make.kind}: {reason}")
    return Found(None, tuple(passed_over))
