"""The shipped workers and reducer, down to the schemas of what they publish."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import pytest
from fastavro.validation import validate

from consumer.checkpoint import Checkpoint, Position, decoder_for
from consumer.generate import DIALECTS, Dialect, generate, stream
from consumer.reducer import Batch
from consumer.reducers import EpochReducer, EpochTotals
from consumer.worker import Worker
from consumer.workers import CheckpointSummary, SummaryWorker, TransactionRecord, TransactionWorker

AT = Position("checkpoints", 0, 0)
SCHEMAS = Path(__file__).parents[2] / "schemas"


def schema(path: Any) -> Any:
    return fastavro.parse_schema(json.loads((SCHEMAS / path).read_bytes()))


def work(worker: Worker[Any], data: bytes) -> Any:
    return worker.process_checkpoint(decoder_for(worker.checkpoint_type)(data, AT))


def summaries(numbers: range, epoch_length: int = 10) -> list[CheckpointSummary]:
    worker = SummaryWorker()
    made = (generate(number, size_bytes=0, epoch_length=epoch_length) for number in numbers)
    return [work(worker, data) for data in made]


def batch_of(messages: list[CheckpointSummary], partition: int = 0) -> Batch[CheckpointSummary]:
    batch: Batch[CheckpointSummary] = Batch("checkpoints", partition)
    for offset, message in enumerate(messages):
        batch._add(offset, message.sequence_number, [message])
    return batch


@pytest.mark.parametrize("dialect", DIALECTS)
def test_summary(dialect: Dialect) -> None:
    data = generate(12, dialect=dialect, transactions=5)
    checkpoint = Checkpoint.decode(data, AT)
    gas = checkpoint.summary.gas
    assert work(SummaryWorker(), data) == CheckpointSummary(
        sequence_number=12,
        epoch=0,
        timestamp_ms=checkpoint.summary.timestamp_ms,
        content_digest=checkpoint.summary.content_digest,
        previous_digest=checkpoint.summary.previous_digest,
        network_total_transactions=65,
        transaction_count=5,
        computation_cost=gas.computation_cost,
        storage_cost=gas.storage_cost,
        storage_rebate=gas.storage_rebate,
        non_refundable_storage_fee=gas.non_refundable_storage_fee,
    )


@pytest.mark.parametrize("dialect", DIALECTS)
def test_transactions(dialect: Dialect) -> None:
    data = generate(3, dialect=dialect)
    checkpoint = Checkpoint.decode(data, AT)
    records = work(TransactionWorker(), data)
    assert [record.index for record in records] == [0, 1, 2, 3]
    assert [record.event_count for record in records] == [0, 1, 1, 0]
    assert [record.status for record in records] == ["success", "success", "success", "failure"]
    for record, transaction in zip(records, checkpoint.transactions, strict=True):
        assert (record.sequence_number, record.epoch) == (3, 0)
        assert (record.digest, record.kind, record.sender) == (transaction.digest, transaction.kind, transaction.sender)
        gas = [getattr(record, name) for name in transaction.gas_used.__struct_fields__]
        assert gas == list(msgspec.structs.astuple(transaction.gas_used))


def test_the_fields_of_the_contract_in_their_order() -> None:
    fields = [(field["name"], field["type"]) for field in schema(SummaryWorker.schema)["fields"]]
    longs = ["network_total_transactions", "computation_cost", "storage_cost", "storage_rebate"]
    longs += ["non_refundable_storage_fee"]
    assert fields == [
        *[(name, "long") for name in ("sequence_number", "epoch", "timestamp_ms")],
        ("content_digest", "string"),
        ("previous_digest", ["null", "string"]),
        ("network_total_transactions", "long"),
        ("transaction_count", "int"),
        *[(name, "long") for name in longs[1:]],
    ]


@pytest.mark.parametrize(
    ("message", "path"),
    [
        (CheckpointSummary, SummaryWorker.schema),
        (TransactionRecord, TransactionWorker.schema),
        (EpochTotals, EpochReducer.schema),
    ],
)
def test_messages_fit_their_schemas(message: Any, path: str) -> None:
    parsed = schema(path)
    assert tuple(field["name"] for field in parsed["fields"]) == message.__struct_fields__
    assert all(field["doc"] for field in parsed["fields"])
    reducer = EpochReducer()
    worker = TransactionWorker() if message is TransactionRecord else SummaryWorker()
    for data in stream(10, size_bytes=0, epoch_length=10):
        made = work(worker, data)
        if message is EpochTotals:
            made = reducer.commit(batch_of([made]))
        for record in made if isinstance(made, list) else [made]:
            assert type(record) is message
            row = msgspec.structs.asdict(record)
            validate(row, parsed)
            written = io.BytesIO()
            fastavro.schemaless_writer(written, parsed, row)
            written.seek(0)
            assert fastavro.schemaless_reader(written, parsed, None) == row


def test_totals_of_an_epoch() -> None:
    messages = summaries(range(11, 20, 2))
    assert EpochReducer().commit(batch_of(messages, partition=1)) == [
        EpochTotals(
            epoch=1,
            partition=1,
            first_sequence_number=11,
            last_sequence_number=19,
            first_timestamp_ms=messages[0].timestamp_ms,
            last_timestamp_ms=messages[-1].timestamp_ms,
            checkpoints=5,
            transactions=20,
            network_total_transactions=80,
            computation_cost=messages[-1].computation_cost,
            storage_cost=messages[-1].storage_cost,
            storage_rebate=messages[-1].storage_rebate,
            non_refundable_storage_fee=messages[-1].non_refundable_storage_fee,
        )
    ]


def test_a_batch_ends_with_the_epoch_or_full_and_never_for_want_of_input() -> None:
    reducer = EpochReducer(max_checkpoints=4)
    eight, nine, ten = summaries(range(8, 11))
    assert not reducer.should_close_batch(batch_of([eight]), nine)
    assert reducer.should_close_batch(batch_of([eight, nine]), ten)
    assert not reducer.should_close_batch(batch_of([eight, nine]), None)
    full = batch_of(summaries(range(4)))
    assert reducer.should_close_batch(full, eight)
    assert reducer.should_close_batch(full, None)


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "10", None])
def test_max_checkpoints_is_checked(wrong: Any) -> None:
    with pytest.raises(ValueError, match="max_checkpoints of EpochReducer"):
        EpochReducer(max_checkpoints=wrong)


def test_real_files(real_checkpoints: list[Path]) -> None:
    for path in real_checkpoints:
        document = json.loads(path.read_bytes())
        wanted = document["checkpoint_summary"]["data"]
        summary = work(SummaryWorker(), path.read_bytes())
        validate(msgspec.structs.asdict(summary), schema(SummaryWorker.schema))
        assert summary.sequence_number == wanted["sequence_number"]
        assert summary.transaction_count == len(document["transactions"])
        records = work(TransactionWorker(), path.read_bytes())
        assert [record.index for record in records] == list(range(len(document["transactions"])))
        for record in records:
            validate(msgspec.structs.asdict(record), schema(TransactionWorker.schema))
