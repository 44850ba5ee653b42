"""The checker goes red for everything that exactly-once excludes, and for nothing else."""

from collections.abc import Callable, Sequence

import pytest

from tests.checker import Record, Report, check

IN, OUT, DLQ = "in", "out", "dlq"


def source(offset: int, partition: int = 0) -> Record:
    return Record(IN, partition, offset, str(offset).encode(), b"%d" % offset)


def made_of(at: int, first: int, last: int, part: str | None = None, value: bytes = b"", partition: int = 0) -> Record:
    headers = [("checkpoint-source", f"{IN}/{partition}/{first}-{last}".encode())]
    headers += [("checkpoint-part", part.encode())] if part else []
    return Record(OUT, partition, at, None, value, tuple(headers))


def letter(at: int, offset: int, value: bytes | None = None) -> Record:
    origin = {"topic": IN, "partition": "0", "offset": str(offset)}
    headers = tuple((f"__connect.errors.{name}", text.encode()) for name, text in origin.items())
    return Record(DLQ, 0, at, str(offset).encode(), b"%d" % offset if value is None else value, headers)


def placed(records: Sequence[Record]) -> list[Record]:
    """The same records at offsets that increase."""
    return [record._replace(offset=at) for at, record in enumerate(records)]


INPUTS = [source(offset) for offset in (0, 1, 2, 4, 5, 9)]  # 3 and 6 to 8 are holes: markers, aborted records
DIRECT = [made_of(at, offset, offset) for at, offset in enumerate((0, 1, 2, 4, 5, 9))]
BATCHES = [made_of(0, 0, 2), made_of(1, 4, 9)]
PARTS = placed([made_of(0, 0, 0, "1/2"), made_of(0, 0, 0, "2/2"), made_of(0, 1, 1), made_of(0, 2, 2)])


def checked(
    outputs: Sequence[Record],
    dead: Sequence[Record] = (),
    committed: int = 10,
    inputs: Sequence[Record] = INPUTS,
    **how,
) -> Report:
    return check(inputs, outputs, dead, {(IN, 0): committed}, **how)


def is_offset(offset: int) -> Callable[[Record], bool]:
    return lambda record: record.offset == offset


def test_one_output_for_every_delivered_offset_is_exactly_once() -> None:
    report = checked(DIRECT)
    assert report.ok, report
    assert report.accounted == 6


def test_holes_in_the_input_need_no_output() -> None:
    assert checked(BATCHES).ok


def test_a_part_of_the_input_that_is_not_committed_yet_needs_no_output() -> None:
    assert checked(DIRECT[:3], committed=3).ok
    assert checked(DIRECT[:3], committed=4).ok  # the committed offset may stand after a hole


def test_nothing_committed_and_nothing_published_is_exactly_once() -> None:
    assert check(INPUTS, [], [], {}).ok


def test_all_parts_in_order_are_one_account() -> None:
    assert checked(PARTS, committed=3).ok


def test_parts_may_go_to_partitions_of_their_own_key() -> None:
    spread = [PARTS[0], PARTS[1]._replace(partition=1), *PARTS[2:]]
    assert checked(spread, committed=3).ok


def test_a_dead_letter_and_a_filtered_record_are_accounts() -> None:
    report = checked([*DIRECT[:2], *DIRECT[4:]], [letter(0, 2)], filtered=is_offset(4))
    assert report.ok, report
    assert (report.accounted, report.dead_letters, report.filtered) == (6, 1, 1)


def test_a_batch_spans_what_gave_no_message() -> None:
    assert checked(BATCHES, [letter(0, 5)], filtered=is_offset(1)).ok


def test_the_lanes_of_two_input_partitions_are_independent() -> None:
    inputs = [source(0), source(1), source(0, 1), source(1, 1)]
    one, two = ([made_of(0, offset, offset, partition=p) for offset in (0, 1)] for p in (0, 1))
    mixed = placed([record._replace(partition=0) for record in (two[0], one[0], one[1], two[1])])
    assert check(inputs, mixed, [], {(IN, 0): 2, (IN, 1): 2}).ok


def test_it_is_red_when_an_output_is_dropped() -> None:
    for index in range(len(DIRECT)):
        assert checked(DIRECT[:index] + DIRECT[index + 1 :]).kinds == {"lost"}


