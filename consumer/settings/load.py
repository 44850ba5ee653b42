"""Reads settings: arguments win over the environment, the environment over the TOML file, the file over defaults."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from consumer.errors import ConfigError
from consumer.partitioning import Partitioning
from consumer.settings.check import RUN_REQUIRES, check
from consumer.settings.model import (
    PREFIX,
    Options,
    Partitions,
    Paths,
    Settings,
    Starts,
    TextOptions,
    as_text,
    expected,
    leaf_types,
    setting_name,
)
from consumer.settings.start import Start

__all__ = ["load_settings", "load_settings_and_sources"]

_LEAVES = leaf_types()
_FILE = "_file"

_FROM_TEXT: Mapping[Any, Callable[[str], Any]] = {
    Options: msgspec.json.decode,
    TextOptions: msgspec.json.decode,
    Paths: lambda text: [path for path in text.split(os.pathsep) if path],
    Starts: Start.parse,
    Partitions: Partitioning.parse,
}
"""How text becomes a value of these types; msgspec knows the others."""


def load_settings(
    environ: Mapping[str, str],
    *,
    config_file: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    required: Collection[str] = RUN_REQUIRES,
) -> Settings:
    """The effective settings, checked one by one and against each other. An empty text is the default.

    Args:
        environ: variables that do not begin with `CONSUMER_` are left alone.
        config_file: a TOML file with the same names in lower case; groups are tables.
        overrides: explicit arguments, nested or flat (`batch__max_messages`); a None is not given.
        required: dotted names of the settings that must be there.

    Raises:
        ConfigError: in one line that names the setting, says what to do, and holds no secret.
    """
    return load_settings_and_sources(environ, config_file=config_file, overrides=overrides, required=required)[0]


def load_settings_and_sources(
    environ: Mapping[str, str],
    *,
    config_file: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    required: Collection[str] = RUN_REQUIRES,
) -> tuple[Settings, dict[str, str]]:
    """`load_settings`, and for every dotted name where its value is from: default, file, environment or argument.

    `file PATH` is the file that the variable, or the entry, `..._FILE` names.
    """
    found: dict[str, Any] = {}
    sources = dict.fromkeys(_LEAVES, "default")
    for source, entries in (
        ("file", _toml(config_file) if config_file else {}),
        ("environment", {name.removeprefix(PREFIX).lower(): environ[name] for name in environ if name[:9] == PREFIX}),
        ("argument", overrides or {}),
    ):
        for name, value, origin in _known(dict(_flat(entries, _LEAVES)), source):
            found[name], sources[name] = value, origin
    given = {name: value for name, value in found.items() if value != ""}
    given.setdefault("instance_id", os.uname().nodename)
    if "group_id" in given:
        given.setdefault("dlq_topic", f"{given['group_id']}.dlq")
    nested: dict[str, Any] = {}
    for name, value in given.items():
        group, _, inner = name.rpartition(".")
        table = nested.setdefault(group, {}) if group else nested
        table[inner] = _converted(name, value, sources[name])
    settings = msgspec.convert(nested, Settings)
    check(settings, required)
    return settings, sources


def _toml(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--config {path} cannot be read as TOML ({error}): correct it, or the path") from error


def _flat(table: Mapping[str, Any], whole: Collection[str] = (), prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of nested tables by dotted name; what is named in `whole` stays together."""
    for key, value in table.items():
        name = prefix + key.replace("__", ".")
        if isinstance(value, Mapping) and name not in whole:
            yield from _flat(value, whole, f"{name}.")
        else:
            yield name, value


def _known(entries: Mapping[str, Any], source: str) -> Iterator[tuple[str, Any, str]]:
    """What is given, by the settings' own names, and where it is from: files are read, unknown names refused."""
    for name, value in entries.items():
        setting = name if name in _LEAVES else name.removesuffix(_FILE)
        if setting not in _LEAVES:
            from difflib import get_close_matches

            nearest = setting_name(get_close_matches(setting, _LEAVES, n=1, cutoff=0)[0])
            raise ConfigError(
                f"{setting_name(name)} (from the {source}) is no setting: did you mean {nearest}? If not, remove it, "
                "or set enableServiceLinks: false where Kubernetes adds it"
            )
        if value is None:
            continue
        if setting != name and setting in entries:
            raise ConfigError(f"{setting_name(setting)} and {setting_name(name)} are both set: remove one of them")
        if value and setting != name:
            yield setting, _content(setting_name(name), value), f"file {value}"
        else:
            yield setting, value, source


def _content(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{variable} must be the path of a text file ({error}): mount it, or fix the path") from error


def _converted(name: str, value: Any, source: str) -> Any:
    kind = _LEAVES[name]
    try:
        if isinstance(value, str):
            value = _FROM_TEXT.get(kind, str)(value.strip())
        if kind is TextOptions and isinstance(value, Mapping):
            value = {option: as_text(entry) for option, entry in _flat(value)}
        return msgspec.convert(value, kind, strict=False)
    except (msgspec.MsgspecError, ValueError):
        # Without the value and without msgspec's own text: both may hold a secret.
        raise ConfigError(f"{setting_name(name)} (from the {source}) must be {expected(kind)}") from None
