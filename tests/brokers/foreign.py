"""A broker that belongs to somebody else: `KAFKA_BOOTSTRAP_SERVERS`."""

from __future__ import annotations

from typing import NoReturn

from tests.brokers.ready import wait_until_ready


class ForeignBroker:
    """Used, never stopped, frozen or reconfigured. Raises RuntimeError where it does not answer."""

    kind = "foreign"
    owned = False
    running = True

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        advice = "start it, or unset KAFKA_BOOTSTRAP_SERVERS to let the tests start one"
        wait_until_ready(bootstrap, lambda: True, lambda: advice, seconds=15)

    @property
    def describe(self) -> str:
        return f"{self.bootstrap} (KAFKA_BOOTSTRAP_SERVERS; not ours: tests that stop or freeze a broker are skipped)"

    def start(self) -> None:
        """Nothing to do: it runs."""

    def thaw(self) -> None:
        """Nothing to do: it is never frozen."""

    def stop(self) -> NoReturn:
        """Refused, as are `kill` and `freeze`."""
        raise RuntimeError("this broker is not ours to stop: mark the test with `owns_broker`")

    kill = stop
    freeze = stop

    def logged(self) -> NoReturn:
        """Its log is not ours to read."""
        raise RuntimeError("the log of this broker is not there to be read: mark the test with `owns_broker`")

    def close(self) -> None:
        """Nothing to do: it stays."""
