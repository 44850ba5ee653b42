"""librdkafka's lines reach the log, and a broker that is away does not flood it."""

import logging

import pytest

from consumer.kafka.client_log import ClientLog

LOGGER = logging.getLogger("tests.client_log")
REFUSED = "[thrd:b]: b: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after {}ms in state CONNECT)"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock) -> ClientLog:
    return ClientLog(LOGGER, clock)


def say(log: ClientLog, text: str, facility: str = "FAIL", level: int = logging.ERROR) -> None:
    log.log(level, "%s [%s] %s", facility, "rdkafka#producer-1", text)


def test_a_line_that_repeats_but_for_its_duration_comes_once_a_minute(log, clock, caplog) -> None:
    for milliseconds in range(20):
        say(log, REFUSED.format(milliseconds))
    assert caplog.messages == [f"FAIL [rdkafka#producer-1] {REFUSED.format(0)}"]
    clock.now += 60
    say(log, REFUSED.format(7))
    assert len(caplog.messages) == 2


def test_another_broker_or_facility_is_another_line(log, caplog) -> None:
    say(log, REFUSED.format(0))
    say(log, REFUSED.format(0).replace("127.0.0.1:1", "127.0.0.2:1"))
    say(log, REFUSED.format(0), "CONFWARN")
    assert len(caplog.messages) == 3


def test_connection_troubles_are_warnings_and_the_rest_keeps_its_level(log, caplog) -> None:
    say(log, "gone")
    say(log, "wrong", "CONFWARN", logging.CRITICAL)
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.CRITICAL]


def test_a_fatal_error_is_said_by_whom_it_is_raised_to(log, caplog) -> None:
    caplog.set_level(logging.INFO)
    say(log, "no consumer protocol here", "FATAL", logging.CRITICAL)
    assert caplog.records == []


def test_what_the_client_tries_again_by_itself_is_no_warning(log, caplog) -> None:
    text = "[thrd:main]: Failed to acquire transactional PID from broker: Coordinator load in progress: retrying"
    caplog.set_level(logging.INFO)
    say(log, text, "GETPID", logging.WARNING)
    assert [record.levelno for record in caplog.records] == [logging.INFO]


def test_texts_without_end_take_no_memory_without_end(log) -> None:
    for number in range(5000):
        say(log, f"text {number}")
    assert len(log._said) <= 1000
