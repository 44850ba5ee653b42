"""`config`: the effective settings, secrets masked, and where each is from."""

from __future__ import annotations

import argparse
import json
import os
import shlex

from consumer.settings import RUN_REQUIRES, as_text, load_settings_and_sources, setting_name

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
        entries = {setting_name(n): {"value": values[n], "source": sources[n]} for n in values}
        print(json.dumps(entries, default=str))
        return 0
    for name, value in values.items():
        text = as_text(value)
        missing = not text and name in RUN_REQUIRES
        line = f"{setting_name(name)}={shlex.quote(text) if text else ''}"
        print(f"{line:<60}  # {'not set, and run requires it' if missing else sources[name]}")
    return 0
