"""Real checkpoints through `feed`, `run` and `tail`: every value as the files have it, read by `json` alone."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.brokers.find import Broker
from tests.brokers.topics import TopicFactory
from tests.kafka.commands import Pipeline, run_all
from tests.readback import read_topic


def gas(data: dict[str, Any]) -> dict[str, int]:
    names = {
        "computation_cost": "computationCost",
        "storage_cost": "storageCost",
        "storage_rebate": "storageRebate",
        "non_refundable_storage_fee": "nonRefundableStorageFee",
    }
    return {ours: int(data[theirs]) for ours, theirs in names.items()}


def summary_of(document: dict[str, Any]) -> dict[str, Any]:
    data = document["checkpoint_summary"]["data"]
    copied = "sequence_number epoch timestamp_ms content_digest previous_digest network_total_transactions"
    (contents,) = document["checkpoint_contents"].values()
    return {
        **{name: data[name] for name in copied.split()},
        "transaction_count": len(contents["transactions"]),
        **gas(data["epoch_rolling_gas_cost_summary"]),
    }


def transactions_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    data = document["checkpoint_summary"]["data"]
    found = []
    for index, transaction in enumerate(document["transactions"]):
        (effects,) = transaction["effects"].values()
        (content,) = transaction["transaction"]["data"][0]["intent_message"]["value"].values()
        events = transaction["events"]
        burned = effects["gas_used"].get("computationCostBurned")
        (kind,) = content["kind"]
        found.append(
            {
                "sequence_number": data["sequence_number"],
                "epoch": data["epoch"],
                "timestamp_ms": data["timestamp_ms"],
                "index": index,
                "digest": effects["transaction_digest"],
                "kind": kind,
                "sender": content["sender"],
                "status": {"Success": "success"}[effects["status"]],
                "event_count": len(events["data"]) if events else 0,
                "computation_cost_burned": None if burned is None else int(burned),
                **gas(effects["gas_used"]),
            }
        )
    return found


def totals_of(partition: int, summaries: list[dict[str, Any]]) -> dict[str, Any]:
    first, last = summaries[0], summaries[-1]
    copied = "epoch network_total_transactions computation_cost storage_cost storage_rebate non_refundable_storage_fee"
    return {
        **{name: last[name] for name in copied.split()},
        "partition": partition,
        "first_sequence_number": first["sequence_number"],
        "last_sequence_number": last["sequence_number"],
        "first_timestamp_ms": first["timestamp_ms"],
        "last_timestamp_ms": last["timestamp_ms"],
        "checkpoints": len(summaries),
        "transactions": sum(summary["transaction_count"] for summary in summaries),
    }


def shown(pipeline: Pipeline) -> list[dict[str, Any]]:
    """What `tail` prints, in the order of partitions and offsets."""
    lines = [json.loads(line) for line in pipeline.command("tail", "--no-follow").splitlines()]
    return sorted(lines, key=lambda line: (line["partition"], line["offset"]))


def test_every_real_checkpoint_through_all_that_ships(
    broker: Broker, topics: TopicFactory, real_checkpoints: list[Path]
) -> None:
    names = [topics(input=3, output=3) for _ in range(3)]
    ways: list[dict[str, Any]] = [
        {"concurrency": 2},
        {"worker": "consumer.workers:TransactionWorker", "max_in_flight": 4},
        {"reducer": "consumer.reducers:EpochReducer"},
    ]
    summaries, transactions, epochs = (
        Pipeline(broker, own._replace(input=names[0].input), **way) for own, way in zip(names, ways, strict=True)
    )
    summaries.command("feed", *map(str, real_checkpoints))

    done = run_all([summaries, transactions, epochs], "--until-caught-up")

    assert [(one.code, one.loud) for one in done] == [(0, [])] * 3
    inputs = sorted(read_topic(broker.bootstrap, [names[0].input]), key=lambda r: (r.partition, r.offset))
    documents = [json.loads(record.value or b"") for record in inputs]
    files = [json.loads(path.read_bytes()) for path in real_checkpoints]
    assert sorted(map(json.dumps, documents)) == sorted(map(json.dumps, files))

    sources = [f"{record.topic}/{record.partition}/{record.offset}-{record.offset}" for record in inputs]
    found = shown(summaries)
    assert [line["value"] for line in found] == [summary_of(document) for document in documents]
    assert [line["headers"]["checkpoint-source"] for line in found] == sources
    assert [(line["partition"], line["key"]) for line in found] == [
        (record.partition, str(document["checkpoint_summary"]["data"]["sequence_number"]))
        for record, document in zip(inputs, documents, strict=True)
    ]

    found = shown(transactions)
    expected = [(source, each) for source, doc in zip(sources, documents, strict=True) for each in transactions_of(doc)]
    assert [(line["headers"]["checkpoint-source"], line["value"]) for line in found] == expected
    counts = [len(transactions_of(document)) for document in documents]
    parts = [f"{part}/{count}" if count > 1 else None for count in counts for part in range(1, count + 1)]
    assert [line["headers"].get("checkpoint-part") for line in found] == parts

    by_epoch = groupby(
        zip(inputs, map(summary_of, documents), strict=True), key=lambda pair: (pair[0].partition, pair[1]["epoch"])
    )
    expected_totals = [
        totals_of(partition, [summary for _, summary in together]) for (partition, _), together in by_epoch
    ]
    assert [line["value"] for line in shown(epochs)] == expected_totals
