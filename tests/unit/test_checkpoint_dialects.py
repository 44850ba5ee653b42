"""Every dialect says the same through `Checkpoint` and `CheckpointHeader`: hand-made samples and real files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from consumer.checkpoint import (
    Checkpoint,
    CheckpointHeader,
    GasCostSummary,
    Position,
    decoder_for,
)

SAMPLES = Path(__file__).parent / "samples"
AT = Position("checkpoints", 2, 41, 1_700_000_000_000, b"7", (("traceparent", b"00-1"),))


def read(name: str) -> bytes:
    return (SAMPLES / f"{name}.json").read_bytes()


def rows(checkpoint: Checkpoint) -> list[tuple[Any, ...]]:
    return [(t.digest, t.kind, t.sender, t.status, len(t.events)) for t in checkpoint.transactions]


@pytest.mark.parametrize("name", ["sui-2026", "iota-sdk-2025", "iota-sdk-2026"])
@pytest.mark.parametrize("compact", [False, True])
def test_header_agrees_with_checkpoint(name: str, compact: bool) -> None:
    data = json.dumps(json.loads(read(name)), separators=(",", ":")).encode() if compact else read(name)
    checkpoint, header = Checkpoint.decode(data, AT), CheckpointHeader.decode(data, AT)
    assert header.summary == checkpoint.summary
    assert header.transaction_count == len(checkpoint.transactions)
    assert header.position is checkpoint.position is AT
    assert checkpoint.data == json.loads(data)
    assert [t.raw for t in checkpoint.transactions] == checkpoint.data["transactions"]


def test_sui_2026() -> None:
    checkpoint = Checkpoint.decode(read("sui-2026"), AT)
    summary = checkpoint.summary
    assert (summary.epoch, summary.sequence_number, summary.timestamp_ms) == (1002, 230_000_001, 1_767_225_600_123)
    assert summary.gas == GasCostSummary(123, None, 456, 2**64 - 1, 7)
    assert summary.end_of_epoch is None
    assert rows(checkpoint) == [
        ("TxA", "ConsensusCommitPrologueV4", "0x" + "0" * 64, "success", 0),
        ("TxB", "ProgrammableTransaction", "0x" + "a" * 64, "failure", 0),
        ("TxC", "AuthenticatorStateExpire", "0x" + "0" * 64, "success", 1),
    ]
    failed = checkpoint.transactions[1]
    assert failed.raw["effects"]["V2"]["status"]["Failure"]["error"]["MoveAbort"][1] == 2**64
    assert failed.gas_used == GasCostSummary(750_000, None, 988_000, 978_120, 9_880)
    assert checkpoint.transactions[2].events[0]["contents"] == "AQID"


def test_iota_sdk_with_inner_tags_and_flattened_status() -> None:
    checkpoint = Checkpoint.decode(read("iota-sdk-2025"), AT)
    summary = checkpoint.summary
    assert (summary.sequence_number, summary.network_total_transactions) == (0, 2**64 - 1)
    assert (summary.previous_digest, summary.end_of_epoch) == (None, None)
    assert summary.gas == GasCostSummary(10, 9, 8, 7, 6)
    assert rows(checkpoint) == [
        ("TxA", "ConsensusCommitPrologueV1", "0x" + "0" * 64, "success", 0),
        ("TxB", "ProgrammableTransaction", "0x" + "b" * 64, "failure", 2),
    ]


END_OF_EPOCH = ["next_epoch_committee", "next_epoch_protocol_version", "epoch_commitments", "epoch_supply_change"]


def test_iota_sdk_with_outer_tags() -> None:
    checkpoint = Checkpoint.decode(read("iota-sdk-2026"), AT)
    summary = checkpoint.summary
    assert (summary.content_digest, summary.previous_digest) == ("CoD", "PrD")
    assert summary.end_of_epoch is not None
    assert list(summary.end_of_epoch) == END_OF_EPOCH
    assert rows(checkpoint) == [
        ("TxA", "ProgrammableTransaction", "0x" + "b" * 64, "success", 1),
        ("TxB", "AuthenticatorStateUpdateV1Deprecated", "0x" + "0" * 64, "failure", 0),
        ("TxC", "EndOfEpochTransaction", "0x" + "0" * 64, "success", 0),
    ]
    assert checkpoint.transactions[0].gas_used == GasCostSummary(50, 40, 30, 20, 10)


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


@pytest.mark.parametrize("part", ["epoch_rolling_gas_cost_summary", "end_of_epoch_data", None])
def test_both_spellings_of_every_key(part: str | None) -> None:
    document = json.loads(read("iota-sdk-2026"))
    expected = Checkpoint.decode(json.dumps(document).encode(), AT).summary
    summary = document["checkpoint_summary"]["checkpoint"]
    if part is None:
        summary = document["checkpoint_summary"]["checkpoint"] = {camel(k): v for k, v in summary.items()}
    else:
        summary[part] = {camel(k): v for k, v in summary[part].items()}
    data = json.dumps(document).encode()
    assert Checkpoint.decode(data, AT).summary == CheckpointHeader.decode(data, AT).summary == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("Success", "success"),
        ("success", "success"),
        ({"Success": None}, "success"),
        ({"Failure": {"error": "X", "command": 1}}, "failure"),
        ({"success": True}, "success"),
        ({"success": False}, "failure"),
        ({"status": "failure", "error": "X"}, "failure"),
    ],
)
def test_every_form_of_a_status(status: Any, expected: str) -> None:
    document = json.loads(read("sui-2026"))
    document["transactions"][0]["effects"]["V2"]["status"] = status
    transaction = Checkpoint.decode(json.dumps(document).encode(), AT).transactions[0]
    assert transaction.status == expected


def expected_transaction(raw: dict[str, Any], contents: dict[str, Any]) -> tuple[Any, ...]:
    (value,) = (data["intent_message"]["value"]["V1"] for data in raw["transaction"]["data"])
    (kind,) = value["kind"]
    events = 0 if raw["events"] is None else len(raw["events"]["data"])
    return contents["transaction"], kind, value["sender"], "success", events


def test_real_files(real_checkpoints: list[Path]) -> None:
    for path in real_checkpoints:
        pretty = path.read_bytes()
        document = json.loads(pretty)
        contents = document["checkpoint_contents"]["V1"]["transactions"]
        wanted = document["checkpoint_summary"]["data"]
        for data in (pretty, json.dumps(document, separators=(",", ":")).encode()):
            checkpoint, header = decoder_for(Checkpoint)(data, AT), decoder_for(CheckpointHeader)(data, AT)
            summary = checkpoint.summary
            assert header.summary == summary, path.name
            assert header.transaction_count == len(contents)
            for name in ("epoch", "sequence_number", "network_total_transactions", "timestamp_ms"):
                assert getattr(summary, name) == wanted[name]
            assert (summary.content_digest, summary.previous_digest) == (
                wanted["content_digest"],
                wanted["previous_digest"],
            )
            gas = wanted["epoch_rolling_gas_cost_summary"]
            assert summary.gas.computation_cost == int(gas["computationCost"])
            assert summary.gas.storage_rebate == int(gas["storageRebate"])
            burned = gas.get("computationCostBurned")
            assert summary.gas.computation_cost_burned == (None if burned is None else int(burned))
            assert (summary.end_of_epoch is None) == (wanted["end_of_epoch_data"] is None)
            if summary.end_of_epoch is not None:
                end = wanted["end_of_epoch_data"]
                assert list(summary.end_of_epoch.values()) == list(end.values())
            assert rows(checkpoint) == list(map(expected_transaction, document["transactions"], contents))
            assert checkpoint.data == document
