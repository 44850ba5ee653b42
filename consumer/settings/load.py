"""Reads settings: arguments win over the environment, the environment over the TOML file, the file over defaults."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

import msgspec

from consumer.errors import ConfigError
from consumer.partitioning import Partitioning
from consumer.settings.check import RUN_REQUIRES, check
from consumer.settings.librdkafka import checked_options
from consumer.settings.model import Paths, Settings, Size, Text, leaf_types
from consumer.settings.names import PREFIX, advice, dotted_name, setting_name
from consumer.settings.secrets import masked
from consumer.settings.start import Start

__all__ = ["load_settings", "load_settings_and_sources"]

_LEAVES = leaf_types()
_GROUPS = frozenset(name.partition(".")[0] for name in _LEAVES if "." in name)
_FILE = "_file"
_UNITS = {"": 1, "kib": 1024, "mib": 1024**2, "gib": 1024**3}
_SIZE = re.compile(r"(\d{1,19})\s*([kmg]ib|)", re.IGNORECASE | re.ASCII)


class _Given(NamedTuple):
    """One value before it is understood."""

    value: Any
    source: Literal["file", "environment", "argument"]
    label: str
    """How an error names it; begins with the environment variable's name."""
    secret: bool = False
    """Read from a `<NAME>_FILE`: an error does not show it."""


def load_settings(
    environ: Mapping[str, str],
    *,
    config_file: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    required: frozenset[str] = RUN_REQUIRES,
) -> Settings:
    """The effective settings, checked one by one and against each other.

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
    required: frozenset[str] = RUN_REQUIRES,
) -> tuple[Settings, dict[str, str]]:
    """`load_settings`, and for every dotted name where its value is from: default, file, environment or argument."""
    given: dict[str, _Given] = {}
    if config_file is not None:
        given.update(_from_mapping(_read_toml(config_file), "file", f" in {config_file}"))
    given.update(_from_environment(environ))
    given.update(_from_mapping(overrides or {}, "argument", " as an argument"))
    settings = _with_computed_defaults({name: _converted(name, entry) for name, entry in given.items()})
    check(settings, required)
    return settings, {name: given[name].source if name in given else "default" for name in _LEAVES}


def _read_toml(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"--config {path} cannot be read ({error.strerror}): give a file that exists") from error
    except ValueError as error:
        raise ConfigError(f"--config {path} is not valid TOML ({error}): correct it") from error


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, _Given]]:
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        name, is_file = _resolved(dotted_name(variable))
        if name not in _LEAVES:
            known = [setting_name(leaf) + suffix for leaf in _LEAVES for suffix in ("", _FILE.upper())]
            raise ConfigError(f"{variable} is no setting: {advice(variable, known)}")
        if is_file and setting_name(name) in environ:
            raise ConfigError(f"{setting_name(name)} and {variable} are both set: remove one of them")
        given = _Given(environ[variable], "environment", setting_name(name))
        yield name, _from_secret_file(given) if is_file else given


def _from_mapping(
    nested: Mapping[str, Any], source: Literal["file", "argument"], where: str, prefix: str = ""
) -> Iterator[tuple[str, _Given]]:
    for key, value in nested.items():
        full = prefix + key.replace("__", ".")
        name, is_file = _resolved(full)
        if source == "argument" and value is None:
            continue
        if name in _LEAVES:
            given = _Given(value, source, f"{setting_name(name)} ({full}{where})")
            yield name, _from_secret_file(given) if is_file else given
        elif full in _GROUPS and isinstance(value, Mapping):
            yield from _from_mapping(value, source, where, f"{full}.")
        elif full in _GROUPS:
            raise ConfigError(f"{full}{where} must be a table of settings, such as {_first_of(full)}")
        else:
            raise ConfigError(f"{full}{where} is no setting: {advice(full, _LEAVES)}")


def _resolved(name: str) -> tuple[str, bool]:
    """The setting's name, and whether it is given as `<NAME>_FILE`."""
    if name not in _LEAVES and name.endswith(_FILE):
        return name.removesuffix(_FILE), True
    return name, False


def _first_of(group: str) -> str:
    return next(name for name in _LEAVES if name.startswith(f"{group}."))


def _from_secret_file(given: _Given) -> _Given:
    label = f"{given.label.partition(' ')[0]}{_FILE.upper()}"
    try:
        text = Path(given.value).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{label}: {given.value} cannot be read ({error.strerror}): mount it, or fix the path"
        ) from error
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{label} must be the path of a file that holds UTF-8 text") from error
    return _Given(text.rstrip("\r\n"), given.source, label, secret=True)


def _converted(name: str, given: _Given) -> Any:
    kind = _LEAVES[name]
    try:
        if name == "kafka.options":
            return checked_options(_options(given.value))
        return _understood(kind, given.value)
    except msgspec.ValidationError as error:
        shown = "" if given.secret else f", not {_shown(given.value)}"
        raise ConfigError(f"{given.label} must be {_expected(kind)}{shown}") from error
    except ValueError as error:
        raise ConfigError(f"{given.label} {error}") from error


def _understood(kind: Any, value: Any) -> Any:
    if kind in (Start, Partitioning):
        return value if isinstance(value, kind) else kind.parse(_text(value))
    if get_origin(kind) is dict:
        return _options(value)
    if kind == Paths:
        return _paths(value)
    if kind == Text:
        return _text(value) or None
    if kind == Size and isinstance(value, str) and (size := _SIZE.fullmatch(value.strip())):
        value = int(size[1]) * _UNITS[size[2].lower()]
    return msgspec.convert(value.strip() if isinstance(value, str) else value, kind, strict=False)


def _text(value: Any) -> str:
    return msgspec.convert(value, str).strip()


def _paths(value: Any) -> tuple[str, ...]:
    parts = value.split(os.pathsep) if isinstance(value, str) else value
    if isinstance(parts, (list, tuple)):
        parts = [os.fspath(part) if isinstance(part, os.PathLike) else part for part in parts if part != ""]
    paths: tuple[str, ...] = msgspec.convert(parts, Paths)
    return paths


def _options(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            # msgspec's text gives the position of the fault, not the content, which may be a secret.
            raise ValueError(f'must be a JSON object, such as {{"name": "value"}} ({error})') from None
    if not isinstance(value, Mapping):
        raise ValueError('must be a JSON object, such as {"name": "value"}')  # noqa: TRY004 - the text is what counts
    return dict(value)


def _expected(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(get_args(kind))
    described: list[str] = [meta.description or "" for meta in get_args(kind)[1:] if isinstance(meta, msgspec.Meta)]
    return described[0] if described else {bool: "true or false"}.get(kind, "text")


def _shown(value: Any) -> str:
    return repr(masked(value) if isinstance(value, str) else value)[:80]


def _with_computed_defaults(values: dict[str, Any]) -> Settings:
    group = values.get("group_id")
    if group and not values.get("dlq_topic"):
        values["dlq_topic"] = f"{group}.dlq"
    if not values.get("instance_id"):
        values["instance_id"] = os.uname().nodename
    nested: dict[str, Any] = {}
    for name, value in values.items():
        *groups, leaf = name.split(".")
        reduce(lambda table, group: table.setdefault(group, {}), groups, nested)[leaf] = value
    defaults = Settings()
    return msgspec.structs.replace(
        defaults,
        **{
            name: msgspec.structs.replace(getattr(defaults, name), **value) if name in _GROUPS else value
            for name, value in nested.items()
        },
    )
