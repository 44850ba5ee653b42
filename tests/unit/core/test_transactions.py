"""Examples: what goes into a transaction, when, and what becomes of it by its outcome."""

from __future__ import annotations

import dataclasses
import json

import pytest
from msgspec.structs import replace

from consumer.core import messages as m
from consumer.core.flush import LATE_LOOKS, LATE_TIMES
from consumer.core.history import History
from consumer.core.item import Item
from consumer.core.partition import OrderError, State
from consumer.errors import ExitCode
from consumer.records import OutRecord
from tests.unit.core.model import POLICY, World

Outcome = m.Outcome


def sending(partitions: int = 1, records: int = 3) -> World:
    """A world whose first transaction is under way."""
    world = World(partitions=partitions)
    for number in range(partitions):
        world.append(number, records)
    world.assign(*range(partitions))
    while world.transaction is None:
        world.commands()
        world.work_all()
        world.reports()
        world.place()
        if world.transaction is None:
            world.poll(records)
    return world


def transacted(commands: list[m.Command]) -> list[m.Transact]:
    return [command for command in commands if isinstance(command, m.Transact)]


def end(world: World, outcome: m.Outcome, *, truth: bool = True) -> list[m.Command]:
    """End the transaction; returns what the machine wants then."""
    before = len(world.log)
    world.end_transaction(outcome, truth=truth)
    return world.log[before:]


# --------------------------------------------------------------------------------------------------------- when


def test_nothing_finished_nothing_published() -> None:
    world = World(partitions=1)
    world.assign(0)
    for _ in range(3):
        world.turn()
    assert not transacted(world.log)


def test_an_idle_member_publishes_at_once_and_then_a_linger_after_that_began() -> None:
    world = sending(records=1)
    begun = world.now
    world.now += POLICY.flush.linger_seconds / 4
    world.end_transaction(Outcome.COMMITTED)
    world.append(0, 1)
    world.poll()
    world.commands()
    world.work_all()
    world.reports()
    assert world.transaction is None
    world.poll()  # nothing more is ready
    assert world.machine.wake_at(world.now) == pytest.approx(begun + POLICY.flush.linger_seconds)
    world.advance(POLICY.flush.linger_seconds)
    assert world.transaction is not None


def test_as_long_as_the_last_transaction_lasted_if_that_is_longer() -> None:
    world = sending(records=1)
    world.now += 0.3
    world.end_transaction(Outcome.COMMITTED)
    world.append(0, 1)
    world.poll()
    world.commands()
    world.work_all()
    world.reports()
    world.poll()
    assert world.machine.wake_at(world.now) == pytest.approx(world.now + 0.3), "between them, so that the rest has time"


def test_while_input_is_ready_only_age_or_size_closes_a_transaction() -> None:
    world = World(partitions=1)
    world.append(0, 8)
    world.assign(0)
    world.place()
    world.poll(2, more=True)
    world.commands()
    world.work_all()
    world.reports()
    assert world.transaction is None
    assert world.machine.wake_at(world.now) == world.now + POLICY.flush.max_seconds
    world.poll(2, more=True)
    world.commands()
    world.work_all()
    world.reports()
    assert world.transaction is None
    world.poll(1, more=True)
    world.commands()
    world.work_all()
    world.reports()
    full = world.transaction
    assert full is not None
    assert len(full.outs) == POLICY.flush.max_messages, "the fifth message closes it"


def test_a_full_transaction_does_not_wait_for_the_linger() -> None:
    world = sending(records=1)
    world.now += 10.0
    world.end_transaction(Outcome.COMMITTED)
    world.append(0, 5)
    world.poll(5)
    world.commands()
    world.work_all()
    world.reports()
    assert world.transaction is not None


def test_records_that_publish_nothing_move_the_offset() -> None:
    world = World(partitions=1)
    world.filtered = {(0, at) for at in range(3)}
    world.append(0, 3)
    world.assign(0)
    for _ in range(3):
        world.turn()
    assert (world.logs[0].committed, world.logs[0].published) == (3, [])


