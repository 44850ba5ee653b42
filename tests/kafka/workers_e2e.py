"""Workers and reducers that the end-to-end tests import by name."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

from consumer import Checkpoint, CheckpointHeader, Output, Reducer, TransientError, Worker
from consumer.errors import ConfigError
from consumer.reducer import Batch
from consumer.worker import Context
from consumer.workers import CheckpointSummary, SummaryWorker


class Noting(SummaryWorker):
    """Writes down every checkpoint that it is given, one number a line, in a file that all members share.

    `open` waits until so many `members` have come so far: none is done before the others have begun.
    """

    def __init__(self, path: str, seconds: float = 0.0, members: int = 1) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._opened = Path(f"{path}-opened")
        self._seconds = seconds
        self._members = members

    def open(self, context: Context) -> None:
        with self._opened.open("a") as file:
            file.write(".")
        while len(self._opened.read_text()) < self._members:
            time.sleep(0.01)

    def process_checkpoint(self, checkpoint: CheckpointHeader) -> CheckpointSummary:
        os.write(self._file, b"%d\n" % checkpoint.summary.sequence_number)
        time.sleep(self._seconds)  # work that takes time
        return super().process_checkpoint(checkpoint)


class DatabaseDown(SummaryWorker):
    """Never gets through, through no fault of the checkpoint."""

    def process_checkpoint(self, checkpoint: CheckpointHeader) -> CheckpointSummary:
        raise TransientError("the database is down")


class BrokenDeploy(SummaryWorker):
    """Fails at every checkpoint."""

    def process_checkpoint(self, checkpoint: CheckpointHeader) -> CheckpointSummary:
        raise ValueError("no such column")


class KeepOpen(Reducer[CheckpointSummary, CheckpointSummary]):
    """Never closes a batch by itself."""

    def should_close_batch(self, batch: Sequence[CheckpointSummary], next_message: CheckpointSummary | None) -> bool:
        return False


class KeepsItsOwn(Reducer[CheckpointSummary, CheckpointSummary]):
    """A sink with its own progress: per partition a file with the next offset, and one with all numbers."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def commit(self, batch: Batch[CheckpointSummary]) -> list[CheckpointSummary]:
        with (self._folder / f"numbers-{batch.partition}").open("a") as file:
            file.writelines(f"{message.sequence_number}\n" for message in batch)
        (self._folder / f"next-{batch.partition}").write_text(str(batch.last_offset + 1))
        return []

    def start_offset(self, topic: str, partition: int) -> int | None:
        at = self._folder / f"next-{partition}"
        return int(at.read_text()) if at.exists() else None


class WithoutSchema(Worker[Any]):
    """Nothing says what it makes."""

    def process_checkpoint(self, checkpoint: Any) -> Any:
        return {"sequence_number": checkpoint.summary.sequence_number}


class SchemaFileMissing(SummaryWorker):
    schema = "no-such-schema/v1.avsc"


class SchemaWrong(SummaryWorker):
    schema: ClassVar[Any] = {"type": "record", "name": "Wrong", "fields": [{"name": "a", "type": "no.such.Type"}]}


class ElsewhereMissing(SummaryWorker):
    outputs: ClassVar[Any] = {CheckpointSummary: ("no-such-output", "checkpoint-summary/v1.avsc")}


class MoreFields(SummaryWorker):
    """As SummaryWorker's schema, with a field that readers of the next version would miss."""

    schema: ClassVar[Any] = {
        "type": "record",
        "name": "CheckpointSummary",
        "fields": [{"name": "sequence_number", "type": "long"}, {"name": "needed", "type": "string"}],
    }


class ClosesTheDoor(SummaryWorker):
    """Its `open` finds that it is not configured."""

    def open(self, context: Context) -> None:
        raise ConfigError("MY_DATABASE is not set: set it to the database's URL")


def not_a_worker() -> dict[str, str]:
    return {}


NOTHING_TO_CALL = 5


class Leaves(SummaryWorker):
    """Its `open` ends the process with success, the first time."""

    def __init__(self, path: str) -> None:
        self._path = path

    def open(self, context: Context) -> None:
        try:
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        sys.exit(0)


FINE: dict[str, Any] = {"long": 1, "int": 1, "float": 0.1, "double": 0.1, "text": "x", "maybe": None}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "1.5 as long": (FINE | {"long": 1.5}, "field `long`: float 1.5"),
    "True as long": (FINE | {"long": True}, "field `long`: bool"),
    "2^63 as long": (FINE | {"long": 2**63}, "field `long`: int .* does not fit"),
    "2^31 as int": (FINE | {"int": 2**31}, "field `int`: int .* does not fit"),
    "1e300 as float": (FINE | {"float": 1e300}, "field `float`: float does not fit"),
    "2^53+1 as double": (FINE | {"double": 2**53 + 1}, "field `double`: int .* does not fit"),
    "Decimal as double": (FINE | {"double": Decimal("0.1")}, "field `double`: Decimal"),
    "bytes as string": (FINE | {"text": b"x"}, "field `text`: bytes"),
    "lone surrogate": (FINE | {"text": "\ud800"}, "field `text`: str with a lone surrogate"),
    "no branch of the union": (FINE | {"maybe": 0.5}, "field `maybe`: float 0.5 fits no branch"),
    "extra field": (FINE | {"more": 1}, "`more` not in the schema"),
    "missing field": ({"long": 1}, "missing"),
    "too large for its topic": (FINE | {"text": "x" * (2 << 20)}, "max.message.bytes"),
}
WRONG_FROM = 100_000


class Mischief(Worker[dict[str, Any]]):
    """Reads all of a checkpoint; from number WRONG_FROM on its messages are those of WRONG."""

    checkpoint_type = Checkpoint
    schema: ClassVar[Any] = {
        "type": "record",
        "name": "Mixed",
        "fields": [
            *({"name": name, "type": name} for name in ("long", "int", "float", "double")),
            {"name": "text", "type": "string"},
            {"name": "maybe", "type": ["null", "long"]},
        ],
    }

    def process_checkpoint(self, checkpoint: Checkpoint) -> Any:
        number = checkpoint.summary.sequence_number
        message = FINE if number < WRONG_FROM else list(WRONG.values())[number - WRONG_FROM][0]
        return Output(message, headers={"number": str(number)})
