"""Why a member ends by itself: one function per reason. Nothing is skipped or committed by any of them."""

from __future__ import annotations

from collections.abc import Iterable

from consumer.core.audit import Anomaly
from consumer.core.history import RATIO_RECORDS, DeadLetterLimits
from consumer.core.messages import Fail, OutOfRange
from consumer.core.partition import Partition
from consumer.core.progress import Standing
from consumer.errors import ExitCode


def outgrown(topic: str, partitions: Iterable[Partition], limit_bytes: int) -> Fail:
    """The open batches fill the memory budget and their reducer does not close them."""
    by_size = sorted(partitions, key=lambda partition: partition.batch_bytes)
    largest, held = by_size[-1], sum(partition.batch_bytes for partition in by_size)
    return _policy(
        f"the reducer's open batch of {topic}/{largest.number} holds {largest.batch_bytes} bytes in "
        f"{largest.batch_messages} messages, all open batches {held} bytes, of the {limit_bytes} that are half of "
        "CONSUMER_MEMORY__MAX_BYTES: let should_close_batch close earlier, or raise that"
    )


def out_of_range(topic: str, event: OutOfRange) -> Fail:
    """The next offset does not exist."""
    return _policy(
        f"{topic}/{event.partition}: the next offset {event.offset} is out of range ({event.error}): retention "
        "overtook this group, or the topic was made anew; nothing is skipped by itself: move the group to where it "
        "shall go on and start again"
    )


def other_topic(topic: str, partition: Partition) -> Fail:
    """The committed offset was committed for a topic of this name that is gone."""
    return _policy(
        f"{topic}/{partition.number}: the committed offset {partition.committed} is of a deleted topic of this name "
        f"(its id was {partition.history.topic_id}); nothing is skipped by itself: delete the group's offsets or take "
        "another CONSUMER_GROUP_ID, and start again"
    )


def refused(topic: str, partition: Partition, error: str) -> Fail:
    """The broker takes neither the result of the first finished item nor a dead letter in its place."""
    item = partition.finished[0]
    what, remedy = "the result", "let the reducer publish less per result, or raise the topic's limits"
    if item.dead:
        what, remedy = "the dead letter", "raise the limits of the dead-letter topic"
    where = f"{topic}/{partition.number} offsets {item.first}-{item.last}"
    return _policy(f"the broker refuses {what} of {where}: {error}: {remedy} and start again; nothing was skipped")


def late(topic: str, partition: Partition, error: str) -> Fail:
    """One result by itself never gets through in time."""
    item = partition.finished[0]
    return _policy(
        f"the result of {topic}/{partition.number} offsets {item.first}-{item.last} ({item.size_bytes} bytes in "
        f"{len(item.outs)} records) never gets through, though it was sent by itself and the brokers answer: {error}; "
        "then start again; nothing was skipped"
    )


def transient(where: str, seconds: float, error: str) -> Fail:
    """What user code depends on has been away for too long."""
    return _policy(
        f"{where} failed for {seconds:.0f} s (CONSUMER_RETRY__MAX_ELAPSED_SECONDS) with {error}: mend what it depends "
        "on and start again; nothing was skipped"
    )


def dead_letters(where: str, error: str, limits: DeadLetterLimits) -> Fail:
    """One dead letter more would pass a limit."""
    return _policy(
        f"{where} failed with {error}, and one more dead letter would pass CONSUMER_DLQ__MAX_CONSECUTIVE="
        f"{limits.max_consecutive} or CONSUMER_DLQ__MAX_RATIO={limits.max_ratio:g} of the last {RATIO_RECORDS} "
        "records: see what failed with `dlq list`, mend the cause and start again; `dlq resume` lets the count begin "
        "anew; nothing was skipped"
    )


def sequence(where: str, anomaly: Anomaly) -> Fail:
    """A number did not come where it belongs, and the policy is to stop."""
    expected = f"above {anomaly.highest}" if anomaly.expected is None else str(anomaly.expected)
    return _policy(
        f"{where} holds checkpoint {anomaly.number}, a {anomaly.kind}: expected was {expected} "
        "(CONSUMER_SEQUENCE__POLICY=stop): mend the input and start again, or go past it with "
        "CONSUMER_SEQUENCE__POLICY=report; nothing was skipped"
    )


def commit_failed(where: str, attempts: int, error: str) -> Fail:
    """The reducer's commit fails for good."""
    return _policy(
        f"{where} failed {attempts} times and for good (CONSUMER_RETRY__MAX_ATTEMPTS) with {error}: mend the reducer "
        "and start again; nothing was skipped or dead-lettered"
    )


def stuck(topic: str, standing: Standing) -> Fail:
    """Neither a new position nor a new consumer made the partition move."""
    return Fail(
        int(ExitCode.UNEXPECTED),
        f"{topic}/{standing.partition.number} stands still: {standing.why}; neither seeking nor joining again helped: "
        "the member is started again; if that does not help, look at the leader of this partition",
    )


def fenced() -> Fail:
    """Another instance has this member's identity."""
    return Fail(
        int(ExitCode.FENCED),
        "another instance uses this member's transactional.id (fenced again right after a new producer): give each "
        "process its own CONSUMER_INSTANCE_ID",
    )


def _policy(message: str) -> Fail:
    return Fail(int(ExitCode.POLICY), message)