def test_a_transaction_holds_whole_items_of_all_partitions_up_to_its_limits() -> None:
    world = sending(partitions=3, records=3)
    first = world.transaction
    assert first is not None
    assert {number: offset for number, (offset, _) in first.offsets.items()} == {0: 3, 1: 2}
    world.settle_down()


def test_the_oldest_partition_goes_first() -> None:
    world = sending(partitions=1)
    world.settle_down()
    world = World(partitions=3)
    for number in range(3):
        world.append(number, 1)
    world.assign(0, 1, 2)
    for _ in range(5):
        world.turn()
    for number in (2, 0, 1):
        world.append(number, 4)
        world.now += 0.01
        world.handle(m.Records(world.fetched(4, [number]), more=True))
        world.commands()
        world.work_all()
        world.reports()
    assert world.transaction is not None
    assert list(world.transaction.offsets) == [2, 0]


# ------------------------------------------------------------------------------------------------------- outcomes


def test_committed_items_are_forgotten() -> None:
    world = sending()
    world.end_transaction(Outcome.COMMITTED)
    partition = world.machine.partitions[0]
    assert (partition.committed, len(partition.finished), world.held_bytes) == (3, 0, 0)


def test_aborted_items_are_sent_again_after_a_backoff_and_not_worked_again() -> None:
    world = sending()
    sent = world.transaction
    before = len(world.log)
    world.end_transaction(Outcome.ABORTED)
    assert world.transaction is None
    world.advance(POLICY.flush.backoff.max_seconds)
    assert world.transaction == sent
    assert [type(command) for command in world.log[before:]] == [m.Transact]


def test_a_broker_that_aborts_again_and_again_is_not_pressed() -> None:
    world = sending()
    started, attempts = world.now, 0
    while world.now < started + 60.0:
        if world.transaction is not None:
            attempts += 1
            world.end_transaction(Outcome.ABORTED)
        world.now = world.machine.wake_at(world.now)
        world.handle(m.Tick())
    assert 60 < attempts < 200, "half a second apart on average, once the backoff is at its maximum of one"
    world.settle_down()


@pytest.mark.parametrize("outcome", [Outcome.UNKNOWN, Outcome.FENCED])
@pytest.mark.parametrize("truth", [True, False])
def test_after_an_unknown_outcome_the_committed_offsets_decide(outcome: m.Outcome, truth: bool) -> None:
    world = sending()
    sent = world.transaction
    assert end(world, outcome, truth=truth) == [m.Rebuild([0])]
    world.advance(10.0)
    assert world.transaction is None, "not before the new producer is ready"
    world.settle()
    world.advance(10.0)
    assert (world.transaction == sent) == (not truth)
    assert world.machine.partitions[0].committed == (3 if truth else 0)
    submits = [command for command in world.log if isinstance(command, m.Submit)]
    assert len(submits) == 1, "finished work is kept, whatever was true"
    world.settle_down()


def test_an_offset_that_fits_neither_way_starts_the_partition_over() -> None:
    """Somebody else has moved it: what we hold may have been published by them."""
    world = sending()
    end(world, Outcome.UNKNOWN, truth=False)
    world.logs[0].published = [("ok", 0)]
    world.logs[0].committed = 1
    before = len(world.log)
    world.settle()
    assert [type(command) for command in world.log[before:]] == [m.Drop, m.Pause, m.Locate]
    world.settle_down()


def test_what_was_read_again_up_to_the_committed_offset_is_not_taken_for_published() -> None:
    """A reducer whose own progress lies behind goes back; the offset is the same whether or not the broker took it."""
    world = World(dataclasses.replace(POLICY, positions=True), partitions=1)
    machine = world.machine
    world.append(0, 3)
    machine.handle(m.Assigned([0]), 0.0)
    machine.handle(m.Located(0, 1, 3, ""), 0.0)
    machine.handle(m.Positioned(0, 1, 0), 0.0)
    machine.partitions[0].trusted = True
    machine.handle(m.Records([m.Chunk(0, world.logs[0].records, [0, 1, 2], 120)]), 0.0)
    items = [Item(at, at, 1, [OutRecord("out", 0, None, b"x", [], 1)], 1) for at in range(3)]
    assert isinstance(machine.handle(m.Worked(0, 1, items, 3, 120), 1.0)[-1], m.Transact)
    machine.handle(m.TransactionEnded(Outcome.UNKNOWN), 1.0)
    assert m.Locate(0, 2) in machine.handle(m.Settled({0: 3}), 1.0), "the reducer is asked again"


