"""`CONSUMER_KAFKA__OPTIONS`: which librdkafka options a user may not give, why, and what to use instead.

Whether an option exists at all, and what values it takes, is librdkafka's to say when a client is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["checked_options"]

_COMMITS = "offsets are committed with the output, in the same transaction; leave it out"
_STARTS = "use CONSUMER_START; an offset out of range always stops the partition"
_RUNS_CODE = "it makes the client run code from outside; leave it out"

# A name that ends in `*` stands for all that begin so. Topic-level and old spellings stand beside the usual ones.
_REFUSED: Mapping[str, str] = {
    "bootstrap.servers": "use CONSUMER_KAFKA__BOOTSTRAP_SERVERS",
    "metadata.broker.list": "use CONSUMER_KAFKA__BOOTSTRAP_SERVERS",
    "group.id": "use CONSUMER_GROUP_ID",
    "group.protocol": "use CONSUMER_KAFKA__GROUP_PROTOCOL",
    "group.instance.id": "use CONSUMER_STATIC_MEMBERSHIP and CONSUMER_INSTANCE_ID",
    "transactional.id": "it is made of CONSUMER_GROUP_ID and CONSUMER_INSTANCE_ID",
    "enable.idempotence": "it is always on; leave it out",
    "isolation.level": "the input is always read read_committed; leave it out",
    "enable.auto.commit": _COMMITS,
    "auto.commit.enable": _COMMITS,
    "auto.commit.interval.ms": _COMMITS,
    "enable.auto.offset.store": _COMMITS,
    "offset.store.*": _COMMITS,
    "auto.offset.reset": _STARTS,
    "partition.assignment.strategy": "classic groups always use cooperative-sticky; use CONSUMER_KAFKA__GROUP_PROTOCOL",
    "partitioner": "the output partition follows the input partition; leave it out",
    "allow.auto.create.topics": "topics must exist; leave it out",
    "default.topic.config": "give the options in it directly",
    "plugin.library.paths": _RUNS_CODE,
    "sasl.kerberos.kinit.cmd": _RUNS_CODE,
    "ssl.engine.*": _RUNS_CODE,
    "ssl.providers": _RUNS_CODE,
}


def checked_options(options: Mapping[str, Any]) -> dict[str, str]:
    """The options as the text that librdkafka takes; nested tables are joined with dots, as TOML reads `a.b = 1`.

    Raises:
        ValueError: names the option, never its value, and says what to do instead.
    """
    checked: dict[str, str] = {}
    for name, value in _flattened(options, ""):
        reason = _refusal(name)
        if reason is not None:
            raise ValueError(f"may not hold {name}: {reason}")
        checked[name] = _as_text(name, value)
    timeout = checked.get("transaction.timeout.ms")
    if timeout is not None and not (timeout.isascii() and timeout.isdigit()):
        raise ValueError("must hold a whole number of milliseconds as transaction.timeout.ms")
    return checked


def _flattened(options: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for name, value in options.items():
        if isinstance(value, Mapping):
            flat.extend(_flattened(value, f"{prefix}{name}."))
        else:
            flat.append((f"{prefix}{name}", value))
    return flat


def _refusal(name: str) -> str | None:
    for refused, reason in _REFUSED.items():
        if name == refused or (refused.endswith("*") and name.startswith(refused[:-1])):
            return reason
    return None


def _as_text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int)):
        return str(value)
    raise ValueError(f"must hold text, a whole number or true/false as {name}")