def test_it_is_red_when_what_an_abort_left_is_neither_sent_again_nor_rewound() -> None:
    """The transaction of 1, 2, 4 was aborted; the next one published 5 and 9 and committed past all of them."""
    report = checked([DIRECT[0], *DIRECT[4:]])
    assert [violation.kind for violation in report.violations] == ["lost"] * 3
    assert "in/0/1" in report.violations[0].detail


def test_it_is_red_when_a_batch_is_dropped() -> None:
    assert checked(BATCHES[1:]).kinds == {"lost"}


def test_it_is_red_when_a_dead_letter_is_dropped() -> None:
    assert checked(DIRECT[1:], []).kinds == {"lost"}
    assert checked(DIRECT[1:], [letter(0, 0)]).ok


def test_it_is_red_when_an_output_is_doubled() -> None:
    for index in range(len(DIRECT)):
        doubled = placed([*DIRECT[: index + 1], *DIRECT[index:]])
        assert "duplicate" in checked(doubled).kinds


def test_it_is_red_when_an_output_is_published_again_much_later() -> None:
    assert "duplicate" in checked(placed([*DIRECT, DIRECT[0]])).kinds


def test_it_is_red_when_outputs_are_swapped() -> None:
    for index in range(len(DIRECT) - 1):
        swapped = [*DIRECT]
        swapped[index], swapped[index + 1] = swapped[index + 1], swapped[index]
        assert checked(placed(swapped)).kinds == {"order"}


def test_it_is_red_when_parts_are_swapped_or_interrupted() -> None:
    one, two, *rest = PARTS
    assert checked(placed([two, one, *rest]), committed=3).kinds == {"order"}
    assert checked(placed([one, rest[0], two, rest[1]]), committed=3).kinds == {"order"}


@pytest.mark.parametrize("missing", [0, 1])
def test_it_is_red_when_a_part_is_missing(missing: int) -> None:
    rest = [record for index, record in enumerate(PARTS) if index != missing]
    assert checked(rest, committed=3).kinds == {"missing part", "lost"}


def test_it_is_red_when_a_part_is_doubled() -> None:
    assert "duplicate" in checked(placed([PARTS[0], PARTS[1], PARTS[1], *PARTS[2:]]), committed=3).kinds


def test_it_is_red_when_batches_overlap() -> None:
    report = checked([made_of(0, 0, 2), made_of(1, 2, 9)])
    assert {"duplicate", "order"} == report.kinds


def test_it_is_red_when_a_batch_comes_again_with_another_border() -> None:
    assert "duplicate" in checked([made_of(0, 0, 4), made_of(1, 0, 2), made_of(2, 4, 9)]).kinds


def test_it_is_red_when_a_batch_and_a_single_output_have_the_same_input() -> None:
    assert "duplicate" in checked([made_of(0, 0, 5), made_of(1, 5, 5), made_of(2, 9, 9)]).kinds


@pytest.mark.parametrize("outputs", [DIRECT, BATCHES])
def test_it_is_red_when_something_is_published_past_the_committed_offset(outputs: list[Record]) -> None:
    assert checked(outputs, committed=9).kinds == {"past committed"}


def test_it_is_red_when_a_dead_letter_is_past_the_committed_offset() -> None:
    assert checked(DIRECT[:5], [letter(0, 9)], committed=9).kinds == {"past committed"}


def test_it_is_red_when_a_record_is_both_published_and_dead() -> None:
    assert checked(DIRECT, [letter(0, 4)]).kinds == {"duplicate"}


def test_it_is_red_when_a_filtered_record_is_published() -> None:
    assert checked(DIRECT, filtered=is_offset(4)).kinds == {"duplicate"}


def test_it_is_red_when_dead_letters_are_doubled_or_swapped() -> None:
    assert "duplicate" in checked(DIRECT[2:], [letter(0, 0), letter(1, 0), letter(2, 1)]).kinds
    assert checked(DIRECT[2:], [letter(0, 1), letter(1, 0)]).kinds == {"order"}


def test_it_is_red_when_a_dead_letter_was_changed() -> None:
    assert checked(DIRECT[1:], [letter(0, 0, b"other")]).kinds == {"value"}


