"""`demo` as a stranger starts it: what is shown, what is counted, and that it ends and leaves nothing behind."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from consumer.checkpoint import Position, decoder_for
from consumer.cli.demo import Window
from consumer.generate import generate
from consumer.kafka.embedded import full_control_available
from consumer.workers import SummaryWorker

pytestmark = pytest.mark.skipif(not full_control_available(), reason="librdkafka's C functions cannot be reached")

ROOT = Path(__file__).parents[2]
CLOSING = re.compile(r"(\w+): fed (\d+) checkpoints?, published (\d+) records? \((\d+) distinct\) by 2 members in .* s")


class Started:
    """A `demo` in a session of its own."""

    def __init__(
        self, *arguments: str, stdout: int = subprocess.PIPE, environ: Mapping[str, str] | None = None
    ) -> None:
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **(environ or {})}
        command = [sys.executable, "-m", "consumer", "demo", *arguments]
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdout=stdout,
            stderr=stdout if stdout != subprocess.PIPE else subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def finish(self) -> tuple[int, str, str]:
        """Exit code, stdout, stderr; no process of its session may be left."""
        out, err = self.process.communicate(timeout=60)
        left = [p for p in psutil.process_iter() if session_of(p.pid) == self.process.pid]
        _, alive = psutil.wait_procs(left, timeout=5)
        assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []
        return self.process.returncode, out, err


def session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def records(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


def closing(out: str) -> tuple[str | int, ...]:
    match = CLOSING.match(out.splitlines()[-1])
    assert match is not None, out
    return (match[1], *map(int, match.groups()[1:]))


def summary(number: int) -> Any:
    worker = SummaryWorker()
    data = generate(number)
    return worker.process_checkpoint(decoder_for(worker.checkpoint_type)(data, Position("checkpoints", 0, 0)))


def test_every_checkpoint_is_published_once_and_the_first_are_shown_decoded() -> None:
    code, out, err = Started("--checkpoints", "300", "--rate", "300").finish()
    assert err == ""
    assert code == 0
    assert "at-least-once" in out
    assert closing(out) == ("done", 300, 300, 300)
    shown = records(out)
    assert len(shown) == 3
    for record in shown:
        source = f"checkpoints/{record['partition']}/{record['offset']}-{record['offset']}"
        assert record["headers"]["checkpoint-source"] == source
        number = int(record["key"])
        assert record["value"] == {name: getattr(summary(number), name) for name in record["value"]}
        assert record["value"]["sequence_number"] == number


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(number: int) -> None:
    started = Started("--checkpoints", "100000")
    assert started.process.stdout is not None
    read: Iterator[str] = iter(started.process.stdout)
    next(line for line in read if line.startswith("{"))
    started.process.send_signal(number)
    code, rest, err = started.finish()
    assert err == ""
    assert code == 0
    kind, fed, published, distinct = closing(rest)
    assert kind == "stopped"
    assert int(fed) >= int(published) == int(distinct) > 0


def test_files_are_read_as_feed_reads_them(tmp_path: Path) -> None:
    (tmp_path / "good.ndjson").write_bytes(b"\n".join(generate(number) for number in range(5)))
    (tmp_path / "broken.json").write_text("{")
    code, out, err = Started(str(tmp_path)).finish()
    assert code == 1
    assert err.startswith(f"{tmp_path / 'broken.json'} is not JSON")
    assert closing(out) == ("done", 5, 5, 5)
    assert out.splitlines()[-1].endswith("; 1 refused")


def test_somebody_s_settings_do_not_lead_it_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_bytes(generate(0))
    production = {
        "CONSUMER_KAFKA__BOOTSTRAP_SERVERS": "192.0.2.1:9092",
        "CONSUMER_KAFKA__OPTIONS": '{"security.protocol": "ssl"}',
        "CONSUMER_GROUP_ID": "production",
        "CONSUMER_DELIVERY": "exactly_once",
        "CONSUMER_REDUCER": "mine:Mine",
        "CONSUMER_SCHEMA__REGISTRY_URL": "http://192.0.2.1",
    }
    code, out, err = Started(str(tmp_path), environ=production).finish()
    assert err == ""
    assert code == 0
    assert closing(out) == ("done", 1, 1, 1)


def test_a_path_that_is_not_there_is_said_before_anything_starts() -> None:
    code, out, err = Started("/nowhere").finish()
    assert (code, out) == (2, "")
    assert err.startswith("checkpoint-consumer: /nowhere does not exist")


@pytest.mark.parametrize("environ", [{}, {"NO_COLOR": "1"}])
def test_on_a_terminal_it_draws_one_block_over_and_over(environ: dict[str, str]) -> None:
    ours, theirs = pty.openpty()
    started = Started("--checkpoints", "100", stdout=theirs, environ={"TERM": "xterm", "LANG": "C.UTF-8", **environ})
    os.close(theirs)
    text = b""
    try:
        while more := os.read(ours, 65_536):
            text += more
    except OSError:  # what Linux says when the other end has been closed
        os.close(ours)
    code, *_ = started.finish()
    lines = text.decode().replace("\r\n", "\n").splitlines()
    assert code == 0
    assert sum("\x1b[5A" in line for line in lines) > 5
    assert "25 of 25  member" in lines[-2]
    assert ("\x1b[32m" in lines[-2]) == (not environ)
    assert "done: fed 100 checkpoints, published 100 records (100 distinct)" in lines[-1]


def test_no_more_is_fed_than_the_embedded_broker_remembers() -> None:
    window = Window()
    assert window.admits(4_000_000, committed=0)  # larger than all: alone
    window.add(4_000_000)
    assert not window.admits(1, committed=0)
    assert window.admits(3_000_000, committed=1)
    window.add(2_000_000)
    window.add(1_000_000)
    assert window.fed == 3
    assert not window.admits(1, committed=1)
    assert window.admits(2_000_000, committed=2)
    assert not window.admits(2_000_001, committed=2)
