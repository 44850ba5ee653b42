"""Which type a worker's messages and a reducer's results have: what stands in `Worker[...]` and `Reducer[...]`."""

from __future__ import annotations

from typing import Any, get_args, get_origin

from consumer.reducer import Reducer
from consumer.worker import Worker

__all__ = ["message_type_of", "result_type_of"]


def message_type_of(owner: type) -> type | None:
    """The Message of a `Worker` or `Reducer` class; None where its bases do not say it."""
    return _argument(owner, 0)


def result_type_of(reducer: type[Reducer[Any, Any]]) -> type | None:
    """The Result of a `Reducer` class; None where its bases do not say it."""
    return _argument(reducer, 1)


def _argument(owner: type, position: int) -> type | None:
    """The class given for the `position`-th type parameter of Worker or Reducer, the nearest in the MRO."""
    for cls in owner.__mro__:
        for base in cls.__dict__.get("__orig_bases__", ()):
            origin, arguments = get_origin(base), get_args(base)
            if isinstance(origin, type) and issubclass(origin, Worker | Reducer) and len(arguments) > position:
                argument = arguments[position]
                own = isinstance(argument, type) and argument.__module__ != "builtins" and argument is not Any
                return argument if own else None
    return None
