"""What the growth curves run: a worker that waits, one that refuses, and a process with several pools."""

from __future__ import annotations

import asyncio
import os
import sys

from consumer import CheckpointHeader, Executor, PermanentError, WorkerPool
from consumer.workers import CheckpointSummary, SummaryWorker


class WaitingWorker(SummaryWorker):
    """A summary after `wait_seconds`, as a lookup elsewhere would take."""

    def __init__(self, wait_seconds: float = 0.02) -> None:
        self._wait_seconds = wait_seconds

    async def process_checkpoint(self, checkpoint: CheckpointHeader) -> CheckpointSummary:  # type: ignore[override]
        """The checkpoint's summary."""
        await asyncio.sleep(self._wait_seconds)
        return super().process_checkpoint(checkpoint)


class RefusingWorker(SummaryWorker):
    """The last `per_thousand` of every thousand checkpoints become dead letters."""

    def __init__(self, per_thousand: int = 0) -> None:
        self._per_thousand = per_thousand

    def process_checkpoint(self, checkpoint: CheckpointHeader) -> CheckpointSummary:
        """The checkpoint's summary. Raises PermanentError: it is one of the refused."""
        if refused(checkpoint.summary.sequence_number, self._per_thousand):
            raise PermanentError("refused")
        return super().process_checkpoint(checkpoint)


def refused(number: int, per_thousand: int) -> bool:
    """Whether RefusingWorker refuses this checkpoint; those that it refuses lie apart."""
    return number * 7919 % 1000 < per_thousand


def main() -> None:
    """As many pools as the argument says, of one member, over the same input and to the same output."""
    executor = Executor()
    for number in range(int(sys.argv[1])):
        name = f"{os.environ['CONSUMER_GROUP_ID'].removesuffix('-0')}-{number}"
        executor.register(WorkerPool(os.environ["CONSUMER_WORKER"], name))
    executor.run()


if __name__ == "__main__":
    main()
