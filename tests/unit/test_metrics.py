"""Metrics: the contract's names, sums that never go down, and text that Prometheus' own parser reads."""

from __future__ import annotations

import os
import threading
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from consumer.metrics import TABLE, Aggregate, Counter, Gauge, Histogram, Metrics, ProcessMetrics

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
    assert {name: TABLE[name].labels for name in CONTRACT} == CONTRACT  # type: ignore[index]
    assert "build_info" in TABLE
    assert set(TABLE) == {name for kind in (Counter, Gauge, Histogram) for name in get_args(kind)}
    assert all(name.endswith("_total") for name in get_args(Counter))
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


@pytest.mark.parametrize("told", [True, False])
def test_counters_survive_a_member_and_its_restart_but_gauges_do_not(told: bool) -> None:
    aggregate, first = Aggregate(), Metrics()
    first.inc("records_processed_total", 5, outcome="ok")
    first.observe("transaction_seconds", 0.3)
    first.set("assigned_partitions", 4)
    aggregate.update("g", "0", first.snapshot())
    if told:
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
    for observed in (1, 2, 2.5, 10**9):
        metrics.observe("batch_records", observed)
    metrics.observe("batch_records", 3, times=4)
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
    for partition in (0, 1):
        metrics.set("lag_records", 5, topic="in", partition=partition)
    metrics.clear_labels("lag_records", topic="in", partition=0)
    aggregate.update("g", "0", metrics.snapshot())

    assert value(aggregate, "lag_records", topic="in", partition="0") is None
    assert value(aggregate, "lag_records", topic="in", partition="1") == 5

    metrics.clear_labels("lag_records", topic="in")
    aggregate.update("g", "0", metrics.snapshot())
    assert value(aggregate, "lag_records", topic="in", partition="1") is None


@pytest.mark.parametrize(
    ("labels", "error"),
    [
        ({}, ValueError),
        ({"outcome": "ok", "topic": "in"}, ValueError),
        ({"outcom": "ok"}, ValueError),
    ],
)
def test_wrong_labels_are_an_error_at_the_call(labels: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match="records_processed_total takes the labels"):
        Metrics().inc("records_processed_total", **labels)


def test_wrong_names_and_amounts_are_an_error_at_the_call() -> None:
    with pytest.raises(KeyError, match="nonsense"):
        Metrics().inc("nonsense")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cannot go down"):
        Metrics().inc("retries_total", -1)


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


def test_two_threads_lose_no_count() -> None:
    aggregate, metrics = Aggregate(), Metrics()

    def count() -> None:
        for _ in range(20_000):
            metrics.inc("retries_total")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    aggregate.update("g", "0", metrics.snapshot())

    assert value(aggregate, "retries_total") == 80_000


def test_memory_and_time_of_the_process() -> None:
    aggregate, metrics = Aggregate(), Metrics()
    process = ProcessMetrics(metrics, member=2)
    process.update()
    before = os.times().user
    while os.times().user - before < 0.02:
        pass
    process.update()
    aggregate.update("g", "2", metrics.snapshot())

    resident = value(aggregate, "process_resident_memory_bytes", member="2")
    used = value(aggregate, "process_cpu_seconds_total", member="2")
    assert resident is not None
    assert 5e6 < resident < 1e9
    assert used is not None
    assert used == pytest.approx(sum(os.times()[:2]), abs=0.1)
