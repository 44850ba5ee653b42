"""How the consumer grows: one curve for each of what may be large, on one real broker.

`python -m benchmarks.growth [CURVE...]`. README.md says what each curve shows. Prints a table for each; every single
run goes to benchmarks/results/growth-CURVE.json.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from benchmarks.bench import MB, counted, heads
from benchmarks.jobs import TRANSACTIONS
from benchmarks.lab import LATE_JOINS, Lab, arguments, in_turn, is_trial, opened
from benchmarks.measure import Result
from benchmarks.report import Runs, plain, save, spread, table
from benchmarks.source import Shape
from benchmarks.systems import CONSUMER, EOS, System
from benchmarks.workers import refused

MANY = Shape(40_000)
"""At full speed two seconds."""


class Point(NamedTuple):
    """What one point of a curve runs."""

    system: System = CONSUMER
    shape: Shape = MANY
    pools: int = 1
    skipped: Callable[[int], bool] = lambda number: False
    existing: bool = False


def _set(**settings: object) -> System:
    return CONSUMER._replace(environ={name: str(value) for name, value in settings.items()})


def _refusing(per_thousand: int) -> Point:
    worker = {"WORKER": "benchmarks.workers:RefusingWorker", "WORKER_OPTIONS": f'{{"per_thousand": {per_thousand}}}'}
    limits = {"DLQ__MAX_CONSECUTIVE": 1000, "DLQ__MAX_RATIO": 1}
    return Point(_set(**worker, **limits), skipped=partial(refused, per_thousand=per_thousand))


def _waiting(in_flight: int) -> Point:
    system = _set(WORKER="benchmarks.workers:WaitingWorker", MAX_IN_FLIGHT=in_flight)
    return Point(system, Shape(records=min(20_000, 400 * in_flight)))


def _pools(count: int) -> Point:
    return Point(CONSUMER._replace(options=("benchmarks.workers", str(count)), keeps_order=False), pools=count)


CURVES: dict[str, dict[str, Point]] = {
    "size": {
        "5 KB": Point(shape=Shape(80_000, size_bytes=5_000, transactions=1)),
        "40 KB": Point(),
        "1 MB": Point(shape=Shape(1_000, size_bytes=1_000_000, transactions=20)),
        "50 MB": Point(shape=Shape(40, size_bytes=50_000_000, transactions=200)),
    },
    "partitions": {str(count): Point(shape=MANY._replace(partitions=count)) for count in (1, 4, 16, 64, 256)},
    "members": {
        str(count): Point(CONSUMER._replace(members=count, work=TRANSACTIONS), Shape(40_000, 8))
        for count in (1, 2, 4, 8)
    },
    "batch": {str(count): Point(_set(BATCH__MAX_MESSAGES=count)) for count in (10, 100, 1_000, 10_000)},
    "dead-letters": {f"{share / 10:g} %": _refusing(share) for share in (0, 10, 100)},
    "pools": {"1": Point(), "2": _pools(2), "4": _pools(4)},
    "in-flight": {str(count): _waiting(count) for count in (1, 8, 64, 256)},
    "start": {"existing group": Point(shape=Shape(10_000), existing=True), "new group": Point(shape=Shape(10_000))},
}


def shown(runs: Runs, curve: str) -> str:
    """The table of one curve."""
    rate, cpu = counted(runs)
    rate_head, cpu_head = heads(rate)
    columns = [
        spread(rate_head, rate),
        plain(cpu_head, cpu, 2),
        plain("all MB", "peak_bytes", unit=MB),
        plain("largest MB", "largest_bytes", unit=MB),
        spread("first s", "first_seconds", 1),
    ]
    return table(runs, curve, columns)


def main() -> int:
    """Measure; 1 where a run failed."""
    parser = arguments(str(__doc__).partition("\n")[0], rounds=3)
    parser.add_argument("curves", nargs="*", metavar="CURVE", help=f"of {', '.join(CURVES)} (default: all)")
    parser.add_argument("--scale", type=float, default=1.0, help="times the checkpoints of every point")
    args = parser.parse_args()
    if unknown := set(args.curves) - set(CURVES):
        parser.error(f"no such curve: {', '.join(unknown)}; there are {', '.join(CURVES)}")
    trial = is_trial(parser, args, "curves")
    failed = warm = False
    with opened(args, LATE_JOINS) as lab:
        for curve in args.curves or CURVES:
            points = CURVES[curve]
            about = {**lab.about(MANY), "input": _inputs(lab, points)}
            once = partial(_once, lab, points, args.scale)
            runs = in_turn(list(points), args.rounds, once, warm_up=not warm)
            warm = True
            print(f"\n{shown(runs, curve)}\n{save(f'growth-{curve}', about, runs, trial=trial)}\n", flush=True)
            failed |= len(runs) < len(points)
    return int(failed)


def _inputs(lab: Lab, points: Mapping[str, Point]) -> str:
    """What all points read, or each."""
    inputs = {label: lab.about(point.shape)["input"] for label, point in points.items()}
    if len(set(inputs.values())) == 1:
        return next(iter(inputs.values()))
    return "; ".join(f"{label}: {text}" for label, text in inputs.items())


def _once(lab: Lab, points: Mapping[str, Point], scale: float, label: str) -> tuple[Result, str]:
    point = points[label]
    shape = point.shape._replace(records=int(point.shape.records * scale))
    result = lab.run(point.system, EOS, shape, pools=point.pools, skipped=point.skipped, existing=point.existing)
    return result, f"{result.whole_records_per_second:10,.0f}/s {result.whole_cpu_seconds_per_10000:8.2f} CPU s/10,000"


if __name__ == "__main__":
    sys.exit(main())
