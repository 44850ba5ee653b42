"""Workers and reducers that the end-to-end tests import by name."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from consumer import CheckpointHeader, Reducer
from consumer.workers import CheckpointSummary, SummaryWorker


class Noting(SummaryWorker):
    """Writes down every checkpoint that it is given, one number a line, in a file that all members share."""

    def __init__(self, path: str, seconds: float = 0.0) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._seconds = seconds

    def process_checkpoint(self, checkpoint: CheckpointHeader) -> CheckpointSummary:
        os.write(self._file, b"%d\n" % checkpoint.summary.sequence_number)
        time.sleep(self._seconds)  # work that takes time
        return super().process_checkpoint(checkpoint)


class KeepOpen(Reducer[CheckpointSummary, CheckpointSummary]):
    """Never closes a batch by itself."""

    def should_close_batch(self, batch: Sequence[CheckpointSummary], next_message: CheckpointSummary | None) -> bool:
        return False
