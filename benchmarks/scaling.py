"""What more members cost at a steady rate: transactions, their CPU time and the broker's. docs/scaling.md uses it.

`python -m benchmarks.scaling`: a paced input over 64 partitions, 1 to 8 members, and 4 that wait longer between two
transactions. Prints a table; every single run goes to benchmarks/results/scaling.json.
"""

from __future__ import annotations

import sys
import time
import uuid
from functools import partial
from typing import NamedTuple

from benchmarks.bench import MB
from benchmarks.lab import LATE_JOINS, Lab, arguments, in_turn, is_trial, opened
from benchmarks.latency import DOCUMENTS, START_SECONDS, WARM_SECONDS, Feeder
from benchmarks.measure import Job, Usage, Wrong, running
from benchmarks.report import Column, Runs, plain, save, spread, table
from benchmarks.scrape import metric, until
from benchmarks.source import Shape
from benchmarks.systems import CONSUMER, EOS
from tests.brokers.settings import free_port

POINTS = {
    **{str(members): (members, None) for members in (1, 2, 4, 8)},
    **{f"4, linger {linger} s": (4, linger) for linger in ("0.1", "0.5")},
}
"""Members, and CONSUMER_BATCH__LINGER_SECONDS where it is not the default: the same records in fewer transactions tell
what a transaction costs."""
SHAPE = Shape(partitions=64)
COLUMNS: list[Column] = [
    spread("transactions/s", "transactions_per_second"),
    plain("checkpoints in each", "records_per_transaction", 1),
    plain("members' cores", "member_cores", 2),
    plain("CPU s/10,000", "cpu_seconds_per_10000", 2),
    plain("broker's cores", "broker_cores", 2),
    plain("all MB", "peak_bytes", unit=MB),
]


class Load(NamedTuple):
    """One run, after its warm-up."""

    transactions_per_second: float
    """Of all members."""
    records_per_transaction: float
    member_cores: float
    """CPU seconds a second, of the program with all its processes."""
    cpu_seconds_per_10000: float
    broker_cores: float
    """Feeder's and program's requests together; 0: the broker is not a process of this benchmark."""
    peak_bytes: int


def measure(lab: Lab, members: int, linger: str | None, rate: float, seconds: float) -> Load:
    """One run. Raises Wrong where the program ended, or not every member was given partitions."""
    name, port = f"scaling-{uuid.uuid4().hex[:8]}", free_port()
    documents = [lab.source(SHAPE)(number) for number in range(DOCUMENTS)]
    job = Job(lab.broker.bootstrap, f"{name}.in", name, [name], SHAPE, lab.source(SHAPE))
    environ = {"HTTP__PORT": str(port), **({"BATCH__LINGER_SECONDS": linger} if linger else {})}
    system = CONSUMER._replace(members=members, environ=environ)
    with lab.topics(SHAPE.partitions, job.input, job.output, f"{name}.dlq"):
        feeder = Feeder(job, documents, rate, START_SECONDS + 2 * WARM_SECONDS + seconds)
        with running(system.program(job, EOS)) as usage, feeder.feeding():
            assigned = partial(metric, port, "assigned_partitions")
            if not until(lambda: assigned() == SHAPE.partitions, START_SECONDS):
                raise Wrong(f"{assigned():.0f} of {SHAPE.partitions} partitions are assigned")
            until(lambda: usage.ended, 2 * WARM_SECONDS)
            before = _counts(lab, port, usage)
            until(lambda: usage.ended, seconds)
            after = _counts(lab, port, usage)
            if usage.ended:
                raise Wrong("it ended")
            took, records, transactions, cpu, broker = (b - a for a, b in zip(before, after, strict=True))
            return Load(
                transactions / took,
                records / max(1.0, transactions),
                cpu / took,
                cpu / max(1.0, records) * 10_000,
                broker / took,
                usage.peak_bytes,
            )


def _counts(lab: Lab, port: int, usage: Usage) -> tuple[float, float, float, float, float]:
    records, transactions = (
        metric(port, "records_consumed_total"),
        metric(port, "transactions_total"),
    )
    return time.monotonic(), records, transactions, usage.cpu(), lab.broker_cpu()


def shown(runs: Runs) -> str:
    """The table."""
    return table(runs, "members", COLUMNS)


def main() -> int:
    """Measure; 1 where a run failed."""
    parser = arguments(str(__doc__).partition("\n")[0], rounds=2)
    parser.add_argument("--rate", type=float, default=400.0, help="checkpoints a second (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=15.0, help="that are measured (default: %(default)s)")
    args = parser.parse_args()
    with opened(args, LATE_JOINS) as lab:

        def once(label: str) -> tuple[Load, str]:
            found = measure(lab, *POINTS[label], args.rate, args.seconds)
            return found, f"{found.transactions_per_second:8.0f} transactions/s, {found.member_cores:.2f} cores"

        about = {**lab.about(SHAPE), "rate": f"{args.rate:g} checkpoints/s"}
        runs = in_turn(list(POINTS), args.rounds, once)
    print(f"\n{shown(runs)}\n{save('scaling', about, runs, trial=is_trial(parser, args))}")
    return 0 if len(runs) == len(POINTS) else 1


if __name__ == "__main__":
    sys.exit(main())
