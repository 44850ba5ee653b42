"""A client error that comes again at one offset, such as a batch whose checksum is wrong: wait longer and longer.

librdkafka reports what it cannot decode in place of the records. Decompression errors repeat at the same offset
every half second for ever. After a checksum error it goes on behind the batch, or at an offset that it takes from the
damage and that is then out of range (measured): both would lose records, so the position is sought again every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from consumer.core import lifecycle, stops
from consumer.core.messages import Command, FetchFailed, OutOfRange, Stuck
from consumer.core.partition import Partition
from consumer.core.retry import Backoff

MOST = 3
"""So often at one offset, then the partition is paused while the others go on."""
BACKOFF = Backoff(10.0, 2.0, 300.0)


def out_of_range(topic: str, partition: Partition, event: OutOfRange, random: Random, now: float) -> Sequence[Command]:
    """Stop, unless it is not the group's own offset.

    It may be the 0 at which the client was assigned, or come out of a damaged batch, which is one more failure of it.
    """
    if event.offset < partition.position or (partition.untouched and not event.offset):
        return lifecycle.seek(partition)
    if partition.failing_at == partition.position != event.offset:
        return failed(partition, FetchFailed(partition.number, event.error), random, now)
    return [stops.out_of_range(topic, event)]


def failed(partition: Partition, event: FetchFailed, random: Random, now: float) -> Sequence[Command]:
    """Count the error: seek its place again, and after MOST of them let the partition wait for a while.

    What comes while it waits is of a fetch from before, perhaps of the damaged offset: sought again, but not counted.
    """
    if now < partition.blocked_until:
        return lifecycle.seek(partition)
    if partition.failing_at != partition.position:
        partition.failing_at, partition.fetch_failures = partition.position, 0
    partition.fetch_failures += 1
    if partition.fetch_failures < MOST:
        return lifecycle.seek(partition)
    seconds = 1.0 + BACKOFF.delay(partition.fetch_failures - MOST + 1, random)
    partition.blocked_until = now + seconds
    return [
        Stuck(
            partition.number,
            partition.position,
            "wait",
            f"{event.error}, {partition.fetch_failures} times: tried again in {seconds:.0f} s; mend the topic, or move "
            "the group past this offset",
        ),
        *lifecycle.seek(partition),
    ]