def test_it_is_red_when_a_source_is_not_in_the_input() -> None:
    assert checked([*DIRECT, made_of(6, 10, 10)]).kinds == {"unknown source"}
    assert checked(DIRECT, [letter(0, 3)]).kinds == {"unknown source"}
    assert checked([made_of(0, 0, 3), made_of(1, 4, 9)]).kinds == {"unknown source"}


@pytest.mark.parametrize("text", ["", "in/0/5", "in/0/9-5", "in/x/5-9", "0/5-9"])
def test_it_is_red_when_an_output_does_not_say_where_it_came_from(text: str) -> None:
    nameless = made_of(1, 0, 0)._replace(headers=(("checkpoint-source", text.encode()),))
    assert checked([BATCHES[0], nameless]).kinds >= {"no source", "lost"}


@pytest.mark.parametrize("part", ["0/2", "3/2", "1", "x/2"])
def test_it_is_red_when_a_part_makes_no_sense(part: str) -> None:
    assert "no source" in checked([made_of(0, 0, 0, part)], committed=1).kinds


def joined(records: Sequence[Record]) -> list[bytes | None]:
    return [b"+".join(record.value or b"" for record in records)]


def test_values_are_computed_again_from_the_input_less_what_gave_no_message() -> None:
    outputs = [made_of(0, 0, 2, value=b"0+2"), made_of(1, 4, 9, value=b"4+9")]
    report = checked(outputs, [letter(0, 5)], filtered=is_offset(1), expected_values=joined)
    assert report.ok, report


def test_it_is_red_when_a_value_is_not_what_the_input_gives() -> None:
    outputs = [made_of(at, record.offset, record.offset, value=record.value or b"") for at, record in enumerate(INPUTS)]
    assert checked(outputs, expected_values=joined).ok
    outputs[2] = outputs[2]._replace(value=b"7")
    assert checked(outputs, expected_values=joined).kinds == {"value"}


def test_it_is_red_when_there_are_fewer_parts_than_the_input_gives() -> None:
    def two(records: Sequence[Record]) -> list[bytes | None]:
        return [b"a", b"b"]

    complete = placed([made_of(0, 0, 0, "1/2", b"a"), made_of(0, 0, 0, "2/2", b"b")])
    assert checked(complete, committed=1, expected_values=two).ok
    assert checked([made_of(0, 0, 0, value=b"a")], committed=1, expected_values=two).kinds == {"value"}


def test_a_concurrent_reader_must_have_seen_the_same_sequence() -> None:
    assert checked(DIRECT, concurrent=DIRECT).ok
    for seen in (DIRECT[1:], [*DIRECT, DIRECT[-1]], [DIRECT[1], DIRECT[0], *DIRECT[2:]], []):
        assert checked(DIRECT, concurrent=seen).kinds == {"concurrent reader"}


def test_at_least_once_allows_a_stretch_that_comes_again() -> None:
    again = placed([*DIRECT[:4], *DIRECT[2:]])
    report = checked(again, allow_duplicates=True)
    assert report.ok, report
    assert report.repeated == 2


def test_at_least_once_allows_other_borders_and_what_is_past_the_committed_offset() -> None:
    outputs = [made_of(0, 0, 5), made_of(1, 0, 2), made_of(2, 4, 9)]
    assert checked(outputs, allow_duplicates=True, committed=4).ok


def test_at_least_once_allows_parts_that_were_cut_short() -> None:
    again = placed([PARTS[0], *PARTS])
    assert checked(again, allow_duplicates=True, committed=3).ok


def test_at_least_once_is_red_when_a_record_is_lost_or_swapped() -> None:
    assert checked(DIRECT[1:], allow_duplicates=True).kinds == {"lost"}
    swapped = placed([DIRECT[0], DIRECT[2], DIRECT[1], *DIRECT[3:]])
    assert checked(swapped, allow_duplicates=True).kinds == {"order"}


def test_a_report_names_the_first_violations_and_how_many_more_there_are() -> None:
    report = checked([], inputs=[source(offset) for offset in range(30)], committed=30)
    assert "in/0/0 is committed" in str(report)
    assert "and 10 more" in str(report)
