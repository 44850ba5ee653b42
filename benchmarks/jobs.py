"""What the programs publish of a checkpoint, written the natural way; also what their output is checked against."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import fastavro
import orjson

SCHEMAS = Path(__file__).parents[1] / "schemas"


class Work(NamedTuple):
    """From a checkpoint to its output records."""

    name: str
    schema: Any
    frame: bytes
    """Byte 0 and the schema's id, 4 bytes, big-endian: what stands before the Avro binary."""
    worker: str
    """The consumer's, that does the same."""
    outputs: Callable[[bytes], list[dict[str, Any]]]

    def encode(self, value: bytes) -> list[bytes]:
        """The output records, as they are published."""
        return [self.framed(record) for record in self.outputs(value)]

    def framed(self, record: dict[str, Any]) -> bytes:
        """One output record, as it is published."""
        buffer = io.BytesIO()
        buffer.write(self.frame)
        fastavro.schemaless_writer(buffer, self.schema, record)
        return buffer.getvalue()

    def decode(self, value: bytes) -> Any:
        """The inverse of `framed`; raises ValueError where the frame is another."""
        if not value.startswith(self.frame):
            raise ValueError(f"the frame is {value[: len(self.frame)]!r} and should be {self.frame!r}")
        return fastavro.schemaless_reader(io.BytesIO(value[len(self.frame) :]), self.schema, None)


def summary(value: bytes) -> dict[str, Any]:
    """What SummaryWorker makes of a checkpoint."""
    checkpoint = orjson.loads(value)
    data = checkpoint["checkpoint_summary"]["data"]
    gas = data["epoch_rolling_gas_cost_summary"]
    return {
        "sequence_number": int(data["sequence_number"]),
        "epoch": int(data["epoch"]),
        "timestamp_ms": int(data["timestamp_ms"]),
        "content_digest": data["content_digest"],
        "previous_digest": data.get("previous_digest"),
        "network_total_transactions": int(data["network_total_transactions"]),
        "transaction_count": len(checkpoint["transactions"]),
        "computation_cost": int(gas["computationCost"]),
        "storage_cost": int(gas["storageCost"]),
        "storage_rebate": int(gas["storageRebate"]),
        "non_refundable_storage_fee": int(gas["nonRefundableStorageFee"]),
    }


def transactions(value: bytes) -> list[dict[str, Any]]:
    """What TransactionWorker makes of a checkpoint, of the IOTA 2024 dialect."""
    checkpoint = orjson.loads(value)
    data = checkpoint["checkpoint_summary"]["data"]
    records = []
    for index, transaction in enumerate(checkpoint["transactions"]):
        inner = transaction["transaction"]["data"][0]["intent_message"]["value"]["V1"]
        effects = next(iter(transaction["effects"].values()))
        gas, kind, burned = effects["gas_used"], inner["kind"], effects["gas_used"].get("computationCostBurned")
        record = {
            "sequence_number": int(data["sequence_number"]),
            "epoch": int(data["epoch"]),
            "timestamp_ms": int(data["timestamp_ms"]),
            "index": index,
            "digest": effects["transaction_digest"],
            "kind": kind if isinstance(kind, str) else next(iter(kind)),
            "sender": inner["sender"],
            "status": "success" if effects["status"] == "Success" else "failure",
            "event_count": len((transaction["events"] or {}).get("data", ())),
            "computation_cost": int(gas["computationCost"]),
            "computation_cost_burned": None if burned is None else int(burned),
            "storage_cost": int(gas["storageCost"]),
            "storage_rebate": int(gas["storageRebate"]),
            "non_refundable_storage_fee": int(gas["nonRefundableStorageFee"]),
        }
        records.append(record)
    return records


def _schema(name: str) -> Any:
    return fastavro.schema.load_schema(str(SCHEMAS / name / "v1.avsc"))


def _frame(schema_id: int) -> bytes:
    return b"\0" + schema_id.to_bytes(4, "big")


SUMMARIES = Work(
    "summaries",
    _schema("checkpoint-summary"),
    _frame(1),
    "consumer.workers:SummaryWorker",
    lambda value: [summary(value)],
)
TRANSACTIONS = Work(
    "transactions",
    _schema("checkpoint-transaction"),
    _frame(2),
    "consumer.workers:TransactionWorker",
    transactions,
)
WORKS = {work.name: work for work in (SUMMARIES, TRANSACTIONS)}
