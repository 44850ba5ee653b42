"""From an attribute's dotted name to its environment variable and back to the nearest one."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["PREFIX", "advice", "dotted_name", "setting_name"]

PREFIX = "CONSUMER_"

# What Kubernetes injects for every Service in the namespace: a Service called `consumer` looks like our settings.
_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)(_|$)|_PORT(_\d+_(TCP|UDP|SCTP)(_|$)|$)")


def setting_name(dotted: str) -> str:
    """`batch.max_messages` to `CONSUMER_BATCH__MAX_MESSAGES`."""
    return PREFIX + dotted.upper().replace(".", "__")


def dotted_name(variable: str) -> str:
    """`CONSUMER_BATCH__MAX_MESSAGES` to `batch.max_messages`; what is not written so has none: empty."""
    if not re.fullmatch(r"[A-Z_]+", variable):
        return ""
    return variable.removeprefix(PREFIX).lower().replace("__", ".")


def advice(unknown: str, known: Iterable[str]) -> str:
    """What to do about an unknown name: the nearest known one, or how to keep Kubernetes from adding it."""
    from difflib import SequenceMatcher

    if unknown.startswith(PREFIX) and _SERVICE_LINK.search(unknown):
        return "remove it; where Kubernetes adds it for a Service, set enableServiceLinks: false in the pod"
    nearness = SequenceMatcher(b=unknown.removeprefix(PREFIX))

    def ratio(name: str) -> float:
        nearness.set_seq1(name.removeprefix(PREFIX))
        return nearness.ratio()

    return f"did you mean {max(known, key=ratio)}? If not, remove it"
