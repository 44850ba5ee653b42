"""`config`: the effective settings, secrets masked, and where each is from."""

from __future__ import annotations

import argparse
import json
import os
import shlex

from consumer.settings import RUN_REQUIRES, load_settings_and_sources, setting_name
from consumer.settings.model import as_text

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`config` takes nothing but `--config` and `--json`."""


def run(args: argparse.Namespace) -> int:
    """Print every setting; those that `run` requires may be missing.

    Raises:
        ConfigError: a setting is wrong.
    """
    settings, sources = load_settings_and_sources(os.environ, config_file=args.config, required=frozenset())
    values = settings.masked()
    if args.json:
        print(json.dumps({setting_name(n): {"value": value, "source": sources[n]} for n, value in values.items()}))
        return 0
    lines = {name: f"{setting_name(name)}={_quoted(as_text(value))}" for name, value in values.items()}
    width = max(map(len, lines.values()))
    for name, line in lines.items():
        missing = name in RUN_REQUIRES and values[name] in (None, "")
        print(f"{line:<{min(width, 60)}}  # {'not set, and run requires it' if missing else sources[name]}")
    return 0


def _quoted(text: str) -> str:
    return shlex.quote(text) if text else ""