@pytest.mark.parametrize("committed", [None, 3])
def test_a_partition_whose_offset_is_not_told_starts_over(committed: int | None) -> None:
    """A transaction that hangs holds it; the others go on by what is told of them."""
    world = sending(partitions=2, records=2)
    world.machine.partitions[0].committed = committed
    world.end_transaction(Outcome.UNKNOWN)
    commands = world.machine.handle(m.Settled({1: world.machine.flusher.taken[1].next_offset}), world.now)
    assert [command.partition for command in commands if isinstance(command, m.Locate)] == [0]
    assert world.machine.partitions[1].finished_messages == 0, "it was published"


def test_fenced_again_right_after_a_new_producer_ends_the_member() -> None:
    world = sending()
    end(world, Outcome.FENCED, truth=False)
    world.settle()
    world.advance(10.0)
    end(world, Outcome.FENCED, truth=False)
    (fail,) = world.fails
    assert fail.exit_code == ExitCode.FENCED
    assert "CONSUMER_INSTANCE_ID" in fail.message


@pytest.mark.parametrize("between", [Outcome.COMMITTED, Outcome.UNKNOWN])
def test_fenced_once_is_no_second_instance(between: m.Outcome) -> None:
    """A transaction that timed out looks the same (KIP-588); a new producer that was needed for another reason, too."""
    world = sending()
    if between is Outcome.COMMITTED:
        end(world, Outcome.FENCED, truth=False)
        world.settle()
        world.advance(10.0)
    end(world, between, truth=False)
    world.settle()
    world.append(0, 1)
    while world.transaction is None:
        world.commands()
        world.work_all()
        world.reports()
        world.poll()
        world.advance(1.0)
    end(world, Outcome.FENCED, truth=False)
    assert world.fails == []
    world.settle_down()


def test_a_result_of_no_transaction_has_no_effect() -> None:
    world = World(partitions=1)
    world.assign(0)
    for outcome in m.Outcome:
        assert world.machine.handle(m.TransactionEnded(outcome), world.now) == []
    assert world.machine.handle(m.Settled({0: 7}), world.now) == []


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("again", [True, False])
def test_a_partition_that_was_lost_meanwhile_is_none_of_the_outcome_s_business(outcome: m.Outcome, again: bool) -> None:
    world = sending(partitions=2, records=2)
    assert world.transaction is not None
    assert set(world.transaction.offsets) == {0, 1}
    world.lose([0])
    if again:
        world.assign(0)
    world.poison = {(0, 0)} if outcome is Outcome.REFUSED else set()
    end(world, outcome, truth=False)
    assert 0 not in world.machine.flusher.narrow
    world.settle_down()


# -------------------------------------------------------------------------------------------------- refused records


def refusals(world: World) -> list[dict[int, int]]:
    """Go on until everything is committed; returns the next offsets of every transaction that was tried."""
    tried = []
    for _ in range(200):
        if world.transaction is not None:
            tried.append({number: offset for number, (offset, _) in world.transaction.offsets.items()})
        if world.all_committed():
            return tried
        world.turn()
    raise AssertionError(f"no end to it: {tried}")


def test_a_refused_record_is_found_and_becomes_a_dead_letter() -> None:
    world = World(
        dataclasses.replace(POLICY, flush=dataclasses.replace(POLICY.flush, max_messages=100, max_bytes=9999))
    )
    world.poison = {(1, 5)}
    for number in range(3):
        world.append(number, 8)
    world.assign(0, 1, 2)
    for _ in range(4):
        world.place()
        world.poll(8, more=True)
        world.commands()
        world.work_all()
        world.reports()
    world.advance(1.0)
    assert world.transaction is not None
    assert {number: at for number, (at, _) in world.transaction.offsets.items()} == {0: 8, 1: 8, 2: 8}
    tried = refusals(world)
    assert tried[1] == {0: 8}, "one partition by itself"
    assert tried[2] == {1: 8}
    assert tried[3] == {1: 4}, "half of it"
    assert ("dead", 5) in world.logs[1].published
    assert [at for kind, at in world.logs[1].published if kind == "ok"] == [0, 1, 2, 3, 4, 6, 7]
    assert not any(kind == "dead" for number in (0, 2) for kind, _ in world.logs[number].published)
    world.settle_down()
    assert world.machine.partitions[1].condemned == {}


