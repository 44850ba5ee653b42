"""The hot path in instructions, counted by callgrind: the same on a busy machine, unlike seconds."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FEW, MANY = 500, 2_500
MOST_INSTRUCTIONS = 250_000
"""Per checkpoint, on CPython 3.11: 218,000 were measured, up to 3 % more or less from run to run."""


def instructions(count: int, folder: Path) -> int:
    out = folder / f"callgrind.{count}"
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
    command += [sys.executable, "-m", "benchmarks.hotpath", str(count), "--steady"]
    subprocess.run(command, check=True, capture_output=True, timeout=240, env={**os.environ, "PYTHONHASHSEED": "0"})
    found = re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


@pytest.mark.timeout(500)
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="no valgrind, which counts instructions")
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="other Pythons need other numbers of instructions")
def test_a_checkpoint_costs_no_more_instructions_than_it_did(tmp_path: Path) -> None:
    per_checkpoint = (instructions(MANY, tmp_path) - instructions(FEW, tmp_path)) / (MANY - FEW)
    assert per_checkpoint < MOST_INSTRUCTIONS, "the hot path has become slower: see benchmarks/hotpath.py"
