"""Bytewax. It joins no group and commits nothing to Kafka: its at-least-once lives in a recovery store of its own."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

import bytewax.operators
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from benchmarks.peers.common import CONSUMER, PRODUCER, arguments, summarise


def main() -> None:
    """Run until a signal ends it."""
    told = arguments("at_least_once")
    flow = Dataflow("benchmark")
    source = KafkaSource([told.bootstrap], [told.input], tail=True, batch_size=1000, add_config=CONSUMER)
    read = bytewax.operators.input("read", flow, source)
    made = bytewax.operators.map("make", read, lambda record: KafkaSinkMessage(record.key, summarise(record.value)))
    bytewax.operators.output("write", made, KafkaSink([told.bootstrap], told.output, add_config=PRODUCER))
    store = Path(tempfile.mkdtemp())
    init_db_dir(store, 1)
    cli_main(
        flow, workers_per_process=1, epoch_interval=timedelta(seconds=1), recovery_config=RecoveryConfig(str(store))
    )


if __name__ == "__main__":
    main()