def test_the_search_for_a_refused_record_ends_although_more_comes_in() -> None:
    """The partition under suspicion must not keep the others waiting for ever."""
    world = World(partitions=2)
    world.poison = {(0, 1)}
    world.append(0, 2)
    world.append(1, 2)
    world.assign(0, 1)
    for _ in range(60):
        world.append(0, 2)
        world.append(1, 1)
        world.turn()
    assert (world.logs[1].committed or 0) > 20


def test_a_refused_dead_letter_stops_the_member() -> None:
    world = sending(records=1)
    world.settle_down()
    world.append(0, 1)
    world.failures[0, 1] = [m.FailureKind.PERMANENT]
    while world.transaction is None:
        world.poll()
        world.commands()
        world.work_all()
        world.reports()
        world.advance(0.1)
    world.transaction = None
    world.handle(m.TransactionEnded(Outcome.REFUSED, "MSG_SIZE_TOO_LARGE", 0.0))
    (fail,) = world.fails
    assert fail.exit_code == ExitCode.POLICY
    assert fail.message.startswith("the broker refuses the dead letter of in/0 offsets 1-1: MSG_SIZE_TOO_LARGE")


def test_a_refused_result_of_a_reducer_stops_the_member() -> None:
    world = World(dataclasses.replace(POLICY, reduces=True), partitions=1)
    world.append(0, 1)
    world.assign(0)
    while world.transaction is None:
        world.commands()
        world.work_all()
        world.reports()
        world.place()
        world.poll()
        world.advance(0.1)
    world.transaction = None
    world.handle(m.TransactionEnded(Outcome.REFUSED, "no", 0.0))
    (fail,) = world.fails
    assert fail.exit_code == ExitCode.POLICY
    assert fail.message.startswith("the broker refuses the result of in/0 offsets 0-")


def test_a_condemned_partition_that_is_being_given_back_is_left_to_the_next_owner() -> None:
    world = sending(records=1)
    world.poison = {(0, 0)}
    world.handle(m.Revoking([0]))
    end(world, Outcome.REFUSED)
    assert world.machine.partitions[0].state is State.DRAINED
    world.settle()
    world.handle(m.Tick())
    assert world.machine.drained([0])
    world.lose([0])
    world.settle_down()
    assert world.logs[0].published == [("dead", 0)]


def test_records_fetched_before_the_partition_was_started_over_are_not_taken_for_the_next_ones() -> None:
    """In one call of poll: records of partition 0, then the revoke of 1, in which the transaction is refused."""
    world = sending(partitions=2, records=1)
    world.poison = {(0, 0)}
    world.end_transaction(Outcome.REFUSED)
    world.settle()
    assert world.transaction is not None
    assert list(world.transaction.offsets) == [0]
    world.append(0, 2)
    stale = world.fetched(2, [0])
    assert stale
    world.handle(m.Revoking([1]))
    world.end_transaction(Outcome.REFUSED)
    world.lose([1])
    assert not any(isinstance(command, m.Submit) for command in world.handle(m.Records(stale)))
    world.settle_down()


# ------------------------------------------------------------------------------------------------- order and metadata


def test_what_finishes_out_of_order_is_never_committed() -> None:
    world = sending()
    partition = world.machine.partitions[0]
    item = partition.finished[0]
    world.append(0, 3)
    world.place()
    world.end_transaction(Outcome.COMMITTED)
    world.poll(3)
    for first, last, records in ((4, 4, 1), (3, 4, 1), (3, 3, 2), (3, 9, 3)):
        wrong = replace(item, first=first, last=last, records=records)
        with pytest.raises(OrderError, match="partition 0"):
            partition.finish([wrong], world.now)
        partition.delivered.clear()
        partition.delivered.extend([3, 4, 5])
        partition.finished.clear()


