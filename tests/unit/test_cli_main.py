"""The command: dispatch, exit codes, what is printed where, and the `config` verb."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from consumer.cli.main import VERBS, main
from consumer.errors import ConfigError, ExitCode, Fenced, PolicyStop, TransientError

ROOT = Path(__file__).parents[2]
Run = Callable[[argparse.Namespace], int]


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Run], None]:
    def install(name: str, run: Run) -> None:
        module = types.ModuleType(f"consumer.cli.{name}")
        module.add_arguments = lambda parser: parser.add_argument("--max", type=int)  # type: ignore[attr-defined]
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"consumer.cli.{name}", module)

    return install


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CONSUMER_")]:
        monkeypatch.delenv(name)


def command(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environ}
    return subprocess.run(
        [sys.executable, "-m", "consumer", *arguments], env=environment, capture_output=True, text=True, check=False
    )


def test_a_verb_gets_its_arguments_and_gives_the_exit_code(verb: Callable[[str, Run], None]) -> None:
    seen: list[argparse.Namespace] = []

    def run(args: argparse.Namespace) -> int:
        seen.append(args)
        return 7

    verb("tail", run)

    assert main(["tail", "--config", "a.toml", "--json", "--max", "3"]) == 7
    assert (seen[0].config, seen[0].json, seen[0].max) == (Path("a.toml"), True, 3)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TransientError("a\nb \x1b[31m"), 1),
        (ConfigError("a\nb \x1b[31m"), 2),
        (PolicyStop("a\nb \x1b[31m"), 3),
        (Fenced("a\nb \x1b[31m"), 4),
    ],
)
def test_an_expected_error_is_one_line_and_its_exit_code(
    verb: Callable[[str, Run], None], capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    def run(args: argparse.Namespace) -> int:
        raise error

    verb("run", run)

    assert main(["run"]) == code
    assert capsys.readouterr() == ("", "checkpoint-consumer: a b \\x1b[31m\n")


@pytest.mark.parametrize(("name", "code"), [("run", 0), ("feed", 130)])
def test_an_interrupt_before_the_verb_handles_it(verb: Callable[[str, Run], None], name: str, code: int) -> None:
    def run(args: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    verb(name, run)

    assert main([name]) == code


def test_an_unexpected_error_is_raised(verb: Callable[[str, Run], None]) -> None:
    def run(args: argparse.Namespace) -> int:
        raise ZeroDivisionError

    verb("run", run)

    with pytest.raises(ZeroDivisionError):
        main(["run"])


@pytest.mark.parametrize(
    "arguments",
    [[], ["rum"], ["run", "--json"], ["demo", "--json"], ["config", "--nonsense"], ["config", "extra"]],
)
def test_wrong_usage_is_exit_2(
    verb: Callable[[str, Run], None], capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    for name in ("run", "demo"):
        verb(name, lambda _: 0)
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert caught.value.code == ExitCode.CONFIGURATION
    assert "usage: checkpoint-consumer" in capsys.readouterr().err


def test_help_names_every_verb_and_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    for argument in ("--help", "--version"):
        with pytest.raises(SystemExit) as caught:
            main([argument])
        assert caught.value.code == 0
    output = capsys.readouterr().out

    assert all(f"    {name} " in output for name in VERBS)
    assert "\ncheckpoint-consumer " in output
    assert f"Python {sys.version_info.major}." in output


def test_config_prints_the_effective_settings_and_their_sources(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[log]\nlevel = 'debug'\n")
    result = command(
        "config",
        "--config",
        str(file),
        CONSUMER_GROUP_ID="g",
        CONSUMER_KAFKA__OPTIONS='{"sasl.password": "hunter2", "client.id": "a b"}',
    )

    assert (result.returncode, result.stderr) == (0, "")
    assert "hunter2" not in result.stdout
    lines = dict(line.split("=", 1) for line in result.stdout.splitlines())
    assert lines["CONSUMER_LOG__LEVEL"].split() == ["debug", "#", "file"]
    assert lines["CONSUMER_GROUP_ID"].split() == ["g", "#", "environment"]
    assert lines["CONSUMER_DLQ_TOPIC"].split() == ["g.dlq", "#", "default"]
    assert lines["CONSUMER_WORKER"].split(maxsplit=1) == ["#", "not set, and run requires it"]
    options, _, source = shlex.split(lines["CONSUMER_KAFKA__OPTIONS"])
    assert (json.loads(options), source) == ({"sasl.password": "***", "client.id": "a b"}, "environment")


def test_config_as_json() -> None:
    result = command("config", "--json", CONSUMER_CONCURRENCY="3")
    printed = json.loads(result.stdout)

    assert printed["CONSUMER_CONCURRENCY"] == {"value": 3, "source": "environment"}
    assert printed["CONSUMER_REDUCER"] == {"value": None, "source": "default"}


def test_a_wrong_setting_is_exit_2_and_one_line() -> None:
    result = command("config", CONSUMER_CONCURENCY="3")

    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == (
        "checkpoint-consumer: CONSUMER_CONCURENCY (from the environment) is no setting: "
        "did you mean CONSUMER_CONCURRENCY? If not, remove it, "
        "or set enableServiceLinks: false where Kubernetes adds it\n"
    )


def test_a_reader_that_has_enough_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        result = subprocess.run(
            [sys.executable, "-m", "consumer", "config"],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writing)

    assert (result.returncode, result.stderr) == (0, "")


def test_a_broken_pipe_of_our_own_is_an_error(
    verb: Callable[[str, Run], None], capfd: pytest.CaptureFixture[str]
) -> None:
    def run(args: argparse.Namespace) -> int:
        raise BrokenPipeError

    verb("run", run)

    with capfd.disabled(), pytest.raises(BrokenPipeError):
        main(["run"])


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_run_could_take_it_is_no_error(verb: Callable[[str, Run], None], kind: signal.Signals) -> None:
    def run(args: argparse.Namespace) -> int:
        signal.raise_signal(kind)
        return 1

    verb("run", run)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so would this
    try:
        assert main(["run"]) == 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_supervisor_s_imports_stay_small() -> None:
    """The command, settings, logs, metrics and health together, with what starting members needs."""
    code = (
        "import consumer.cli.main, consumer.settings, consumer.log, consumer.metrics, consumer.http\n"
        "import multiprocessing.spawn, sys\n"
        "assert not {'confluent_kafka', 'fastavro', 'tomllib', 'difflib'} & set(sys.modules)\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmRSS')).split()[1])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )

    assert result.stderr == ""
    assert int(result.stdout) < 28_000
