"""Which type a worker's messages and a reducer's results have, as far as their annotations say."""

from __future__ import annotations

import types
import typing
from collections.abc import Awaitable, Coroutine
from typing import Any, get_args, get_origin

from consumer.reducer import Reducer
from consumer.worker import Output, Worker

__all__ = ["message_type_of", "result_type_of"]


def message_type_of(owner: type) -> type | None:
    """The Message of a `Worker` or `Reducer` class; None where nothing says it.

    `class W(Worker[Message])` says it, else the return annotation of a worker's `process_checkpoint`.
    """
    argument = _argument(owner, 0)
    if argument is None and issubclass(owner, Worker):
        return _returned(owner.process_checkpoint)
    return argument


def result_type_of(reducer: type[Reducer[Any, Any]]) -> type | None:
    """The Result of a `Reducer` class: of `Reducer[Message, Result]`, else of the return annotation of `commit`."""
    return _argument(reducer, 1) or _returned(reducer.commit)


def _argument(owner: type, position: int) -> type | None:
    """The class given for the `position`-th type parameter of Worker or Reducer, the nearest in the MRO."""
    for cls in owner.__mro__:
        for base in cls.__dict__.get("__orig_bases__", ()):
            origin, arguments = get_origin(base), get_args(base)
            if isinstance(origin, type) and issubclass(origin, Worker | Reducer) and len(arguments) > position:
                return _class(arguments[position])
    return None


def _returned(method: Any) -> type | None:
    """The one class in a return annotation like `Message | list[Message] | None`, also of an `async def`."""
    try:
        annotation = typing.get_type_hints(method).get("return")
    except NameError:
        return None
    classes = {cls for cls in _leaves(annotation) if cls is not type(None)}
    return _class(classes.pop()) if len(classes) == 1 else None


def _leaves(annotation: Any) -> list[Any]:
    """What an annotation holds inside unions, lists, awaitables and Output."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Coroutine, typing.Coroutine):
        return _leaves(arguments[-1])
    if origin in (typing.Union, types.UnionType, list, Awaitable, Output):
        return [leaf for argument in arguments for leaf in _leaves(argument)]
    return [annotation]


def _class(annotation: Any) -> type | None:
    """The annotation where it is a class of its own, not a built-in, a type variable or Any."""
    is_own = isinstance(annotation, type) and annotation.__module__ != "builtins" and annotation is not Any
    return annotation if is_own else None
