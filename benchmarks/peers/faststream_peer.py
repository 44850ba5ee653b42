"""FastStream, confluent broker: a batch is committed when its handler returns, which is when its outputs are."""

from __future__ import annotations

import asyncio
from typing import Any

from faststream import AckPolicy, FastStream
from faststream.confluent import KafkaBroker

from benchmarks.peers.common import CONSUMER, arguments, summarise

TOLD = arguments("at_least_once")

broker = KafkaBroker(
    TOLD.bootstrap,
    acks="all",
    enable_idempotence=True,
    linger_ms=5,
    compression_type="none",
    logger=None,
    allow_auto_create_topics=False,
    config=CONSUMER,
    apply_types=False,
)


async def raw(message: Any) -> list[tuple[bytes, bytes]]:
    """Key and value as they came; the default decoder would look at content types."""
    return [(record.key(), record.value()) for record in message.raw_message]


@broker.subscriber(
    TOLD.input,
    batch=True,
    max_records=500,
    polling_interval=0.05,
    group_id=TOLD.group,
    auto_offset_reset="earliest",
    ack_policy=AckPolicy.NACK_ON_ERROR,
    decoder=raw,
)
async def handle(batch: Any) -> None:
    """Publish a batch, and wait for the delivery reports."""
    sent = [await broker.publish(summarise(value), topic=TOLD.output, key=key, no_confirm=True) for key, value in batch]
    await asyncio.gather(*sent)


if __name__ == "__main__":
    asyncio.run(FastStream(broker, logger=None).run())
