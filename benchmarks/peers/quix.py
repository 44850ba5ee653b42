"""Quix Streams 3. COMMIT_EVERY and COMMIT_INTERVAL (seconds) say when it commits: 1,000 records or a second."""

from __future__ import annotations

import os
import tempfile

from quixstreams import Application

from benchmarks.peers.common import CONSUMER, PRODUCER, arguments, summarise


def main() -> None:
    """Run until SIGTERM."""
    told = arguments("exactly_once", "at_least_once")
    isolation = "read_committed" if told.delivery == "exactly_once" else "read_uncommitted"
    application = Application(
        broker_address=told.bootstrap,
        consumer_group=told.group,
        auto_offset_reset="earliest",
        commit_interval=float(os.environ.get("COMMIT_INTERVAL", "1.0")),
        commit_every=int(os.environ.get("COMMIT_EVERY", "1000")),
        processing_guarantee=told.delivery.replace("_", "-"),
        consumer_extra_config={**CONSUMER, "isolation.level": isolation},
        producer_extra_config=PRODUCER,
        auto_create_topics=False,
        state_dir=tempfile.mkdtemp(),
        loglevel="WARNING",
    )
    source = application.topic(told.input, key_deserializer="bytes", value_deserializer="bytes")
    target = application.topic(told.output, key_serializer="bytes", value_serializer="bytes")
    application.dataframe(source).apply(summarise).to_topic(target)
    application.run()


if __name__ == "__main__":
    main()
