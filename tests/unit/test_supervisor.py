"""The supervisor with real member processes that play a part: restarts, endings, deadlines, bounded runs, health."""

from __future__ import annotations

import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import Process
from pathlib import Path
from typing import Any

import psutil
import pytest

from consumer import hangs
from consumer import supervisor as module
from consumer.errors import ConfigError, ExitCode, Fenced, PolicyStop, Stop
from consumer.protocol import Spec, Status
from consumer.supervisor import KILL_SECONDS, Child, Pool, Supervisor
from tests.unit.scripted_members import play

PATIENCE = 20.0


def pool(*parts: str, settings: Any = None, bounded: bool = False, name: str = "pool") -> Pool:
    children = [Child(name, Spec(i, settings, part, None, None), play) for i, part in enumerate(parts)]
    return Pool(name, children, bounded)


class Running:
    """A supervisor that runs on a thread of its own."""

    def __init__(self, *pools: Pool, shutdown: float = 10.0) -> None:
        self.supervisor = Supervisor(pools, shutdown)
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.supervisor.run()
        except BaseException as error:  # noqa: BLE001 - `end` raises it
            self.error = error

    def children(self) -> list[Child]:
        return [child for one in self.supervisor.pools for child in one.children]

    def until(self, true: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < deadline
            assert self._thread.is_alive(), self.error
            time.sleep(0.01)

    def until_heard(self) -> None:
        self.until(lambda: all(child.status is not None for child in self.children()))

    def end(self) -> None:
        """Wait for it and raise what it raised."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    assert [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())] == []


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[dict[str, Any]]]:
    caplog.set_level(logging.INFO)
    return lambda event: [line.__dict__["fields"] for line in caplog.records if line.getMessage() == event]


# ---------------------------------------------------------------------------------------------- restarts


def test_a_member_that_dies_is_started_again_later_and_later(
    said: Callable[[str], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESTART_SECONDS", (0.01, 0.05, 0.1))
    run = Running(pool("dies", "obedient"))
    run.until(lambda: len(said("member died, it is started again")) == 4)
    run.supervisor.stop()
    run.end()
    deaths = said("member died, it is started again")
    assert [(line["member"], line["reason"], line["in_seconds"]) for line in deaths] == [
        ("pool-0", "SIGKILL", seconds) for seconds in (0.01, 0.05, 0.1, 0.1)
    ]
    assert run.supervisor.pools[0].progress == {1: (2, 7)}
    assert 'member_restarts_total{group="pool",reason="SIGKILL"} 4' in run.supervisor.metrics()


def test_one_that_was_well_for_long_begins_anew(
    said: Callable[[str], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESTART_SECONDS", (0.01, 30.0))
    monkeypatch.setattr(module, "HEALTHY_SECONDS", 0.0)
    run = Running(pool("dies"))
    run.until(lambda: len(said("member died, it is started again")) == 3)
    run.supervisor.stop()
    run.end()


def test_a_member_started_again_waits_for_brokers_without_limit(tmp_path: Path) -> None:
    run = Running(pool("dies_once", settings=tmp_path))
    run.until_heard()
    run.supervisor.stop()
    run.end()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["patient-False", "patient-True"]


def test_a_dead_member_is_noticed_though_a_process_that_it_forked_lives_on(tmp_path: Path) -> None:
    run = Running(pool("forks_and_dies_once", settings=tmp_path))
    try:
        run.until_heard()
    finally:
        os.kill(int((tmp_path / "left").read_text()), signal.SIGKILL)
        run.supervisor.stop()
        run.end()


@pytest.mark.parametrize(
    ("part", "call_seconds", "why", "where"),
    [
        ("hangs_once", 50.0, "the worker of in/3 offset 55 runs for 10", "in hangs_once"),
        (
            "starts_for_ever",
            1.0,
            "it has imported and made the worker for 1 s: CONSUMER_",
            "in starts_for_ever",
        ),
        ("silent_once", math.inf, "nothing was heard of it for 1 s", "in silent_once"),
    ],
)
def test_a_member_that_hangs_is_killed_and_started_again(
    said: Callable[[str], list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    call_seconds: float,
    why: str,
    where: str,
) -> None:
    monkeypatch.setattr(module, "RESTART_SECONDS", (0.01,))
    monkeypatch.setattr(hangs, "SILENT_SECONDS", 1.0 if part == "silent_once" else 30.0)
    one = pool(part)
    one.children[0].call_seconds = call_seconds
    run = Running(one)
    run.until(lambda: one.children[0].spec.patient and one.children[0].status is not None)
    run.supervisor.stop()
    run.end()
    (killed,) = said("member hangs, it is killed")
    assert killed["member"] == "pool-0"
    assert killed["why"].startswith(why)
    assert any(where in line for line in killed["stack"])
    (died,) = said("member died, it is started again")
    reason = "silent" if part == "silent_once" else "call"
    assert died["reason"] == reason
    assert f'member_restarts_total{{group="pool",reason="{reason}"}} 1' in run.supervisor.metrics()


def test_a_machine_that_was_paused_has_no_hanging_members() -> None:
    supervisor = Supervisor([one := pool("obedient")], 10)
    (child,) = one.children
    child.process = Process(target=print)
    child.status, child.heard, supervisor._turned = Status(joined=True, partitions=2), 100.0, 100.0
    supervisor._kill_hanging(160.0)
    assert child.hang is None
    supervisor._turned = 191.0
    with pytest.raises(AssertionError):  # nothing to kill: it has no process id
        supervisor._kill_hanging(191.0)


def test_why_a_member_ended_is_in_the_log_of_its_restart(
    tmp_path: Path, said: Callable[[str], list[dict[str, Any]]]
) -> None:
    (tmp_path / "code").write_text("1")
    run = Running(pool("fails", settings=tmp_path))
    run.until(lambda: said("member died, it is started again"))
    run.supervisor.stop()
    run.end()
    assert said("member died, it is started again")[0]["why"] == "what to do about 1"


# ----------------------------------------------------------------------------------------------- endings


@pytest.mark.parametrize("kind", [ConfigError, PolicyStop, Fenced])
def test_a_final_exit_drains_the_others_and_is_raised(kind: type[Stop], tmp_path: Path) -> None:
    run = Running(pool("obedient", "fails", "obedient", settings=tmp_path), pool("obedient", name="another"))
    run.until(lambda: sum(child.status is not None for child in run.children()) == 3)
    (tmp_path / "new").write_text(str(int(kind.exit_code)))
    (tmp_path / "new").rename(tmp_path / "code")
    with pytest.raises(kind, match=f"what to do about {int(kind.exit_code)}"):
        run.end()
    assert [one.progress for one in run.supervisor.pools] == [{0: (2, 7), 2: (2, 7)}, {0: (2, 7)}]


def test_a_final_exit_without_a_word_names_the_member() -> None:
    with pytest.raises(PolicyStop, match="member pool-0 ended with 3"):
        Running(pool("fails_silently", settings=3)).end()


def test_a_member_that_does_not_end_is_killed_within_the_time(said: Callable[[str], list[dict[str, Any]]]) -> None:
    run = Running(pool("deaf", "obedient"), shutdown=1.5)
    run.until_heard()
    since = time.monotonic()
    run.supervisor.stop()
    run.end()
    assert time.monotonic() - since < 1.5
    assert said("member did not end in time, it is killed") == [{"member": "pool-0"}]
    assert run.supervisor.pools[0].progress == {1: (2, 7)}


def test_a_member_that_the_kernel_does_not_end_is_not_waited_for(said: Callable[[str], list[dict[str, Any]]]) -> None:
    made = pool("obedient", "obedient")
    waits: list[float] = []
    undying: Any = type("Undying", (), {"is_alive": lambda _: True, "kill": lambda _: None})()
    undying.join = waits.append
    for child in made.children:
        child.process = undying
    supervisor = Supervisor([made], 5.0)
    supervisor._kill_all()
    assert sum(waits) <= 2 * KILL_SECONDS
    assert len(waits) == len(said("the kernel does not end a member that was killed")) == 2


UNDYING = """
from multiprocessing.process import BaseProcess
from consumer.protocol import Spec
from consumer.supervisor import Child, Pool, Supervisor
from tests.unit.scripted_members import play

BaseProcess.kill = lambda process: print(process.pid, flush=True)  # and the kernel does not end it
child = Child("pool", Spec(0, None, "deaf", None, None), play)
supervisor = Supervisor([Pool("pool", [child], False)], 1.2)
supervisor.stop()
supervisor.run()
"""


def test_nor_does_python_wait_for_it_when_it_exits() -> None:
    run = subprocess.Popen([sys.executable, "-c", UNDYING], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    pid = int(run.stdout.readline())
    try:
        assert run.wait(PATIENCE) == 0
    finally:
        os.kill(pid, signal.SIGKILL)
        run.kill()
        run.stdout.close()


def test_why_a_member_cannot_be_started_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(process: Any) -> None:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr("multiprocessing.process.BaseProcess.start", start)
    with pytest.raises(BlockingIOError, match="no more processes"):
        Supervisor([pool("obedient")], 10).run()


def test_a_second_stop_ends_at_once() -> None:
    run = Running(pool("deaf"), shutdown=30)
    run.until_heard()
    since = time.monotonic()
    run.supervisor.stop()
    run.supervisor.stop()
    with pytest.raises(Stop, match="stopped at once by a second signal") as stop:
        run.end()
    assert stop.value.exit_code == ExitCode.UNEXPECTED
    assert time.monotonic() - since < 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_and_the_programs_own_handlers_come_back(number: signal.Signals) -> None:
    supervisor = Supervisor([pool("obedient")], 10)
    before = signal.getsignal(number)

    def send() -> None:
        while supervisor.pools[0].children[0].status is None:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=send).start()
    supervisor.run()
    assert supervisor.pools[0].progress == {0: (2, 7)}
    assert signal.getsignal(number) is before


def test_a_stop_before_the_start_ends_at_once() -> None:
    supervisor = Supervisor([pool("obedient")], 10)
    supervisor.stop()
    supervisor.run()


def test_a_supervisor_that_is_gone_has_left_no_open_files() -> None:
    Supervisor([pool("obedient")], 10)
    before = psutil.Process().num_fds()
    for _ in range(5):
        Supervisor([pool("obedient")], 10)
    assert psutil.Process().num_fds() <= before


ALONE = """
from consumer.protocol import Spec
from consumer.supervisor import Child, Pool, Supervisor
from tests.unit.scripted_members import tell_the_mask

child = Child("pool", Spec(0, None, "", None, None), tell_the_mask)
Supervisor([Pool("pool", [child], False)], 5.0).run()
"""


def test_ctrl_c_cannot_hit_the_first_member_either_before_it_ignores_it() -> None:
    # A process of its own: what unblocked the signals happens with its first spawn only.
    run = [sys.executable, "-c", ALONE]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "SIGINT SIGTERM\n"


# ---------------------------------------------------------------------------------------------- bounded runs


def test_the_first_member_of_a_bounded_run_decides_before_the_others_start(
    tmp_path: Path, said: Callable[[str], list[dict[str, Any]]]
) -> None:
    Running(pool("first", "first", settings=tmp_path, bounded=True)).end()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0 None", "1 {0: 5, 1: 6}"]
    assert [line["member"] for line in said("member started")] == ["pool-0", "pool-1"]


def test_a_bounded_run_that_is_complete_waits_for_no_restart(
    tmp_path: Path, said: Callable[[str], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESTART_SECONDS", (600.0,))
    run = Running(pool("ends_its_partition_and_dies", "ends_when_the_other_has_died", settings=tmp_path, bounded=True))
    run.until(lambda: said("member died, it is started again"))
    (tmp_path / "go").touch()
    run.end()


def test_the_limit_met_by_one_member_is_told_to_the_others() -> None:
    Running(pool("met_the_limit", "waits_for_the_limit", bounded=True)).end()


def test_a_stop_ends_a_bounded_run_whose_others_have_not_started() -> None:
    run = Running(pool("slow_to_join", "obedient", bounded=True))
    run.until(lambda: run.children()[0].status is not None)
    assert run.children()[1].process is None
    run.supervisor.stop()
    run.end()


# ----------------------------------------------------------------------------------------------------- health


def test_ready_when_all_have_joined_and_not_while_stopping() -> None:
    run = Running(pool("deaf", "slow_to_join"), shutdown=2)
    run.until_heard()
    assert run.supervisor.readyz() == (False, {"reasons": ["member pool-1 has not joined"]})
    run.supervisor.stop()
    run.until(lambda: "stopping" in run.supervisor.readyz()[1]["reasons"])
    run.end()
    run = Running(pool("obedient", "obedient"))
    run.until_heard()
    assert run.supervisor.readyz() == (True, {"reasons": []})
    assert 'members{group="pool"} 2' in run.supervisor.metrics()
    run.supervisor.stop()
    run.end()


def test_a_member_that_waits_for_its_restart_or_has_just_started_is_live_and_not_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "RESTART_SECONDS", (600.0,))
    run = Running(pool("dies", "silent_at_first"))
    run.until(lambda: run.children()[0].restart_at is not None)
    monkeypatch.setattr(module, "STALE_SECONDS", 0.6)  # the supervisor itself turns every half second
    run.until(lambda: time.monotonic() - run.children()[1].heard > 1.0)
    assert run.supervisor.livez() == (True, {"reasons": []})
    reasons = ["member pool-0 has not joined", "member pool-1 has not joined"]
    assert run.supervisor.readyz() == (False, {"reasons": reasons})
    run.supervisor.stop()
    run.end()


def test_a_fatal_end_is_not_ready_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "code").write_text("3")
    run = Running(pool("deaf", "fails", settings=tmp_path), shutdown=2)
    run.until(lambda: "what to do about 3" in run.supervisor.readyz()[1]["reasons"])
    with pytest.raises(PolicyStop):
        run.end()


def test_alive_while_members_report(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Running(pool("deaf"), shutdown=1.5)
    run.until_heard()
    assert run.supervisor.livez()[0]
    monkeypatch.setattr(module, "STALE_SECONDS", 0.6)  # the supervisor itself turns every half second
    run.until(lambda: not run.supervisor.livez()[0])
    assert run.supervisor.livez()[1]["reasons"][0].startswith("member pool-0 has not turned for")
    run.supervisor.stop()
    run.end()
