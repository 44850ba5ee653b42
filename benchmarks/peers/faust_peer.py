"""Faust (the community's fork, on aiokafka). Its producer has no idempotence outside of transactions."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import traceback
from typing import Any

import faust

from benchmarks.peers.common import arguments, summarise

TOLD = arguments("at_least_once")
RAW = {"key_serializer": "raw", "value_serializer": "raw"}

app = faust.App(
    TOLD.group,
    broker=f"kafka://{TOLD.bootstrap}",
    store="memory://",
    datadir=tempfile.mkdtemp(),
    processing_guarantee="at_least_once",
    consumer_auto_offset_reset="earliest",
    broker_commit_every=1000,
    broker_commit_interval=1.0,
    broker_max_poll_records=500,
    producer_acks=-1,
    producer_linger_ms=5,
    producer_compression_type=None,
    topic_allow_declare=False,
    topic_disable_leader=True,
    web_enabled=False,
    stream_wait_empty=False,
    **RAW,
)
source = app.topic(TOLD.input, key_type=bytes, value_type=bytes, **RAW)
target = app.topic(TOLD.output, key_type=bytes, value_type=bytes, **RAW)


@app.agent(source)
async def run(stream: Any) -> None:
    """The events of a batch are acknowledged when its outputs are."""
    try:
        async for events in stream.take_events(500, within=0.1):
            sent = [await target.send(key=event.key, value=summarise(event.value)) for event in events]
            await asyncio.gather(*sent)
    except Exception:  # noqa: BLE001  # faust acknowledges what a failed agent had: the process ends before it can
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    sys.argv[1:] = ["worker"]
    faust.Worker(app, loglevel="WARNING", logging_config=None).execute_from_commandline()
