"""The hot path in instructions, counted by callgrind: the same on a busy machine, unlike seconds."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MOST_INSTRUCTIONS = {"summary": 193_000, "transactions": 745_000}
"""Per checkpoint of 40 KB, on CPython 3.11: 181,000 and 700,000 were measured, up to 3 % more or less each time."""
COUNTS = {"summary": (500, 2_500), "transactions": (200, 1_000)}


def instructions(worker: str, count: int, folder: Path) -> int:
    out = folder / f"callgrind.{count}"
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
    command += [sys.executable, "-m", "benchmarks.hotpath", str(count), "--steady", "--worker", worker]
    subprocess.run(command, check=True, capture_output=True, timeout=240, env={**os.environ, "PYTHONHASHSEED": "0"})
    found = re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


@pytest.mark.timeout(500)
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="no valgrind, which counts instructions")
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="other Pythons need other numbers of instructions")
@pytest.mark.parametrize("worker", COUNTS)
def test_a_checkpoint_costs_no_more_instructions_than_it_did(worker: str, tmp_path: Path) -> None:
    few, many = COUNTS[worker]
    extra = instructions(worker, many, tmp_path) - instructions(worker, few, tmp_path)
    per_checkpoint = extra / (many - few)
    assert per_checkpoint < MOST_INSTRUCTIONS[worker], "the hot path has become slower: see benchmarks/hotpath.py"
