"""Synthetic checkpoints in the shape of real ones, for the demo, the tests and the benchmark.

The same arguments give the same bytes. A document is a template, built once, with holes for what changes from
checkpoint to checkpoint; filling one takes about 100 microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from random import Random
from typing import Any, get_args

import msgspec

from consumer.generate.builder import GAS, Builder, Dialect, digest
from consumer.generate.template import Template

__all__ = ["DIALECTS", "Dialect", "generate", "stream"]

DIALECTS: tuple[Dialect, ...] = get_args(Dialect)

_GENESIS_MS = 1_730_000_000_000
_INTERVAL_MS = 250
_VARIANTS = 8  # so that neighbours do not compress to nothing
_FAILING = 3  # the variant whose last user transaction fails


def generate(
    sequence_number: int,
    *,
    transactions: int = 4,
    size_bytes: int = 40_000,
    dialect: Dialect = "iota-2024",
    seed: int = 0,
    epoch_length: int = 100,
) -> bytes:
    """Checkpoint number `sequence_number` of the chain that `seed` names, as compact JSON.

    The first transaction is a consensus commit, the last one of an epoch's last checkpoint ends the epoch, the
    others are users', with one event each unless they fail. `previous_digest` names the checkpoint before,
    `network_total_transactions` and the gas summary are running totals. The size is about `size_bytes`, or what the
    transactions need if that is more.

    Raises:
        ValueError: an argument is out of range.
    """
    if dialect not in DIALECTS:
        raise ValueError(f"dialect must be one of {', '.join(DIALECTS)}, got {dialect!r}")
    if sequence_number < 0 or transactions < 1 or size_bytes < 0 or epoch_length < 1:
        raise ValueError("sequence_number and size_bytes must be 0 or more, transactions and epoch_length 1 or more")
    epoch, place = divmod(sequence_number, epoch_length)
    ends = place == epoch_length - 1
    template = _template(transactions, size_bytes, dialect, seed, ends, sequence_number % _VARIANTS)
    users = place * _user_count(transactions, False) + _user_count(transactions, ends)
    previous = b"null" if sequence_number == 0 else b'"%b"' % digest(seed, "checkpoint", sequence_number - 1)
    values = {
        "epoch": b"%d" % epoch,
        "next_epoch": b"%d" % (epoch + 1),
        "sequence_number": b"%d" % sequence_number,
        "total": b"%d" % ((sequence_number + 1) * transactions),
        "content_digest": digest(seed, "contents", sequence_number),
        "previous_digest": previous,
        "timestamp_ms": b"%d" % (_GENESIS_MS + sequence_number * _INTERVAL_MS),
        "version": b"%d" % (sequence_number + 2),
        "before": b"%d" % (sequence_number + 1),
    }
    values.update({name: b"%d" % (users * cost) for name, cost in GAS.items()})
    for index in range(transactions):
        for what in ("transaction", "effects", "events"):
            values[f"{what}_{index}"] = digest(seed, what, sequence_number, index)
    return template.fill(values)


def stream(
    count: int,
    start: int = 0,
    *,
    transactions: int = 4,
    size_bytes: int = 40_000,
    dialect: Dialect = "iota-2024",
    seed: int = 0,
    epoch_length: int = 100,
) -> Iterator[bytes]:
    """`count` checkpoints from number `start` on, as `generate` makes them."""
    for number in range(start, start + count):
        yield generate(
            number,
            transactions=transactions,
            size_bytes=size_bytes,
            dialect=dialect,
            seed=seed,
            epoch_length=epoch_length,
        )


def _user_count(transactions: int, ends: bool) -> int:
    return max(0, transactions - (2 if ends else 1))


@lru_cache(maxsize=4 * _VARIANTS)
def _template(
    transactions: int,
    size_bytes: int,
    dialect: Dialect,
    seed: int,
    ends: bool,
    variant: int,
) -> Template:
    """The template of `size_bytes` when filled: what is missing is added to the contents of the objects."""

    def build(filler: int) -> Any:
        builder = Builder(dialect, Random(f"{seed}/{variant}/{ends}"), filler)
        return builder.document(transactions, ends, variant == _FAILING)

    holes = 2 + 5 * transactions  # a digest is about 44 characters, its hole about 15
    missing = size_bytes - len(msgspec.json.encode(build(0))) - holes * 29
    octet = 3.57 if dialect == "iota-2024" else 4 / 3  # characters per byte: digits and comma, or base64
    return Template.of(build(max(0, int(missing / octet / (2 * transactions)))))
