"""The sequence audit against sets and lists that keep everything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consumer.core.audit import Anomaly, Audit, SequencePolicy
from consumer.core.history import SEEN_NUMBERS, History
from consumer.partitioning import Partitioning

PARTITIONS = 3
NOTHING = History()
NUMBERS = st.lists(st.one_of(st.integers(0, 25), st.integers(0, 2 * SEEN_NUMBERS), st.integers(0, 2**64 - 1)))


def audit(partitioning: str = "unknown", history: History = NOTHING) -> Audit:
    made = SequencePolicy("report", Partitioning.parse(partitioning), PARTITIONS).audit(1, history)
    assert made is not None
    return made


def kinds(made: Audit, *numbers: int) -> list[str | None]:
    return [found and found.kind for found in map(made.see, numbers)]


@given(NUMBERS, st.sampled_from(["unknown", "modulo", "range:4"]))
def test_every_number_is_judged_as_by_someone_who_remembers_all(numbers, partitioning):
    made = audit(partitioning)
    seen: set[int] = set()
    rule = Partitioning.parse(partitioning)
    for number in numbers:
        highest = max(seen, default=None)
        expected = rule.next_number(highest, 1, PARTITIONS) if rule.known and highest is not None else None
        kind = None
        if highest is not None and number <= highest:
            kind = "repeat" if number in seen and number > highest - SEEN_NUMBERS else "regression"
        elif expected is not None and number != expected:
            kind = "gap"
        assert made.see(number) == (kind and (kind, number, highest, expected))
        seen.add(number)


@given(NUMBERS, NUMBERS)
def test_with_the_numbers_kept_a_restart_changes_nothing(before, after):
    history, uninterrupted = History().keeping_seen(True), audit("modulo")
    for number in before:
        history = history.after(number, None, dead=False)
        uninterrupted.see(number)
    restarted = audit("modulo", History.decode(history.encode()))
    assert kinds(restarted, *after) == kinds(uninterrupted, *after)


def test_what_is_in_order_is_nothing_to_speak_of():
    assert kinds(audit("modulo"), 1, 4, 7, 10) == [None] * 4
    assert kinds(audit("range:2"), 2, 3, 8, 9, 14) == [None] * 5
    assert kinds(audit(), 5, 9, 1000) == [None] * 3


def test_the_first_number_of_all_is_taken_as_it_is():
    assert kinds(audit("modulo"), 400, 403, 409) == [None, None, "gap"]


def test_a_gap_a_repeat_and_a_late_one():
    made = audit("modulo")
    assert kinds(made, 1, 4, 10) == [None, None, "gap"]
    assert made.see(7) == Anomaly("regression", 7, 10, 13), "it was missing, so it is not known as seen"
    assert made.see(7) == Anomaly("repeat", 7, 10, 13)
    assert kinds(made, 13) == [None]


def test_a_number_of_another_partition_is_a_gap():
    assert kinds(audit("modulo"), 1, 5) == [None, "gap"]


def test_a_restart_goes_on_from_the_highest_number():
    made = audit("modulo", History(7))
    assert kinds(made, 10, 7, 4) == [None, "repeat", "regression"]
    assert kinds(audit("modulo", History(7)), 13) == ["gap"]


def test_ignore_is_no_audit():
    assert SequencePolicy("ignore").audit(0, History(1)) is None
