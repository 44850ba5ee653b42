"""The command: finds the verb, runs it, and turns what it raises into an exit code and at most one line.

A verb is a module with `add_arguments(parser)` and `run(args) -> int`, imported only when it is the one asked for,
so that `run` loads nothing of the others.
"""

from __future__ import annotations

import argparse
import os
import platform
import select
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from consumer.errors import ExitCode, Stop, TransientError

__all__ = ["VERBS", "main"]

PROGRAM = "checkpoint-consumer"

VERBS = {
    "run": "join the group and process until SIGTERM, or up to a limit",
    "demo": "the whole pipeline on an embedded broker; needs nothing but this package",
    "feed": "publish checkpoint files to the input topic",
    "tail": "print output records as JSON lines",
    "dlq": "dead letters: list, show, and resume after a stop by their limit",
    "config": "print the effective settings, secrets masked",
}
_WITHOUT_JSON = frozenset({"run", "demo"})
_ENDED_BY_SIGNALS = frozenset({"run", "demo"})
"""Verbs that SIGINT and SIGTERM end with exit 0, also before they could take the signal themselves."""
_INTERRUPTED = 130
"""What shells report for a program that SIGINT ended."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code (see `consumer.errors.ExitCode`).

    An expected error is one line on stderr; any other is raised, which Python reports with a traceback and exit 1.

    Raises:
        SystemExit: by argparse: wrong usage (2), `--help`, `--version` (0).
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    verb = next((argument for argument in arguments if not argument.startswith("-")), "")
    if verb in _ENDED_BY_SIGNALS:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # until they have handlers of their own
    try:
        module = import_module(f"consumer.cli.{verb}") if verb in VERBS else None
        args = _parser(verb, module).parse_args(arguments)
        code: int = args.run(args)
        sys.stdout.flush()
    except (Stop, TransientError) as error:
        print(f"{PROGRAM}: {_one_line(str(error))}", file=sys.stderr)
        return error.exit_code if isinstance(error, Stop) else ExitCode.UNEXPECTED
    except KeyboardInterrupt:
        # These handle signals by themselves; this one came before they could.
        return ExitCode.DONE if verb in _ENDED_BY_SIGNALS else _INTERRUPTED
    except BrokenPipeError:
        if not _reader_has_gone():
            raise
        # Whoever reads our output, such as `head`, has enough. Without this Python complains at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.DONE
    return code


def _parser(chosen: str, module: Any) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Kafka checkpoints in, Avro out, exactly once.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for verb, text in VERBS.items():
        sub = verbs.add_parser(verb, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if verb == chosen:
            sub.add_argument("--config", type=Path, metavar="FILE", help="TOML file of settings; the environment wins")
            if verb not in _WITHOUT_JSON:
                sub.add_argument("--json", action="store_true", help="print JSON")
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    return parser


class _Version(argparse.Action):
    """Looks the version up only when it is asked for: the look-up costs every process 2 MB."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib import metadata

        try:
            version = metadata.version(PROGRAM)
        except metadata.PackageNotFoundError:
            version = "(not installed: run from a checkout)"
        print(f"{PROGRAM} {version}, Python {platform.python_version()}")
        parser.exit()


def _one_line(text: str) -> str:
    words = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in words)


def _reader_has_gone() -> bool:
    """Whether stdout's other end is closed; a broken pipe to a member process would be a fault of our own."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
