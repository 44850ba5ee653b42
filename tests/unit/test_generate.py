"""Synthetic checkpoints: the shape of real ones, a consistent chain, the same bytes every time."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from consumer.checkpoint import Checkpoint, CheckpointHeader, Position
from consumer.generate import DIALECTS, Dialect, generate, stream

AT = Position("checkpoints", 0, 0)
by_dialect = pytest.mark.parametrize("dialect", DIALECTS)


def decoded(count: int, **options: Any) -> list[Checkpoint]:
    return [Checkpoint.decode(data, AT) for data in stream(count, **options)]


@by_dialect
def test_a_consistent_chain(dialect: Dialect) -> None:
    chain = decoded(30, dialect=dialect, epoch_length=10, transactions=3)
    assert [c.summary.sequence_number for c in chain] == list(range(30))
    assert [c.summary.epoch for c in chain] == [number // 10 for number in range(30)]
    assert [c.summary.sequence_number for c in chain if c.summary.end_of_epoch] == [9, 19, 29]
    assert [c.summary.network_total_transactions for c in chain] == [3 * (number + 1) for number in range(30)]
    assert chain[0].summary.previous_digest is None
    digests = [c.summary.previous_digest for c in chain[1:]]
    assert len(set(digests)) == 29
    assert None not in digests
    assert all(a.summary.timestamp_ms < b.summary.timestamp_ms for a, b in pairwise(chain))


@by_dialect
def test_gas_is_the_running_total_of_the_epoch(dialect: Dialect) -> None:
    total = 0
    for checkpoint in decoded(20, dialect=dialect, epoch_length=7):
        total += sum(transaction.gas_used.storage_cost for transaction in checkpoint.transactions)
        assert checkpoint.summary.gas.storage_cost == total > 0
        assert (checkpoint.summary.gas.computation_cost_burned is None) == (dialect == "sui-2026")
        total = 0 if checkpoint.summary.end_of_epoch else total


@by_dialect
def test_kinds_events_and_a_failure(dialect: Dialect) -> None:
    chain = decoded(8, dialect=dialect, epoch_length=8, transactions=4)
    for checkpoint in chain:
        last = "EndOfEpochTransaction" if checkpoint.summary.end_of_epoch else "ProgrammableTransaction"
        kinds = [transaction.kind for transaction in checkpoint.transactions]
        assert kinds == ["ConsensusCommitPrologueV1", "ProgrammableTransaction", "ProgrammableTransaction", last]
        for transaction in checkpoint.transactions:
            emits = transaction.kind == "ProgrammableTransaction" and transaction.status == "success"
            assert len(transaction.events) == emits
    assert [c.summary.sequence_number for c in chain for t in c.transactions if t.status == "failure"] == [3]
    digests = [transaction.digest for checkpoint in chain for transaction in checkpoint.transactions]
    assert len(set(digests)) == len(digests) == 32


@by_dialect
@pytest.mark.parametrize(("size", "transactions"), [(20_000, 4), (40_000, 4), (300_000, 20)])
def test_size(dialect: Dialect, size: int, transactions: int) -> None:
    for data in stream(9, dialect=dialect, size_bytes=size, transactions=transactions, epoch_length=9):
        assert abs(len(data) - size) < size * 0.02


def test_the_same_arguments_give_the_same_bytes() -> None:
    assert list(stream(3, start=5)) == [generate(number) for number in (5, 6, 7)]
    assert generate(5) != generate(5, seed=1)
    # Over releases too: benchmarks and stored results refer to it.
    digest = hashlib.sha256(b"".join(stream(20, epoch_length=10, seed=7))).hexdigest()
    assert digest[:16] == "5757bf81053b81cb"


def test_compact_json_in_the_order_of_real_ones(real_checkpoints: list[Path]) -> None:
    data = generate(9, epoch_length=10)
    made, real = json.loads(data), json.loads(real_checkpoints[0].read_bytes())
    assert json.dumps(made, separators=(",", ":")).encode() == data
    assert list(made) == list(real)
    assert list(made["checkpoint_summary"]["data"]) == list(real["checkpoint_summary"]["data"])
    assert list(made["transactions"][0]) == list(real["transactions"][0])


def test_one_transaction_alone() -> None:
    first, last = decoded(2, transactions=1, epoch_length=2)
    assert [t.kind for t in first.transactions] == ["ConsensusCommitPrologueV1"]
    assert [t.kind for t in last.transactions] == ["EndOfEpochTransaction"]
    assert last.summary.gas.computation_cost == 0
    assert CheckpointHeader.decode(generate(1, transactions=1), AT).transaction_count == 1


@pytest.mark.parametrize(
    "wrong", [{"transactions": 0}, {"size_bytes": -1}, {"dialect": "xml"}, {"epoch_length": 0}], ids=str
)
def test_arguments_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        generate(0, **wrong)
    with pytest.raises(ValueError, match="sequence_number"):
        generate(-1)
