"""Workers and reducers of the tests on a real Kafka, importable by the members, and what they make of their input."""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import io
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fastavro
import fastavro.schema
import msgspec

from consumer import CheckpointHeader, Reducer, TransientError, Worker
from consumer.reducer import Batch
from tests.readback import Record

ROW: dict[str, Any] = {
    "type": "record",
    "name": "Row",
    "fields": [
        {"name": "number", "type": "long"},
        {"name": "part", "type": "int"},
        {"name": "digest", "type": "string"},
    ],
}
TOTAL: dict[str, Any] = {
    "type": "record",
    "name": "Total",
    "fields": [{"name": name, "type": "long"} for name in ("first", "last", "messages", "sum")],
}
UNDECODABLE = b'{"checkpoint_summary": damaged'
BATCH_MESSAGES = 40


class Row(msgspec.Struct, frozen=True):
    """A message of PickyWorker."""

    number: int
    part: int
    digest: str


class Total(msgspec.Struct, frozen=True):
    """A result of TotalReducer."""

    first: int
    last: int
    messages: int
    sum: int


def is_undecodable(number: int) -> bool:
    """Whether the tests feed damage in place of checkpoint `number`."""
    return number % 997 == 5


def is_filtered(number: int) -> bool:
    """Whether PickyWorker publishes nothing for checkpoint `number`."""
    return number % 11 == 3 and not is_undecodable(number)


def parts_of(number: int) -> int:
    """How many messages PickyWorker makes of checkpoint `number`."""
    return 0 if is_filtered(number) else 3 if number % 7 == 2 else 1


class PickyWorker(Worker[Row]):
    """Nothing, one or three messages per checkpoint."""

    checkpoint_type = CheckpointHeader
    schema = ROW

    def process_checkpoint(self, checkpoint: CheckpointHeader) -> list[Row] | Row | None:
        number, digest = checkpoint.summary.sequence_number, checkpoint.summary.content_digest
        rows = [Row(number, part, digest) for part in range(parts_of(number))]
        return rows[0] if len(rows) == 1 else rows or None


class TotalReducer(Reducer[Row, Total]):
    """Totals of at most BATCH_MESSAGES or so messages, or of what is there; two results where the sum is odd."""

    schema = TOTAL

    def should_close_batch(self, batch: Batch[Row], next_message: Row | None) -> bool:
        return next_message is None or len(batch) >= BATCH_MESSAGES

    def commit(self, batch: Batch[Row]) -> list[Total]:
        return totals(batch)


class BlockingWorker(PickyWorker):
    """Blocks for `seconds` on checkpoint `number`; each call adds a line to the file `mark` before it blocks."""

    def __init__(self, number: int, seconds: float, mark: str) -> None:
        self.number = number
        self.seconds = seconds
        self.mark = Path(mark)

    def process_checkpoint(self, checkpoint: CheckpointHeader) -> list[Row] | Row | None:
        if checkpoint.summary.sequence_number == self.number:
            with self.mark.open("a") as file:
                file.write("called\n")
            time.sleep(self.seconds)
        return super().process_checkpoint(checkpoint)


class HangsOnce(PickyWorker):
    """Never comes back from checkpoint `number`, once for all processes that share the file `mark`."""

    def __init__(self, number: int, mark: str) -> None:
        self.number = number
        self.mark = Path(mark)

    def hangs(self, checkpoint: CheckpointHeader) -> bool:
        """Whether this is the time."""
        if checkpoint.summary.sequence_number != self.number or self.mark.exists():
            return False
        self.mark.touch()
        return True

    def process_checkpoint(self, checkpoint: CheckpointHeader) -> list[Row] | Row | None:
        while self.hangs(checkpoint):
            time.sleep(600)
        return super().process_checkpoint(checkpoint)


