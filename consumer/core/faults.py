"""A client error that comes again at one offset, such as a batch whose checksum is wrong: wait longer and longer.

librdkafka reports what it cannot decode in place of the records. Decompression errors repeat at the same offset
every half second for ever; after a checksum error it goes on behind the batch (`rdkafka_msgset_reader.c`), which
would lose the records: the position is therefore sought again after every error.
"""

from __future__ import annotations

from random import Random

from consumer.core.messages import FetchFailed, Seek, Stuck
from consumer.core.partition import Partition
from consumer.core.retry import Backoff

MOST = 3
"""So often at one offset, then the partition is paused while the others go on."""
BACKOFF = Backoff(10.0, 2.0, 300.0)


def failed(partition: Partition, event: FetchFailed, random: Random, now: float) -> list[Seek | Stuck]:
    """Count the error: seek its place again, and after MOST of them let the partition wait for a while."""
    if partition.failing_at != partition.position:
        partition.failing_at, partition.fetch_failures = partition.position, 0
    partition.fetch_failures += 1
    if partition.fetch_failures < MOST:
        return [Seek(partition.number, partition.position)]
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
        Seek(partition.number, partition.position),
    ]
