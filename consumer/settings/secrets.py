"""Keeps secrets out of everything that is printed: values are masked by their key, and by what they look like."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["masked"]

MASK = "***"

# But not a key that only says where the secret is, such as `ssl.key.location`.
_SECRET_KEY = re.compile(
    r"(?!.*[._-](location|file|path|url|source)$)"
    r".*(passw|passphrase|pwd|secret|token|credential|auth\b|authorization|jaas|user[._-]?info|sasl\.username"
    r"|oauthbearer\.config|\.pem$|(ssl|tls|api|access|private|signing|encryption)[._-]?key)",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(
    r"(://\S*@|-----BEGIN|\w*(passw|passphrase|pwd|secret|token|credential|api_?key)\w*\s*=)", re.IGNORECASE
)
"""A URL with a user, a private key, or a connection string such as `host=db password=...`."""


def masked(value: Any, key: str = "") -> Any:
    """`value` with every secret in it replaced by `***`; `key` is the name that it goes by."""
    if _SECRET_KEY.match(key) or (isinstance(value, str) and _SECRET_TEXT.search(value)):
        return MASK
    if isinstance(value, Mapping):
        return {name: masked(entry, str(name)) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(entry) for entry in value]
    return value
