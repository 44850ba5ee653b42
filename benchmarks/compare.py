"""`python -m benchmarks.compare COMMIT`: the consumer as it was and as it is here, in turn on one broker, in one run.

What a change costs or gains: absolute figures of two runs on different days say nothing.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.lab import arguments, in_turn, opened
from benchmarks.measure import Result
from benchmarks.report import fractions, plain, spread, table
from benchmarks.source import Shape
from benchmarks.systems import ALO, EOS, ROOT, SYSTEMS

HERE = "here"
COLUMNS = [spread("checkpoints/s", "records_per_second"), plain("CPU s/10,000", "cpu_seconds_per_10000", 2)]
FIELDS = {"records_per_second": "of the rate", "cpu_seconds_per_10000": "of the CPU"}


def unpack(commit: str, folder: str) -> None:
    """The package of that commit, into `folder`. Raises CalledProcessError: there is no such commit."""
    command = ["git", "archive", commit, "consumer", "schemas"]
    packed = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")


def main() -> int:
    """Run the comparison; 1 where one of the two did not do its job."""
    parser = arguments(str(__doc__).partition("\n")[0], rounds=8)
    parser.add_argument("commit", help="what to compare with")
    parser.add_argument("--system", choices=[name for name in SYSTEMS if not SYSTEMS[name].command], default="consumer")
    parser.add_argument("--delivery", choices=(EOS, ALO), default=EOS)
    parser.add_argument("--count", type=int, default=60_000, help="checkpoints (default: %(default)s)")
    parser.add_argument("--partitions", type=int, default=Shape().partitions, help="(default: %(default)s)")
    args = parser.parse_args()
    shape = Shape(args.count, args.partitions)
    with tempfile.TemporaryDirectory() as folder, opened(args) as lab:
        unpack(args.commit, folder)
        packages = {args.commit: Path(folder), HERE: ROOT}

        def once(label: str) -> tuple[Result, str]:
            os.environ.update(PYTHONSAFEPATH="1", PYTHONPATH=f"{packages[label]}{os.pathsep}{ROOT}")
            result = lab.run(SYSTEMS[args.system], args.delivery, shape)
            return result, f"{result.records_per_second:8,.0f}/s{result.cpu_seconds_per_10000:7.2f} CPU s/10,000"

        runs = in_turn(list(packages), args.rounds, once)
    if len(runs) < len(packages):
        return 1
    print(f"\n{table(runs, 'commit', COLUMNS)}")
    for field, what in FIELDS.items():
        found = fractions(runs, HERE, args.commit, field)
        print(f"here: {median(found):.2f} {what} of {args.commit} ({min(found):.2f}-{max(found):.2f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
