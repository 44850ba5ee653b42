"""`make bench`, `make bench-peers`: systems in turn on the same job, on one real broker, in one run.

README.md says how it is measured. Prints a table; every single run goes to benchmarks/results/SET.json.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.lab import arguments, in_turn, is_trial, opened
from benchmarks.measure import Result
from benchmarks.report import Column, Runs, fraction, plain, save, spread, table
from benchmarks.source import Shape
from benchmarks.systems import ALO, EOS, SYSTEMS, without_what_cannot_be_built

MB = 1e6
RATE, CPU = "records_per_second", "cpu_seconds_per_10000"
WHOLE_RATE, WHOLE_CPU = f"whole_{RATE}", f"whole_{CPU}"
PEERS = (
    "consumer",
    "consumer-2",
    "fetch-only",
    "loop-cut",
    "loop-typed",
    "rust",
    "loop",
    "quix",
    "rust-value",
    "streams",
)
AT_LEAST_ONCE = ("loop", "bytewax", "quix", "faststream", "arroyo", "arroyo-2", "streams", "faust")
TRANSACTIONS = ("transactions", "transactions-2", "transactions-4", "loop-transactions")
SETS = {
    "bench": [(name, delivery) for delivery in (EOS, ALO) for name in ("consumer", "consumer-2", "loop")],
    "peers": [*((name, EOS) for name in PEERS), ("consumer", ALO)],
    "at-least-once": [("consumer", ALO), *((name, ALO) for name in AT_LEAST_ONCE)],
    "transactions": [(name, EOS) for name in TRANSACTIONS],
}
"""What runs together; the ratios are those of the first to each."""
COUNTS = {"bench": 20_000, "peers": 60_000, "at-least-once": 30_000, "transactions": 40_000}
"""Checkpoints, enough for the fastest of the set."""


def counted(runs: Runs) -> tuple[str, str]:
    """The fields of rate and CPU where a member works ahead of its transactions: of the whole run.

    Of the steady stretch where these are older and lack them.
    """
    known = all(WHOLE_RATE in run for found in runs.values() for run in found)
    return (WHOLE_RATE, WHOLE_CPU) if known else (RATE, CPU)


def heads(rate: str) -> tuple[str, str]:
    """Of the columns of rate and CPU."""
    since = ", from the first output" * (rate == WHOLE_RATE)
    return f"checkpoints/s{since}", f"CPU s/10,000{since}"


def columns(runs: Runs, base: str) -> list[Column]:
    """Of the table; `base` is what everything is compared with, under the same guarantee where it is there."""
    name, _, _ = base.partition(" ")
    rate, cpu = counted(runs) if name in TRANSACTIONS else (RATE, CPU)
    rate_head, cpu_head = heads(rate)

    def ratio(field: str) -> Column:
        def cell(runs: Runs, label: str) -> str:
            own = f"{name} {label.split()[1]}"
            return f"{fraction(runs, own if own in runs else base, label, field):.2f}"

        return f"{name} ÷ it", cell

    return [
        spread(rate_head, rate),
        ratio(rate),
        plain(cpu_head, cpu, 2),
        ratio(cpu),
        plain("all MB", "peak_bytes", unit=MB),
        plain("largest MB", "largest_bytes", unit=MB),
        plain("first s", "first_seconds", 1),
        plain("all s", "wall_seconds", 1),
        plain("stolen %", "stolen_percent", 1),
    ]


def shown(runs: Runs) -> str:
    """The table."""
    return table(runs, "system", columns(runs, next(iter(runs))), title)


def title(label: str) -> str:
    """For people."""
    name, delivery = label.split()
    return f"{SYSTEMS[name].title}, {delivery.replace('_', ' ')}"


def main() -> int:
    """Run the benchmark; 1 where a program did not do its job."""
    parser = _parser()
    args = parser.parse_args()
    asked = [pair for pair in SETS[args.set] if not args.systems or pair[0] in args.systems]
    kept = without_what_cannot_be_built(dict.fromkeys(name for name, _ in asked))
    labels = [" ".join(pair) for pair in asked if pair[0] in kept]
    count = args.count or COUNTS[args.set]
    shape = Shape(count, args.partitions)
    with opened(args) as lab:

        def once(label: str) -> tuple[Result, str]:
            name, delivery = label.split()
            result = lab.run(SYSTEMS[name], delivery, shape)
            said = f"{result.records_per_second:8,.0f}/s{result.cpu_seconds_per_10000:7.2f} CPU s/10,000"
            return result, said + f", {result.duplicates:,} duplicates" * bool(result.duplicates)

        about = lab.about(shape)
        runs = in_turn(labels, args.rounds, once)
    print(f"\nmedians of {args.rounds} rounds (lowest-highest), every run verified\n{shown(runs)}")
    name = args.set if args.partitions == Shape().partitions else f"{args.set}-{args.partitions}"
    name += "-real" * bool(args.checkpoints)
    print(save(name, about, runs, trial=is_trial(parser, args, "set", "partitions", "checkpoints")))
    return 0 if len(runs) == len(labels) else 1


def _parser() -> argparse.ArgumentParser:
    parser = arguments("Systems in turn on the same job, on a real broker.", rounds=3)
    parser.add_argument("--set", choices=SETS, default="bench", help="what runs (default: %(default)s)")
    parser.add_argument("--systems", nargs="*", choices=SYSTEMS, metavar="NAME", help="only these of the set")
    parser.add_argument("--count", type=int, help="checkpoints (default: by set, 20,000 to 60,000)")
    parser.add_argument("--partitions", type=int, default=Shape().partitions, help="(default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
