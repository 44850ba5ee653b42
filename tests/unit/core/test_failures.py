"""Examples: what becomes of a failure: a retry at its time, a dead letter, the end of the member."""

from __future__ import annotations

import dataclasses
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.core import lifecycle
from consumer.core import messages as m
from consumer.core.machine import Machine, Policy
from consumer.core.retry import Backoff
from consumer.errors import ExitCode
from tests.unit.core.model import POLICY, FakeRecord, World

TRANSIENT, RETRIABLE, PERMANENT = m.FailureKind.TRANSIENT, m.FailureKind.RETRIABLE, m.FailureKind.PERMANENT
NOW = 100.0


def machine(**policy: object) -> Machine:
    """One running partition, 0, with offsets 0 to 9 in work, epoch 1."""
    made = Machine(dataclasses.replace(POLICY, **policy), Random(1))  # type: ignore[arg-type]
    made.handle(m.Assigned([0]), NOW)
    made.handle(m.Located(0, 1, None, ""), NOW)
    records = [FakeRecord(0, at, at, 0, False, 10) for at in range(10)]
    made.handle(m.Records([m.Chunk(0, records, list(range(10)), 100)], more=True), NOW)
    return made


def fail(
    made: Machine, kind: m.FailureKind, now: float = NOW, offset: int = 0, stage: str = "process_checkpoint"
) -> list[m.Command]:
    return made.handle(m.Failed(0, 1, offset, kind, "ValueError: x", stage), now)


def test_a_failure_is_tried_again_at_its_time_and_not_before() -> None:
    made = machine()
    assert fail(made, RETRIABLE) == []
    due = made.wake_at(NOW)
    assert NOW < due <= NOW + POLICY.retry.initial_seconds
    assert made.handle(m.Tick(), due - 0.001) == []
    assert made.handle(m.Tick(), due) == [m.Retry(0, 1, 0)]
    assert made.handle(m.Tick(), due + 0.1) == [], "once"


def test_retries_come_in_the_order_of_their_times() -> None:
    made = machine(retry=Backoff(5.0, 1.0, 5.0))
    for offset in range(5):
        fail(made, RETRIABLE, offset=offset)
    assert {command.offset for command in made.handle(m.Tick(), NOW + 5.0) if isinstance(command, m.Retry)} == set(
        range(5)
    )


def test_the_last_attempt_is_a_dead_letter() -> None:
    made = machine(retry_attempts=3)
    assert fail(made, RETRIABLE) == []
    assert fail(made, RETRIABLE) == []
    assert fail(made, RETRIABLE) == [m.DeadLetter(0, 1, 0, 3)]


def test_a_permanent_failure_is_a_dead_letter_at_once() -> None:
    assert fail(machine(), PERMANENT) == [m.DeadLetter(0, 1, 0, 1)]


def test_each_checkpoint_has_its_own_count() -> None:
    made = machine(retry_attempts=2)
    assert fail(made, RETRIABLE, offset=0) == []
    assert fail(made, RETRIABLE, offset=1) == []
    assert fail(made, RETRIABLE, offset=0) == [m.DeadLetter(0, 1, 0, 2)]


def test_a_transient_failure_is_never_dead_lettered_and_ends_the_member_in_the_end() -> None:
    made = machine(retry_elapsed_seconds=900.0, retry_attempts=2)
    for second in range(0, 900, 30):
        commands = fail(made, TRANSIENT, NOW + second)
        assert not any(isinstance(command, m.DeadLetter | m.Fail) for command in commands)
    (stop,) = (c for c in fail(made, TRANSIENT, NOW + 900) if isinstance(c, m.Fail))
    assert stop.exit_code == ExitCode.POLICY
    assert stop.message.startswith(
        "in/0 offset 0 failed for 900 s (CONSUMER_RETRY__MAX_ELAPSED_SECONDS) with ValueError"
    )
    assert made.partitions[0].delivered[0] == 0, "the offset has not moved"


def test_transient_failures_do_not_use_up_the_attempts() -> None:
    """A database that was down for a while must not turn the first other error into a dead letter."""
    made = machine(retry_attempts=2)
    for _ in range(20):
        fail(made, TRANSIENT)
    assert not any(isinstance(command, m.DeadLetter) for command in fail(made, RETRIABLE))
    assert m.DeadLetter(0, 1, 0, 22) in fail(made, RETRIABLE)


def test_what_was_finished_is_counted_afresh_when_it_comes_again() -> None:
    world = World(partitions=1)
    world.failures[0, 0] = [RETRIABLE, RETRIABLE]
    world.append(0, 1)
    world.settle_down()
    assert world.machine.partitions[0].attempts == {}
    assert world.logs[0].published == [("ok", 0)]


