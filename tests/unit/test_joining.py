"""Joining with another protocol, waiting for an identity, and when each is given up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, Literal, cast

import pytest

from consumer import joining
from consumer.errors import ConfigError, ExitCode, Fenced, Stop
from consumer.joining import Protocol, leave, run_in_group
from consumer.kafka.source import InstanceInUse, Rejoin, Source, UnsupportedProtocol
from consumer.patience import Patience


class FakeSource:
    """One consumer; `protocols` holds those of all that were made, open and closed."""

    def __init__(self, protocols: list[str], protocol: str) -> None:
        self.protocols, self.at = protocols, len(protocols)
        protocols.append(f"{protocol} made")

    def join(self) -> None:
        self.protocols[self.at] = self.protocols[self.at].replace("made", "joined")

    def close(self) -> None:
        self.protocols[self.at] = self.protocols[self.at].replace("joined", "closed")


def joined(
    setting: Literal["auto", "classic", "consumer"], *ends: Exception | None, stopping: bool = False
) -> list[str]:
    """Join with a member that ends so each time it runs; returns what became of each consumer."""
    protocols: list[str] = []
    outcomes: Iterator[Exception | None] = iter(ends)

    def run(source: Source) -> None:
        outcome = next(outcomes)
        if outcome is not None:
            raise outcome

    def made(protocol: Protocol) -> Any:
        return FakeSource(protocols, protocol)

    first = made("classic" if setting == "classic" else "consumer")
    open_source = cast(Callable[[Protocol], Source], made)
    run_in_group(run, open_source, first, setting, Patience(endless=False, stopping=lambda: stopping), 5.0)
    return protocols


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "PAUSE_SECONDS", 0.0)


def test_joining_again_takes_a_new_consumer() -> None:
    assert joined("auto", Rejoin(), None) == ["consumer closed", "consumer joined"]
    assert joined("auto", UnsupportedProtocol(), Rejoin(), None) == [
        "consumer closed",
        "classic closed",
        "classic joined",
    ]


def test_the_first_protocol_is_the_settings() -> None:
    assert joined("auto", None) == joined("consumer", None) == ["consumer joined"]
    assert joined("classic", None) == ["classic joined"]


def test_auto_goes_on_with_classic_and_stays_there() -> None:
    in_use = InstanceInUse("still used")
    ends = (UnsupportedProtocol(), in_use, None)
    assert joined("auto", *ends) == ["consumer closed", "classic closed", "classic joined"]


def test_consumer_does_not() -> None:
    with pytest.raises(ConfigError, match="set CONSUMER_KAFKA__GROUP_PROTOCOL to classic or auto"):
        joined("consumer", UnsupportedProtocol())


def test_an_identity_in_use_is_waited_for_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    assert joined("auto", *[InstanceInUse("still used")] * 3, None) == ["consumer closed"] * 3 + ["consumer joined"]
    assert len(caplog.records) == 1


def test_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "RELEASE_SECONDS", -1.0)
    with pytest.raises(Fenced, match=r"\(still used\): give each process its own CONSUMER_INSTANCE_ID"):
        joined("auto", InstanceInUse("still used"))


def test_and_not_when_told_to_stop() -> None:
    with pytest.raises(StopIteration):
        joined("auto", InstanceInUse("still used"), stopping=True)


def test_a_group_that_cannot_be_left_ends_this_process_in_time() -> None:
    """What still hangs in it could call back while the next consumer runs."""
    brokers = threading.Event()

    def run(source: Source) -> None:
        raise Rejoin

    source: Any = SimpleNamespace(join=lambda: None, close=lambda: brokers.wait(10))

    def open_source(protocol: Protocol) -> Source:
        raise AssertionError("another consumer beside it")

    patience = Patience(endless=False, stopping=lambda: False)
    with pytest.raises(Stop, match="while the group is left to join it again: the member starts again") as raised:
        run_in_group(run, open_source, source, "auto", patience, 0.05)
    brokers.set()
    assert raised.value.exit_code is ExitCode.UNEXPECTED


def test_a_close_that_hangs_is_left_behind() -> None:
    brokers, closed = threading.Event(), threading.Event()

    def close() -> None:
        brokers.wait(10)
        closed.set()

    assert not leave(close, 0.05)
    assert not closed.is_set()
    brokers.set()
    assert closed.wait(10)
