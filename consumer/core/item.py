"""What the work thread finished and the poll thread publishes."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from consumer.core.history import History
from consumer.records import OutRecord

__all__ = ["Item"]


class Item(msgspec.Struct, frozen=True, gc=False):
    """Finished work that is published and committed as a whole: one checkpoint, or one closed batch.

    It accounts for every delivered input offset from `first` to `last`, both included; what produced nothing has
    no `outs` and still moves the offset. `records` is the number of input records behind it, `history` the
    partition's as of its last record, `timestamp_ms` the oldest one's timestamp (-1: it has none).
    """

    first: int
    last: int
    records: int
    outs: Sequence[OutRecord]
    size_bytes: int
    history: History = History()
    dead: bool = False
    timestamp_ms: int = -1