class KeepsTheGil(HangsOnce):
    """Hangs in C, and lets no other thread run Python."""

    def process_checkpoint(self, checkpoint: CheckpointHeader) -> list[Row] | Row | None:
        if self.hangs(checkpoint):
            ctypes.PyDLL(None).sleep(600)
        return super().process_checkpoint(checkpoint)


class AwaitsForever(HangsOnce):
    """Hangs in a coroutine, while others go on."""

    async def process_checkpoint(self, checkpoint: CheckpointHeader) -> list[Row] | Row | None:  # type: ignore[override]
        if self.hangs(checkpoint):
            await asyncio.sleep(600)
        return super().process_checkpoint(checkpoint)


class StuckWorker(PickyWorker):
    """Never comes back from `where`: make, open or close; the file `mark` says that it is there.

    From `orphan` it returns, and leaves a process behind that ends soon, and whose parent has ended already.
    """

    def __init__(self, where: str, mark: str) -> None:
        self.where = where
        self.mark = Path(mark)
        self._pass("make")

    def open(self, context: object) -> None:
        self._pass("open")
        if self.where == "orphan":
            subprocess.run(["sh", "-c", "sleep 0.2 & echo $! >$0", str(self.mark)], check=True)

    def close(self) -> None:
        self._pass("close")

    def _pass(self, where: str) -> None:
        if where == self.where:
            self.mark.touch()
            time.sleep(600)


class StuckReducer(TotalReducer):
    """Never comes back from `commit`."""

    def __init__(self, mark: str) -> None:
        self.mark = Path(mark)

    def commit(self, batch: Batch[Row]) -> list[Total]:
        self.mark.touch()
        time.sleep(600)
        return []


class NeedsDatabase(PickyWorker):
    """Its database is away while the file `away` exists."""

    def __init__(self, away: str) -> None:
        self.away = Path(away)

    def process_checkpoint(self, checkpoint: CheckpointHeader) -> list[Row] | Row | None:
        if self.away.exists():
            raise TransientError("the database is away")
        return super().process_checkpoint(checkpoint)


class KilledByOne(PickyWorker):
    """Checkpoint `number` kills the process, as a crash in a native library or the kernel's memory killer would."""

    def __init__(self, number: int) -> None:
        self.number = number

    def process_checkpoint(self, checkpoint: CheckpointHeader) -> list[Row] | Row | None:
        if checkpoint.summary.sequence_number == self.number:
            signal.raise_signal(signal.SIGSEGV)
        return super().process_checkpoint(checkpoint)


def totals(rows: Sequence[Row]) -> list[Total]:
    """What TotalReducer makes of a batch."""
    whole = Total(rows[0].number, rows[-1].number, len(rows), sum(row.number for row in rows))
    return [whole, whole] if whole.sum % 2 else [whole]


def expected_values(inputs: Sequence[Record], reduced: bool) -> list[bytes]:
    """The values of the parts that these input records, neither filtered nor undecodable, give."""
    rows = [row for record in inputs for row in _rows(record)]
    return list(_encoded(totals(rows), TOTAL) if reduced else _encoded(rows, ROW))


def _rows(record: Record) -> list[Row]:
    document = msgspec.json.decode(record.value or b"")
    summary = document["checkpoint_summary"]["data"]
    number = int(summary["sequence_number"])
    return [Row(number, part, summary["content_digest"]) for part in range(parts_of(number))]


def _encoded(values: Sequence[Row | Total], schema: dict[str, Any]) -> Iterator[bytes]:
    """As the contract says: byte 0, the id made of the canonical form, Avro binary. Nothing of the product in it."""
    canonical = fastavro.schema.to_parsing_canonical_form(schema)
    digest = hashlib.sha256(canonical.encode()).digest()
    schema_id = int.from_bytes(digest[:4], "big") & 0x7FFFFFFF
    for value in values:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema, msgspec.to_builtins(value))
        yield b"\0" + schema_id.to_bytes(4, "big") + out.getvalue()
