"""The real broker, topics and real checkpoints for tests, and what is said about them.

Every test that uses the fixture `broker` or `topics` is marked `kafka`. One broker serves the whole run. Without one
these tests are skipped, or fail with TEST_REQUIRE_BROKER=1 (any), `docker`, `jvm` or `foreign` (only that
one will do); `brokers/__init__.py` tells where it comes from.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.brokers.find import ADVICE, Broker, Found, expected, find_broker
from tests.brokers.topics import TopicFactory, restore

# How long an example takes says more about the machine than about the code.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

FOUND = pytest.StashKey[Found]()
NO_CHECKPOINTS = "no real checkpoints: set CHECKPOINTS=FOLDER to a folder of checkpoint files"


def pytest_report_header() -> list[str]:
    """Say what the run will try to use."""
    checkpoints = os.environ.get("CHECKPOINTS") or NO_CHECKPOINTS
    return [f"broker for tests marked `kafka`: {expected()}", f"real checkpoints: {checkpoints}"]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what needs a broker."""
    if {"broker", "topics"} & set(getattr(item, "fixturenames", ())):
        item.add_marker("kafka")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Start the broker before the first test, so that bringing it counts towards no test's timeout."""
    if session.testsfailed or session.config.option.collectonly:  # what could not be collected ends the run here
        return
    if any(item.get_closest_marker("kafka") for item in session.items):
        try:
            session.config.stash[FOUND] = find_broker()
        except RuntimeError as error:
            pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the broker, however the run ended."""
    found = config.stash.get(FOUND, None)
    if found and found.broker:
        found.broker.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what the run used, and what it did without."""
    found = config.stash.get(FOUND, None)
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    without_checkpoints = sum(NO_CHECKPOINTS in reason for reason in skipped)
    if found:
        terminalreporter.section("real broker")
        for line in found.lines:
            terminalreporter.line(line, yellow=found.broker is None or bool(found.passed_over))
    if without_checkpoints:
        terminalreporter.section("real checkpoints")
        terminalreporter.line(f"{without_checkpoints} tests skipped: {NO_CHECKPOINTS}", yellow=True)


@pytest.fixture(scope="session")
def broker(pytestconfig: pytest.Config) -> Broker:
    """The real broker of this run: `bootstrap`, `kind`, `owned`, `stop`, `start`, `kill`, `freeze`, `thaw`.

    A test that does anything but talk to it is marked `owns_broker`. After each test it runs again.
    """
    found = pytestconfig.stash.get(FOUND, Found(None)).broker
    required = os.environ.get("TEST_REQUIRE_BROKER", "0")
    if required not in {"0", "1", found.kind if found else ""}:
        pytest.fail(f"the broker had to be of the kind {required}; the end of the output says why there is none")
    if found is None:
        if required == "1":
            pytest.fail(ADVICE)
        pytest.skip(ADVICE)
    return found


@pytest.fixture(autouse=True)
def _broker_runs_again(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.node.get_closest_marker("kafka") is None:
        yield
        return
    broker: Broker = request.getfixturevalue("broker")
    if request.node.get_closest_marker("owns_broker") and not broker.owned:
        pytest.skip("this test stops or freezes the broker, and the one of KAFKA_BOOTSTRAP_SERVERS is not ours")
    yield
    restore(broker)


@pytest.fixture
def topics(broker: Broker) -> Iterator[TopicFactory]:
    """`topics(input=6, output=6, dlq=6, config=None) -> Topics(input, output, dlq, group)`, as often as wanted."""
    factory = TopicFactory(broker)
    yield factory
    factory.close()


@pytest.fixture(scope="session")
def real_checkpoints() -> list[Path]:
    """Files with one real checkpoint each, sorted by name."""
    folder = os.environ.get("CHECKPOINTS")
    if not folder:
        pytest.skip(NO_CHECKPOINTS)
    files = sorted(Path(folder).glob("*.json"))
    if not files:
        pytest.fail(f"CHECKPOINTS={folder} has no *.json file")
    return files
