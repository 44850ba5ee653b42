"""`run`: join the group and process until SIGTERM, or up to a limit."""

from __future__ import annotations

import argparse
import os

from consumer.cli.first import run_as_child
from consumer.errors import ConfigError, Stop
from consumer.executor import Executor, WorkerPool
from consumer.limits import CaughtUp, EndOfEpoch, MaxCheckpoint, Until
from consumer.log import configure
from consumer.settings import load_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The limits; everything else is a setting."""
    limits = parser.add_mutually_exclusive_group()
    limits.add_argument("--until-checkpoint", type=int, metavar="N", help="stop after checkpoint N")
    limits.add_argument("--until-epoch", type=int, metavar="E", help="stop after the last checkpoint of epoch E")
    limits.add_argument("--until-caught-up", action="store_true", help="stop at the end offsets of the start")
    parser.add_argument(
        "--fail-when-stopped",
        action="store_true",
        help="with a limit: exit 1 where SIGTERM or SIGINT came before it was reached (for a Job, a script)",
    )


def run(args: argparse.Namespace) -> int:
    """Run until stopped or done; raises Stop with the exit code."""
    if args.fail_when_stopped and _until(args) is None:
        raise ConfigError("--fail-when-stopped needs a limit: --until-checkpoint, --until-epoch or --until-caught-up")
    return run_as_child(lambda: _run(args)) if os.getpid() == 1 else _run(args)


def _run(args: argparse.Namespace) -> int:
    settings = load_settings(os.environ, config_file=args.config)
    configure(settings.log, group=settings.group_id)
    executor = Executor(config_file=args.config)
    executor.register(WorkerPool(settings.worker, settings.group_id, settings.concurrency, settings.reducer))
    executor.run(_until(args))
    if args.fail_when_stopped and not executor.complete:
        raise Stop("stopped before its limit: run it again, and it goes on where it has committed")
    return 0


def _until(args: argparse.Namespace) -> Until | None:
    if args.until_checkpoint is not None:
        return MaxCheckpoint(args.until_checkpoint)
    if args.until_epoch is not None:
        return EndOfEpoch(args.until_epoch)
    return CaughtUp() if args.until_caught_up else None