@pytest.mark.parametrize("state", ["draining", "drained"])
def test_a_partition_that_leaves_is_not_retried(state: str) -> None:
    made = machine()
    fail(made, RETRIABLE)
    made.handle(m.Revoking([0]), NOW)
    if state == "drained":
        made.handle(m.Drained(0, 1), NOW)
    assert not any(isinstance(command, m.Retry) for command in made.handle(m.Tick(), NOW + 10))


def test_a_partition_that_ends_is_retried() -> None:
    made = machine()
    fail(made, RETRIABLE)
    lifecycle.end(made.partitions[0])
    assert m.Retry(0, 1, 0) in made.handle(m.Tick(), NOW + 10)


# ------------------------------------------------------------------------------------------------ Reducer.commit


def test_a_commit_that_fails_for_good_ends_the_member_and_dead_letters_nothing() -> None:
    made = machine(reduces=True)
    (stop,) = fail(made, PERMANENT, stage="commit", offset=4)
    assert isinstance(stop, m.Fail)
    assert stop.exit_code == ExitCode.POLICY
    assert stop.message.startswith("the reducer's commit of the batch that ends at in/0 offset 4 failed 1 times")
    assert "nothing was skipped or dead-lettered" in stop.message


def test_a_commit_that_fails_too_often_ends_the_member() -> None:
    made = machine(reduces=True, retry_attempts=3)
    for _ in range(2):
        assert fail(made, RETRIABLE, stage="commit", offset=4) == []
    assert isinstance(fail(made, RETRIABLE, stage="commit", offset=4)[0], m.Fail)


def test_a_commit_is_tried_again_at_its_time() -> None:
    made = machine(reduces=True)
    fail(made, RETRIABLE, stage="commit", offset=4)
    assert m.Retry(0, 1, 4) in made.handle(m.Tick(), NOW + 1)


def test_a_commit_that_waits_for_its_surroundings_ends_the_member_in_the_end() -> None:
    made = machine(reduces=True, retry_elapsed_seconds=60.0)
    assert fail(made, TRANSIENT, stage="commit", offset=4) == []
    assert any(isinstance(command, m.Fail) for command in fail(made, TRANSIENT, NOW + 60, stage="commit", offset=4))


def test_a_commit_does_not_inherit_the_tries_of_its_last_checkpoint() -> None:
    made = machine(reduces=True, retry_attempts=3)
    for _ in range(2):
        fail(made, RETRIABLE, offset=4)
    for _ in range(2):
        assert not any(isinstance(c, m.Fail) for c in fail(made, RETRIABLE, stage="commit", offset=4))


def test_the_next_batch_s_commit_is_counted_afresh() -> None:
    world = World(dataclasses.replace(POLICY, reduces=True, retry_attempts=3), partitions=1)
    for at in range(20):
        world.failures[0, -1 - at] = [RETRIABLE, RETRIABLE]
    for _ in range(6):
        world.append(0, 2)
        for _ in range(12):
            world.turn()
    world.settle_down()


# --------------------------------------------------------------------------------------------------------- delays


@given(
    st.floats(0.01, 10.0), st.floats(1.0, 3.0), st.floats(0.01, 100.0), st.integers(1, 10_000), st.integers(0, 2**32)
)
def test_a_delay_is_jittered_fully_and_bounded(
    initial: float, multiplier: float, most: float, attempt: int, seed: int
) -> None:
    delay = Backoff(initial, multiplier, most).delay(attempt, Random(seed))
    assert 0.0 <= delay <= most
    if attempt == 1:
        assert delay <= initial


def test_delays_grow_up_to_their_maximum_and_are_spread() -> None:
    backoff, random = Backoff(0.5, 1.5, 60.0), Random(1)
    means = [sum(backoff.delay(attempt, random) for _ in range(2000)) / 2000 for attempt in (1, 2, 3, 20, 5000)]
    assert means == pytest.approx([0.25, 0.375, 0.5625, 30.0, 30.0], rel=0.1)


def test_the_default_policy_is_the_contract_s() -> None:
    policy = Policy()
    assert (policy.retry_attempts, policy.retry, policy.retry_elapsed_seconds) == (8, Backoff(0.5, 1.5, 60.0), 900.0)
    assert (policy.flush.max_messages, policy.flush.max_bytes, policy.flush.max_seconds) == (1000, 16 << 20, 1.0)
    assert (policy.flush.linger_seconds, policy.memory_bytes) == (0.02, 32 << 20)
