"""How user code is called: inline, as a coroutine, or on a thread, whatever it raises."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

from consumer.core.messages import FailureKind
from consumer.errors import PermanentError, TransientError
from consumer.worker import Worker

FAILURES = (Exception, SystemExit, asyncio.CancelledError)
"""What user code may raise without ending the member: the last two are not `Exception`s, and no more than failures.

A cancellation comes out of user code that awaits something cancelled; left alone it would end the task without a word,
and its checkpoint would be waited for without end.
"""


class Calls:
    """The worker of one member. `inline`: its methods may be called right where they are needed, without a task.

    Plain methods run on threads where more than one checkpoint is in flight, else on the work thread.
    """

    def __init__(self, worker: Worker[Any], max_in_flight: int) -> None:
        self.hooked = type(worker).preprocess_hook is not Worker.preprocess_hook
        self.hook: Callable[[Any], Any] = worker.preprocess_hook
        self.process: Callable[[Any], Any] = worker.process_checkpoint
        self._hook_is_async = inspect.iscoroutinefunction(worker.preprocess_hook)
        self._process_is_async = inspect.iscoroutinefunction(worker.process_checkpoint)
        self.inline = max_in_flight == 1 and not self._process_is_async and not self._hook_is_async
        threaded = not self._process_is_async or (self.hooked and not self._hook_is_async)
        self._threads: ThreadPoolExecutor | None = None
        if max_in_flight > 1 and threaded:
            self._threads = ThreadPoolExecutor(max_in_flight, thread_name_prefix="worker")

    async def hook_beside(self, checkpoint: Any) -> None:
        """Run the hook while other checkpoints are under way."""
        if self.hooked:
            await self._call(self.hook, self._hook_is_async, checkpoint)

    async def process_beside(self, checkpoint: Any) -> Any:
        """Run the worker while other checkpoints are under way."""
        return await self._call(self.process, self._process_is_async, checkpoint)

    async def _call(self, function: Callable[[Any], Any], is_async: bool, checkpoint: Any) -> Any:
        if is_async:
            return await function(checkpoint)
        if self._threads is None:
            return function(checkpoint)
        return await on_thread(self._threads, function, checkpoint)

    def close(self) -> None:
        """Let the threads end; a call that still runs is not waited for."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)


async def on_thread(threads: Executor, function: Callable[..., Any], argument: Any) -> Any:
    """Run a plain function on a thread and wait for it without holding up the loop."""
    return await asyncio.get_running_loop().run_in_executor(threads, _contained, function, argument)


def _contained(function: Callable[[Any], Any], argument: Any) -> Any:
    # A future refuses a StopIteration, and whoever waits for it would wait without end (Python 3.11).
    try:
        return function(argument)
    except StopIteration as error:
        raise RuntimeError(f"{function.__qualname__} raised StopIteration") from error


def kind_of(error: BaseException) -> FailureKind:
    """How the state machine is to treat what was raised."""
    if isinstance(error, TransientError):
        return FailureKind.TRANSIENT
    return FailureKind.PERMANENT if isinstance(error, PermanentError) else FailureKind.RETRIABLE


async def maybe(result: Awaitable[None] | None) -> None:
    """Await what an `async def` returned; a plain `def` has returned already."""
    if result is not None:
        await result
