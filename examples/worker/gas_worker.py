"""A worker of one's own: what every checkpoint cost."""

from msgspec import Struct

from consumer import CheckpointHeader, Worker


class GasUsed(Struct):
    """One output record."""

    sequence_number: int
    computation_cost: int


class GasWorker(Worker[GasUsed]):
    """One message per checkpoint, from its summary alone."""

    checkpoint_type = CheckpointHeader

    def process_checkpoint(self, checkpoint: CheckpointHeader) -> GasUsed:
        """What the checkpoint's transactions cost up to here in their epoch."""
        summary = checkpoint.summary
        return GasUsed(summary.sequence_number, summary.gas.computation_cost)
