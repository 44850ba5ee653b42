"""Workers and reducers that the end-to-end tests import by name."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from consumer import CheckpointHeader, Reducer, TransientError, Worker
from consumer.errors import ConfigError
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