def test_metadata_travels_with_the_offset() -> None:
    world = sending()
    world.end_transaction(Outcome.COMMITTED)
    assert json.loads(world.logs[0].metadata) == {"v": 1, "seq": 2}
    assert world.machine.partitions[0].history == History(2)
    world.restart()
    world.assign(0)
    world.place()
    assert world.machine.partitions[0].history.sequence_number == 2


def test_metadata_covers_only_what_is_committed_with_it() -> None:
    world = sending(records=8)
    transaction = world.transaction
    assert transaction is not None
    offset, metadata = transaction.offsets[0]
    assert History.decode(metadata) == History(offset - 1)
    assert offset < 8


# -------------------------------------------------------------------------------------------------- not in time


def test_what_is_not_delivered_in_time_is_sent_in_halves_and_then_in_ever_larger_parts() -> None:
    """A slow link, over which two records get through in time."""
    world = sending(records=40)
    sizes: list[int] = []
    while not world.all_committed():
        if world.transaction is not None and world.transaction.items:
            sizes.append(len(world.transaction.items))
            world.turn(Outcome.COMMITTED if sizes[-1] <= 2 else Outcome.LATE)
        else:
            world.turn()
        assert world.fails == []
    assert sizes[:4] == [5, 2, 2, 2]
    assert sizes.count(5) == 1
    assert sum(size > 2 for size in sizes) <= len(sizes) // 3, "mostly in vain"


def test_after_a_slow_spell_transactions_grow_to_their_limit_again() -> None:
    world = sending(records=100)
    world.end_transaction(Outcome.LATE)
    sizes: list[int] = []
    while not world.all_committed():
        if world.transaction is not None:
            sizes.append(len(world.transaction.items))
        world.turn()
    assert sizes[0] == 2
    assert 5 in sizes


def late_and_alone(world: World, looks: int, times: int) -> None:
    """The brokers answer so often, then so many transactions are late."""
    for _ in range(looks):
        world.handle(m.Reach(()))
    for _ in range(times):
        while world.transaction is None:
            world.now = world.machine.wake_at(world.now)
            world.handle(m.Tick())
        world.end_transaction(Outcome.LATE)


def test_one_result_that_never_gets_through_in_time_stops_the_member_and_is_named() -> None:
    world = sending(records=1)
    late_and_alone(world, 9, LATE_TIMES - 1)  # what the brokers answered before does not count
    late_and_alone(world, LATE_LOOKS, 0)
    assert world.fails == []
    late_and_alone(world, 0, 1)
    (fail,) = world.fails
    assert fail.exit_code == ExitCode.POLICY
    assert fail.message.startswith("the result of in/0 offsets 0-0 (10 bytes in 1 records) never gets through")
    assert fail.message.endswith("the broker says no; then start again; nothing was skipped")


def test_brokers_that_do_not_answer_are_waited_for_without_limit() -> None:
    world = sending(records=1)
    late_and_alone(world, 0, 100)
    late_and_alone(world, LATE_LOOKS - 1, 100)
    assert world.fails == []
    world.settle_down()


def test_another_result_and_one_that_got_through_begin_the_count_anew() -> None:
    world = sending(records=2)
    late_and_alone(world, 0, LATE_TIMES)
    late_and_alone(world, LATE_LOOKS, 0)
    while world.transaction is None:
        world.advance(1.0)
    assert len(world.transaction.items) == 1
    end(world, Outcome.COMMITTED)
    late_and_alone(world, 0, LATE_TIMES)
    assert world.fails == []


def test_half_of_what_was_late_is_sent_at_once() -> None:
    world = sending(records=40)
    while world.transaction is None or len(world.transaction.items) < 5:
        world.turn()
    for items in (2, 1):
        world.end_transaction(Outcome.LATE)
        world.handle(m.Tick())
        assert world.transaction is not None
        assert len(world.transaction.items) == items
    world.end_transaction(Outcome.LATE)
    world.handle(m.Tick())
    assert world.transaction is None, "there is nothing to divide: later"
