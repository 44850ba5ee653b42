"""What users name a worker or reducer by: a class, a factory or an import path that a fresh process can make again."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

Target = str | Callable[..., Any]
"""A class, a factory, or an import path `package.module:Name`."""


def check_target(target: Any, base: type, name: str) -> Target:
    """See that `target` can be made again in a fresh process.

    Raises:
        TypeError: it is an instance, a lambda or local class, or nothing that can be called.
    """
    if isinstance(target, str):
        return target
    if isinstance(target, base):
        raise TypeError(
            f"{name} is an instance of {type(target).__name__}: give the class, a factory or an import path; "
            f"each member makes its own, with CONSUMER_{name.upper()}_OPTIONS"
        )
    if not callable(target):
        raise TypeError(f"{name} must be a class, a factory or an import path, not {type(target).__name__}")
    check_importable(target, name)
    made: Target = target
    return made


def check_importable(target: Any, name: str) -> None:
    """Raises TypeError where a member process could not import `target`."""
    try:
        pickle.dumps(target)
    except (pickle.PicklingError, AttributeError, TypeError):
        raise TypeError(
            f"{name} {getattr(target, '__qualname__', target)!r} cannot be imported in a fresh process (members are "
            "spawned): define it at the top level of a module, not as a lambda or inside a function"
        ) from None
