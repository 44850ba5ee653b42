"""Joining the group: with the protocol that the brokers have, and with an identity that its last owner has let go."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from consumer.errors import ConfigError, Fenced, Stop
from consumer.kafka.source import InstanceInUse, Rejoin, Source, UnsupportedProtocol
from consumer.log import get_logger
from consumer.patience import Patience

Protocol = Literal["classic", "consumer"]

RELEASE_SECONDS = 70.0
"""Above the longest session that brokers allow by default (`group.consumer.max.session.timeout.ms`, 60 s)."""
PAUSE_SECONDS = 1.0

log = get_logger("consumer.joining")


def run_in_group(
    run: Callable[[Source], None],
    open_source: Callable[[Protocol], Source],
    source: Source,
    setting: Literal["auto", "classic", "consumer"],
    patience: Patience,
    leave_seconds: float,
) -> Source:
    """Join with `source` and `run`; with another one where the group does not take the member in. Returns the last one.

    Args:
        run: runs the member over a source until it is finished.
        open_source: makes one that has not joined.
        source: the first of them.
        setting: `CONSUMER_KAFKA__GROUP_PROTOCOL`.
        patience: for waiting.
        leave_seconds: for leaving the group, in which a member may be asked to finish.

    Raises:
        ConfigError: the brokers do not have the protocol that was asked for.
        Fenced: another process has this `group.instance.id`, and not only one that is gone.
        Stop: the group could not be left in time.
        StopIteration: told to stop while waiting.
    """
    protocol: Protocol = "classic" if setting == "classic" else "consumer"
    in_use_since: float | None = None
    while True:
        source.join()
        try:
            run(source)
        except UnsupportedProtocol:
            if setting != "auto":
                raise ConfigError(
                    "the brokers do not have the `consumer` group protocol (KIP-848, Kafka 4.0): set "
                    "CONSUMER_KAFKA__GROUP_PROTOCOL to classic or auto"
                ) from None
            log.info("the brokers do not have the consumer protocol, joining with the classic one")
            protocol = "classic"
        except Rejoin:
            log.warning("leaving the group, and joining it again")
        except InstanceInUse as error:
            # A member that was killed did not leave: its successor's identity is taken until the session is over.
            now = time.monotonic()
            if in_use_since is None:
                in_use_since = now
                log.warning("this group.instance.id is still that of a member that did not leave, waiting")
            if now - in_use_since > RELEASE_SECONDS:
                raise Fenced(
                    f"another member has this group.instance.id ({error}): give each process its own "
                    "CONSUMER_INSTANCE_ID"
                ) from None
            patience.pause(PAUSE_SECONDS)
        else:
            return source
        if not leave(source.close, leave_seconds):  # it may still call back: no other source beside it
            raise Stop("the brokers do not answer while the group is left to join it again: the member starts again")
        source = open_source(protocol)


def leave(close: Callable[[], None], seconds: float) -> bool:
    """Give the partitions back now, or (False) the others wait until the session is over; raises what `close` does."""
    try:
        ThreadPoolExecutor(1, "leave").submit(close).result(seconds)
    except TimeoutError:  # left behind, with its thread
        log.warning("the brokers do not answer: the others get this member's partitions when its session is over")
        return False
    return True
