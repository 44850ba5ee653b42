"""Where tests kill and abort: an action happens at its passage, and once for all processes that share a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from consumer import failpoints


def test_an_action_happens_at_its_passage_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failpoints, "_points", failpoints._parse("here=abort@3,there=lose"))
    assert [failpoints.failpoint("here") for _ in range(5)] == [False, False, True, False, False]
    assert [failpoints.failpoint("there") for _ in range(2)] == [True, False]
    assert not failpoints.failpoint("elsewhere")


def test_a_lasting_action_happens_at_every_later_passage_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(failpoints.FIRED, str(tmp_path))
    monkeypatch.setattr(failpoints, "_points", failpoints._parse("here=lose@2+"))
    assert [failpoints.failpoint("here") for _ in range(4)] == [False, True, True, True]


def test_processes_that_share_a_folder_act_once_and_leave_proof(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(failpoints.FIRED, str(tmp_path))
    acted = []
    for _ in range(2):  # a fresh process reads the variable anew
        monkeypatch.setattr(failpoints, "_points", failpoints._parse("here=abort"))
        acted.append(failpoints.failpoint("here"))
    assert acted == [True, False]
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
