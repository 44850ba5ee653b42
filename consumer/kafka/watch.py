"""The watch over the topics while a member runs: whether they still are the same, and how far the input reaches.

On a thread of its own, since an answer may take as long as it likes. A client that reads or writes a topic does not
tell by itself that it was deleted: for 8 s and more nothing came at all (measured).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from consumer.errors import ConfigError, ExitCode, PolicyStop, Stop
from consumer.kafka.admin import describe, topic_id
from consumer.log import RateLimited, get_logger
from consumer.work.report import Broken

INTERVAL_SECONDS = 30.0
MISSING_SECONDS = 5.0
"""So long the brokers may deny a topic: they do not all know at once."""
REQUEST_SECONDS = 5.0
AGAIN_SECONDS = 1.0

log = get_logger("consumer.watch")


@dataclass(frozen=True, slots=True)
class Ends:
    """The end offset per partition of the input, as a read_committed reader sees it."""

    ends: dict[int, int]


class Watch:
    """Asks every `seconds`, and puts what it finds into `outbox`: `Ends`, and `Broken` with the Stop that ends it.

    Args:
        admin: asked by this thread alone from now on.
        input_topic: whose ends are asked for.
        ids: of all topics that matter, as far as they are known (else empty).
        assigned: the partitions that matter at the moment; called on the watch's thread.
        outbox: where the poll thread listens.
        seconds: between two questions.
        partitions: how many the input has where something depends on it; None: nothing does.
    """

    def __init__(
        self,
        admin: AdminClient,
        input_topic: str,
        ids: Mapping[str, str],
        assigned: Callable[[], Sequence[int]],
        outbox: SimpleQueue[Any],
        seconds: float = INTERVAL_SECONDS,
        partitions: int | None = None,
    ) -> None:
        self._admin = admin
        self._input = input_topic
        self._topics = sorted(ids)
        self._assigned = assigned
        self._outbox = outbox
        self._seconds = min(seconds, INTERVAL_SECONDS)
        self._partitions = partitions
        self._ids = {name: found for name, found in ids.items() if found}
        self._known = False
        self._missing_since: dict[str, float] = {}
        self._repeats = RateLimited(log, 300.0)
        self._pause = threading.Event()  # never set: the process ends with the thread

    def start(self) -> None:
        """Begin, until the process ends."""
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def _run(self) -> None:
        try:
            while True:
                self.look(time.monotonic())
                self._pause.wait(AGAIN_SECONDS if self._missing_since else self._seconds)
        except Exception as error:  # noqa: BLE001 - the poll thread decides what it means
            self._outbox.put(Broken(error))

    def look(self, now: float) -> None:
        """Ask once. Brokers that do not answer are waited for, and said to be silent.

        Raises:
            Stop: a topic is not what it was.
        """
        try:
            for name, future in describe(self._admin, self._topics, REQUEST_SECONDS).items():
                self._compare(name, future, now)
            if not self._known and len(self._ids) == len(self._topics):
                self._known = True
                log.info("topics watched", ids=self._ids, every_seconds=self._seconds)
            self._outbox.put(Ends(self._ends()))
        except (KafkaException, TimeoutError) as error:
            self._silent(error)

    def _silent(self, error: Exception) -> None:
        self._repeats.warning("the topics cannot be watched", key=str(error), error=str(error))

    def _compare(self, name: str, future: Any, now: float) -> None:
        try:
            topic = future.result(REQUEST_SECONDS + 1.0)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                self._silent(error)
            elif now - self._missing_since.setdefault(name, now) >= MISSING_SECONDS:
                raise ConfigError(f"topic {name} was deleted: create it again and start again") from None
            return
        self._missing_since.pop(name, None)
        found = topic_id(topic)
        before = self._ids.setdefault(name, found)
        if found != before:
            raise self._made_anew(name, before, found)
        count = len(topic.partitions)
        if name == self._input and self._partitions is not None and count > self._partitions:
            raise _begin_again(
                f"topic {name} has {count} partitions now, and had {self._partitions}: the member starts again to "
                "know which numbers lie where (CONSUMER_SEQUENCE__PARTITIONING)"
            )

    def _made_anew(self, name: str, before: str, found: str) -> Stop:
        what = f"topic {name} was deleted and made anew (its id was {before} and is {found})"
        if name == self._input:
            return PolicyStop(
                f"{what}: the group's offsets belong to the old one, and the new one is not read by itself: delete the "
                "group's offsets or take another CONSUMER_GROUP_ID, and start again"
            )
        return _begin_again(
            f"{what}: what was published to the old one is gone; the member starts again to take in its limits"
        )

    def _ends(self) -> dict[int, int]:
        asked = {TopicPartition(self._input, number): OffsetSpec.latest() for number in self._assigned()}
        if not asked:
            return {}
        futures = self._admin.list_offsets(
            asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=REQUEST_SECONDS
        )
        ends = {}
        for at, future in futures.items():
            try:
                ends[at.partition] = future.result(REQUEST_SECONDS + 1.0).offset
            except KafkaException as error:  # as while a leader is chosen: the others count
                self._silent(error)
        return ends


def _begin_again(message: str) -> Stop:
    stop = Stop(message)
    stop.exit_code = ExitCode.UNEXPECTED
    return stop
