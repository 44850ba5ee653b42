"""Checkpoint Consumer: checkpoints in from Kafka, Avro out, exactly once, on many processes."""

from consumer.checkpoint import Checkpoint, CheckpointHeader
from consumer.errors import PermanentError, TransientError
from consumer.executor import Executor, WorkerPool, run
from consumer.limits import CaughtUp, EndOfEpoch, MaxCheckpoint
from consumer.reducer import Reducer
from consumer.worker import Output, Worker

__all__ = [
    "CaughtUp",
    "Checkpoint",
    "CheckpointHeader",
    "EndOfEpoch",
    "Executor",
    "MaxCheckpoint",
    "Output",
    "PermanentError",
    "Reducer",
    "TransientError",
    "Worker",
    "WorkerPool",
    "run",
]
