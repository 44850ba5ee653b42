"""A test that fails while the broker broke is skipped with the reason; any other failure tells what the broker said."""

from __future__ import annotations

from typing import cast

import pytest

from tests.brokers.defects import DEFECTS, unless_the_broker_breaks
from tests.brokers.find import Broker


class Logs:
    """The log of a broker, as far as it is written."""

    def __init__(self, text: str) -> None:
        self.text = text

    def logged(self) -> str:
        return self.text


def failing(said_before: str, said: str) -> None:
    logs = Logs(said_before)
    with unless_the_broker_breaks(cast(Broker, logs)):
        logs.text += said
        raise AssertionError("60 s and nobody owns a partition")


@pytest.mark.parametrize("text", DEFECTS)
def test_a_broken_broker_skips_the_test_that_it_fails(text: str) -> None:
    with pytest.raises(pytest.skip.Exception, match=r"the broker .*, and then: 60 s and nobody"):
        failing("", f"INFO {text}-1 because\n")


@pytest.mark.parametrize("text", DEFECTS)
def test_what_it_logged_before_is_no_excuse_and_the_rest_is_told(text: str) -> None:
    with pytest.raises(AssertionError) as failed:
        failing(
            f"INFO {text}-1\n", "d WARN a: slow\nd INFO b: nothing\nd INFO c.CoordinatorRuntime: Scheduling loading\n"
        )
    assert failed.value.__notes__ == ["d WARN a: slow\nd INFO c.CoordinatorRuntime: Scheduling loading"]
