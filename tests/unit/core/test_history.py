"""What travels in the committed offset's metadata, against lists and sets that keep everything."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from consumer.core.history import RATIO_RECORDS, SEEN_NUMBERS, DeadLetterLimits, History, Mark
from consumer.core.starts import MOST_ALONE

NUMBERS = st.one_of(st.integers(0, 30), st.integers(0, 3 * SEEN_NUMBERS), st.integers(0, 2**64 - 1))
RECORDS = st.lists(st.tuples(st.none() | NUMBERS, st.none() | st.integers(0, 2**64 - 1), st.booleans()))
ALONE = dict.fromkeys(range(2**63 - MOST_ALONE, 2**63), 2**31)
LARGEST = History(
    2**64 - 1,
    2**64 - 1,
    2**63,
    (1 << RATIO_RECORDS) - 1,
    (1 << SEEN_NUMBERS) - 1,
    Mark(2**31, ALONE, 2**48 - 1, 2**63 - 1),
    "A" * 22,
)


def numbers_in(history: History) -> set[int]:
    assert history.sequence_number is not None
    return {history.sequence_number - bit for bit in range(SEEN_NUMBERS) if history.seen >> bit & 1}


@given(RECORDS, st.booleans())
def test_it_knows_what_a_full_record_of_the_past_knows(records, keep):
    history = History().keeping_seen(keep)
    for record in records:
        history = history.after(*record)
    numbers = {number for number, _, _ in records if number is not None}
    dead = [dead for _, _, dead in records]
    highest = max(numbers, default=None)
    assert history.sequence_number == highest
    assert history.ended_epoch == max((epoch for _, epoch, _ in records if epoch is not None), default=None)
    assert history.dead_run == (dead[::-1].index(False) if False in dead else len(dead))
    assert history.dead_window.bit_count() == sum(dead)
    if keep and highest is not None:
        assert numbers_in(history) == {number for number in numbers if number > highest - SEEN_NUMBERS}
    assert History.decode(history.encode()).keeping_seen(keep) == history
    assert len(history.encode()) < 4096


def test_it_forgets_dead_letters_after_a_thousand_records_and_numbers_far_below():
    history = History().keeping_seen(True).after(1, None, dead=True)
    for _ in range(RATIO_RECORDS - 1):
        history = history.after(None, None, dead=False)
    assert (history.dead_run, history.dead_window.bit_count()) == (0, 1)
    assert history.after(None, None, dead=False).dead_window == 0
    assert numbers_in(history.after(SEEN_NUMBERS, None, dead=False)) == {1, SEEN_NUMBERS}
    assert numbers_in(history.after(SEEN_NUMBERS + 1, None, dead=False)) == {SEEN_NUMBERS + 1}
    assert numbers_in(history.after(2**64 - 1, None, dead=False)) == {2**64 - 1}


def test_the_largest_fits_into_the_metadata():
    text = LARGEST.encode()
    assert History.decode(text) == LARGEST
    assert len(text.encode()) < 3000


def test_what_is_nothing_is_left_out():
    assert History().encode() == '{"v":1}'
    assert json.loads(History(6, 0).encode()) == {"v": 1, "seq": 6, "epoch": 0}
    dead = History(6).after(7, None, dead=True).after(8, None, dead=False)
    assert json.loads(dead.encode()) == {"v": 1, "seq": 8, "dead": {"run": 0, "last": "2"}}
    assert json.loads(History(6, seen=5).encode()) == {"v": 1, "seq": 6, "seen": "BQ=="}


@pytest.mark.parametrize(
    "foreign",
    [
        *("", "x", "[]", "1", '{"v":2,"seq":1}', '{"seq":1}', '{"v":1}', "[" * 100_000, "\ud800"),
        *('{"v":1,"seq":true}', '{"v":1,"seq":"1"}', '{"v":1,"seq":-1}', '{"v":1,"seq":1,"epoch":1.5}'),
        *('{"v":1,"seq":1,"dead":{"run":1}}', '{"v":1,"seq":1,"dead":{"run":-1,"last":"1"}}'),
        *('{"v":1,"dead":{"run":1,"last":"xyz"}}', '{"v":1,"dead":{"run":1,"last":"' + "1" * 251 + '"}}'),
        *(
            '{"v":1,"later":' + "[" * 4000,
            '{"v":1,"seq":1,"seen":"%"}',
            '{"v":1,"seq":1,"seen":"' + "AAAA" * 400 + '"}',
        ),
    ],
)
def test_missing_foreign_or_damaged_metadata_tells_nothing(foreign):
    assert History.decode(foreign) == History()


def test_metadata_of_a_later_version_keeps_what_is_known():
    assert History.decode('{"v":1,"seq":3,"later":[1]}') == History(3)


def test_it_tells_whose_offset_it_is():
    history, ours = History.decode(History(3).encode()).of_topic("new")
    assert ours, "committed before ids were kept"
    kept = History.decode(history.after(4, None, dead=False).encode())
    assert kept.topic_id == "new"
    assert kept.of_topic("new") == (kept, True)
    assert kept.of_topic("other") == (kept, False)
    assert kept.of_topic("") == (replace(kept, topic_id=""), True), "brokers that do not tell"


def test_elsewhere_it_starts_afresh_but_for_the_dead_letters():
    assert LARGEST.afresh() == replace(LARGEST, sequence_number=None, seen=0)
    assert LARGEST.keeping_seen(False).seen == 0
    assert LARGEST.keeping_seen(True) == LARGEST


@pytest.mark.parametrize(
    ("consecutive", "ratio", "allowed"), [(0, 1, 0), (3, 1, 3), (5000, 0, 0), (5000, 0.01, 10), (5000, 0.029, 29)]
)
def test_the_dead_letter_that_passes_a_limit_is_refused(consecutive, ratio, allowed):
    limits, history = DeadLetterLimits(consecutive, ratio), History()
    for _ in range(allowed):
        history = history.after(None, None, dead=True)
        assert not limits.refuses(history)
    assert limits.refuses(history.after(None, None, dead=True))


def test_one_success_ends_a_run_and_a_ratio_of_one_is_no_limit():
    limits, history = DeadLetterLimits(2, 1), History()
    for _ in range(2 * RATIO_RECORDS):
        for dead in (True, True, False):
            history = history.after(None, None, dead)
            assert not limits.refuses(history)
