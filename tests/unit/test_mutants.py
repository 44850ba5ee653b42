"""10,000 damaged checkpoints: none crashes, none hangs, and no value that is read differs from what the bytes say.

MUTANTS_SEED=text chooses others; MUTANTS_FIRST=number begins with the one that failed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants import DEADLINE_SECONDS, mutant

ROOT = Path(__file__).parents[2]
SEED = os.environ.get("MUTANTS_SEED", "0")
FIRST = int(os.environ.get("MUTANTS_FIRST", "0"))
COUNT = 10_000


@pytest.mark.timeout(300)
def test_no_crash_no_hang_no_silent_change(capsys: pytest.CaptureFixture[str]) -> None:
    folder = os.environ.get("CHECKPOINTS")
    command = [sys.executable, "-m", "tests.mutants", SEED, str(FIRST), str(COUNT), *([folder] if folder else [])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    again = f"MUTANTS_SEED={SEED} MUTANTS_FIRST={lines[-1] if lines else FIRST}"
    end = {0: "", -14: f"more than {DEADLINE_SECONDS} s", -11: "SIGSEGV"}.get(done.returncode, str(done.returncode))
    assert done.returncode == 0, f"{again}: ended by {end}\n{done.stderr[-4000:]}"
    accepted = json.loads(lines[-1])
    with capsys.disabled():
        print(f"\n{COUNT} mutants from {FIRST}, MUTANTS_SEED={SEED}; accepted: {accepted}")
    assert COUNT / 10 < accepted["Checkpoint"] < accepted["CheckpointHeader"] < COUNT * 0.9


def test_a_mutant_is_always_the_same() -> None:
    assert [mutant("1", number, []) for number in range(20)] == [mutant("1", number, []) for number in range(20)]
    assert len({mutant("1", number, []) for number in range(20)}) > 15
