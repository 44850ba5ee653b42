"""Metrics: the contract's names, sums that never go down, and text that Prometheus' own parser reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from consumer.metrics import TABLE, Aggregate, Metrics

CONTRACT = {
    "records_consumed_total": (),
    "records_processed_total": ("outcome",),
    "messages_published_total": (),
    "dead_letters_total": ("error",),
    "retries_total": (),
    "transactions_total": ("outcome",),
    "transaction_seconds": (),
    "batch_records": (),
    "processing_seconds": (),
    "record_age_seconds": (),
    "lag_records": ("topic", "partition"),
    "next_sequence_number": ("topic", "partition"),
    "sequence_anomalies_total": ("kind",),
    "memory_bytes": ("stage",),
    "paused_partitions": (),
    "assigned_partitions": (),
    "rebalances_total": ("kind",),
    "time_seconds_total": ("thread", "activity"),
    "members": (),
}
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(aggregate: Aggregate) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(aggregate.render()):
        for sample in family.samples:
            labels = tuple(sorted((label, value) for label, value in sample.labels.items()))
            key = (sample.name.removeprefix("checkpoint_consumer_"), labels)
            assert key not in found
            found[key] = sample.value
    return found


def value(aggregate: Aggregate, name: str, **labels: str) -> float | None:
    return samples(aggregate).get((name, tuple(sorted({"group": "g", **labels}.items()))))


def test_the_table_has_the_metrics_of_the_contract() -> None:
    assert {name: TABLE[name].labels for name in CONTRACT} == CONTRACT
    assert "build_info" in TABLE
    for definition in TABLE.values():
        assert list(definition.buckets) == sorted(set(definition.buckets))


def test_members_of_a_group_add_up_and_groups_do_not() -> None:
    aggregate = Aggregate()
    for group, member, count in (("g", "0", 5), ("g", "1", 7), ("other", "0", 100)):
        metrics = Metrics()
        metrics.inc("records_consumed_total", count)
        metrics.set("assigned_partitions", 3)
        metrics.set("next_sequence_number", count, topic="in", partition=0)
        aggregate.update(group, member, metrics.snapshot())

    assert value(aggregate, "records_consumed_total") == 12
    assert value(aggregate, "assigned_partitions") == 6
    assert value(aggregate, "next_sequence_number", topic="in", partition="0") == 7
    assert value(aggregate, "records_consumed_total", group="other") == 100
    assert value(aggregate, "retries_total") == 0


def test_counters_survive_a_member_and_its_restart_but_gauges_do_not() -> None:
    aggregate, first = Aggregate(), Metrics()
    first.inc("records_processed_total", 5, outcome="ok")
    first.observe("transaction_seconds", 0.3)
    first.set("assigned_partitions", 4)
    aggregate.update("g", "0", first.snapshot())
    aggregate.remove("g", "0")
    aggregate.remove("g", "0")
    assert value(aggregate, "assigned_partitions") is None
    second = Metrics()
    second.inc("records_processed_total", 2, outcome="ok")
    second.observe("transaction_seconds", 0.3)
    aggregate.update("g", "0", second.snapshot())
    aggregate.update("g", "0", second.snapshot())

    assert value(aggregate, "records_processed_total", outcome="ok") == 7
    assert value(aggregate, "transaction_seconds_count") == 2
    assert value(aggregate, "assigned_partitions") is None


def test_a_histogram() -> None:
    aggregate, metrics = Aggregate(), Metrics()
    for observed in (1, 2, 2.5, 10**9, 3, 3, 3, 3):
        metrics.observe("batch_records", observed)
    aggregate.update("g", "0", metrics.snapshot())
    buckets = [
        (labels, count) for (name, labels), count in samples(aggregate).items() if name == "batch_records_bucket"
    ]

    assert value(aggregate, "batch_records_bucket", le="1") == 1
    assert value(aggregate, "batch_records_bucket", le="2") == 2
    assert value(aggregate, "batch_records_bucket", le="5") == 7
    assert value(aggregate, "batch_records_bucket", le="10000") == 7
    assert value(aggregate, "batch_records_bucket", le="+Inf") == 8
    assert value(aggregate, "batch_records_count") == 8
    assert value(aggregate, "batch_records_sum") == 10**9 + 5.5 + 12
    assert len(buckets) == len(TABLE["batch_records"].buckets) + 1


def test_series_of_a_revoked_partition_go() -> None:
    aggregate, metrics = Aggregate(), Metrics()
    metrics.set("lag_records", 5, topic="in", partition=0)
    metrics.clear("lag_records")
    metrics.set("lag_records", 5, topic="in", partition=1)
    aggregate.update("g", "0", metrics.snapshot())

    assert value(aggregate, "lag_records", topic="in", partition="0") is None
    assert value(aggregate, "lag_records", topic="in", partition="1") == 5


def test_wrong_names_and_labels_are_an_error_at_the_call() -> None:
    with pytest.raises(KeyError, match="nonsense"):
        Metrics().inc("nonsense")
    with pytest.raises(KeyError, match="outcome"):
        Metrics().inc("records_processed_total", outcom="ok")


LABELS = st.text('\\"\n{},= na', max_size=6) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r")
)


@given(error=LABELS)
def test_any_label_is_escaped(error: str) -> None:
    aggregate, metrics = Aggregate(), Metrics()
    metrics.inc("dead_letters_total", 3, error=error)
    aggregate.update("g", "0", metrics.snapshot())

    assert value(aggregate, "dead_letters_total", error=error) == 3


def test_every_metric_has_its_help_and_type() -> None:
    text = Aggregate().render()

    for name in TABLE:
        assert f"# HELP checkpoint_consumer_{name} " in text
        assert f"# TYPE checkpoint_consumer_{name} " in text
    assert text.endswith("\n")
