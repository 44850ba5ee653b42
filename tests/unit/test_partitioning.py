"""Keys land where the Java client puts them; numbers lie in partitions as the three rules say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.partitioning import Partitioning, murmur2, partition_for_key

KNOWN = st.one_of(st.just("modulo"), st.integers(1, 7).map(lambda n: f"range:{n}")).map(Partitioning.parse)
NUMBERS = st.integers(0, 300)
PLACES = st.integers(1, 6).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n)))


@pytest.mark.parametrize(
    ("data", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_gives_the_values_of_kafkas_own_test(data: bytes, signed: int) -> None:
    """Golden vectors of `UtilsTest.testMurmur2` in Apache Kafka."""
    assert murmur2(data) == signed & 0xFFFFFFFF


def test_a_negative_hash_is_made_positive_by_clearing_the_sign_bit_not_by_abs() -> None:
    assert partition_for_key(b"21", 1000) == (-973932308 & 0x7FFFFFFF) % 1000 != 973932308 % 1000


@given(st.binary(max_size=40), st.integers(1, 100))
def test_a_key_has_one_partition_among_those_there_are(key: bytes, partitions: int) -> None:
    assert 0 <= partition_for_key(key, partitions) < partitions


def test_modulo_and_range_deal_numbers_as_the_contract_says() -> None:
    assert [Partitioning.parse("modulo").partition_of(n, 3) for n in range(5)] == [0, 1, 2, 0, 1]
    assert [Partitioning.parse("range:2").partition_of(n, 3) for n in range(7)] == [0, 0, 1, 1, 2, 2, 0]


@pytest.mark.parametrize("text", ["unknown", "modulo", "range:5"])
def test_a_partitioning_reads_back_as_it_was_written(text: str) -> None:
    assert str(Partitioning.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "mod", "range", "range:", "range:0", "range:-1", "range:x", "range:²", "modulo:3"]
)
def test_anything_else_is_refused_and_the_allowed_are_named(text: str) -> None:
    with pytest.raises(ValueError, match="modulo, range:N"):
        Partitioning.parse(text)


def test_unknown_says_so_and_answers_nothing() -> None:
    unknown = Partitioning.parse("unknown")
    assert not unknown.known
    with pytest.raises(ValueError, match="CONSUMER_SEQUENCE__PARTITIONING"):
        unknown.next_number(1, 0, 2)


@given(KNOWN, NUMBERS, PLACES)
def test_the_first_number_is_the_lowest_of_the_partition(rule: Partitioning, least: int, at: tuple[int, int]) -> None:
    partition, partitions = at
    first = rule.first_number(partition, partitions, least)
    assert first >= least
    assert rule.partition_of(first, partitions) == partition
    assert all(rule.partition_of(n, partitions) != partition for n in range(least, first))


@given(KNOWN, NUMBERS, PLACES)
def test_the_next_number_is_the_first_one_above(rule: Partitioning, number: int, at: tuple[int, int]) -> None:
    assert rule.next_number(number, *at) == rule.first_number(*at, number + 1) > number


@given(KNOWN, NUMBERS, PLACES)
def test_the_last_number_is_the_highest_not_above_the_limit(
    rule: Partitioning, limit: int, at: tuple[int, int]
) -> None:
    partition, partitions = at
    below = [n for n in range(limit + 1) if rule.partition_of(n, partitions) == partition]
    assert rule.last_number_at_or_below(limit, partition, partitions) == (below[-1] if below else None)


def test_a_limit_below_zero_leaves_nothing() -> None:
    assert Partitioning.parse("modulo").last_number_at_or_below(-1, 1, 2) is None
