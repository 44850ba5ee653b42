"""Keeps secrets out of everything that is printed: values are masked by their key, and by what they look like."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["MASK", "masked"]

MASK = "***"

_SECRET_KEY = re.compile(
    r"passw|passphrase|pwd|secret|token|credential|authorization|jaas|user[._-]?info|sasl\.username|oauthbearer\.config"
    r"|\.pem$|(^|[._-])auth$|((ssl|tls|api|access|private|signing|encryption)[._-]?key)",
    re.IGNORECASE,
)
_REFERENCE_KEY = re.compile(r"[._-](location|file|path|url|source)$", re.IGNORECASE)
"""Says where a secret is, not what it is."""

_USERINFO = re.compile(r"://\S*@")
_ASSIGNMENT = re.compile(
    r"""\b(\w*(?:passw|passphrase|pwd|secret|token|credential|api_?key)\w*)\s*=\s*("[^"]*"|'[^']*'|[^\s;,&]+)""",
    re.IGNORECASE,
)


def masked(value: Any, key: str = "") -> Any:
    """`value` with every secret in it replaced by `***`; `key` is the name that it goes by."""
    if _SECRET_KEY.search(key) and not _REFERENCE_KEY.search(key):
        return MASK
    if isinstance(value, Mapping):
        return {name: masked(entry, str(name)) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(entry) for entry in value]
    if not isinstance(value, str):
        return value
    if "-----BEGIN" in value:
        return MASK
    return _ASSIGNMENT.sub(rf"\1={MASK}", _USERINFO.sub(f"://{MASK}@", value))
