"""The supervisor: starts members, restarts one that dies, tells them to stop, and bounds how long that takes.

It is there also for one member. It never touches Kafka, and user code only where the user's own program is the
supervisor. Members are spawned, never forked: a fork would share the parent's locks and sockets.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from consumer import hangs
from consumer.errors import ConfigError, ExitCode, Fenced, PolicyStop, Stop
from consumer.hangs import Hang
from consumer.log import get_logger
from consumer.metrics import Aggregate, Metrics
from consumer.protocol import Alone, Failure, Spec, Status, Told

log = get_logger("consumer.supervisor")

TURN_SECONDS = 0.5
STALE_SECONDS = 45.0
"""Not live: a loop that has not turned for so long. A member is killed and started again before, see `hangs.py`."""
PAUSED_SECONDS = 5.0
"""A turn that took so long: this process was stopped, perhaps with its members, who have said nothing meanwhile."""
RESTART_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
HEALTHY_SECONDS = 60.0
EXIT_MARGIN_SECONDS = 0.5
"""Members are killed this long before the time is up, so that the supervisor still ends within it."""
KILL_SECONDS = 0.4
"""For the kernel to end members that were killed; one that waits for a disk may take longer."""
_FINAL = {int(kind.exit_code): kind for kind in (ConfigError, PolicyStop, Fenced)}


@dataclass(slots=True, eq=False)
class Child:
    """One member slot and the process that fills it at the moment."""

    pool: str
    spec: Spec
    entry: Callable[[Spec, Connection, Connection], None]
    call_seconds: float = math.inf
    """`CONSUMER_WATCHDOG__CALL_SECONDS`."""
    process: BaseProcess | None = None
    pipe: Connection | None = None
    stacks: Connection | None = None
    hang: Hang | None = None
    started: float = 0.0
    heard: float = 0.0
    restarts: int = 0
    restart_at: float | None = None
    status: Status | None = None
    failure: Failure | None = None
    done: bool = False

    @property
    def name(self) -> str:
        """For logs: pool and index."""
        return f"{self.pool}-{self.spec.index}"


@dataclass(slots=True)
class Pool:
    """What the supervisor knows of one pool."""

    name: str
    children: list[Child]
    bounded: bool
    ended: set[int] = field(default_factory=set)
    progress: dict[int, tuple[int, int | None]] = field(default_factory=dict)
    limit_reached: bool = False
    stopping: bool = False

    @property
    def complete(self) -> bool:
        """Whether a bounded run has finished every partition."""
        known = [child.status.partitions for child in self.children if child.status and child.status.partitions]
        return self.bounded and bool(known) and len(self.ended) >= known[0]


class Supervisor:
    """Runs the members of all pools until they are done, told to stop, or one of them fails for good."""

    def __init__(self, pools: Sequence[Pool], shutdown_seconds: float) -> None:
        self.pools = list(pools)
        self.aggregate = Aggregate()
        self._shutdown_seconds = shutdown_seconds
        self._context = multiprocessing.get_context("spawn")
        self._wake_read, self._wake_write = self._context.Pipe(duplex=False)
        os.set_blocking(self._wake_write.fileno(), False)
        self._signals = 0
        self._kill_at: float | None = None
        self._final: Stop | None = None
        self._turned = time.monotonic()
        self._own = {pool.name: Metrics() for pool in self.pools}

    # --------------------------------------------------------------------------------------------- interface

    def stop(self) -> None:
        """Ask for an orderly end; a second time: at once. From any thread or signal handler."""
        self._signals += 1
        try:
            self._wake_write.send_bytes(b"!")
        except BlockingIOError:
            return  # the pipe is full: it will wake up

    def run(self) -> None:
        """Block until every member has ended.

        Raises:
            Stop: a member failed for good, with its exit code and message; or a second stop cut the first one short.
        """
        with self._handling_signals():
            try:
                for pool in self.pools:
                    for child in pool.children[: 1 if pool.bounded else None]:
                        self._start(child)
                while any(not child.done for child in self._children()):
                    self._turn()
            finally:
                self._kill_all()
        if self._final is not None:
            raise self._final

    def livez(self) -> tuple[bool, dict[str, Any]]:
        """Whether the loops turned recently, here and in every member that runs; Kafka does not matter."""
        now = time.monotonic()
        reasons = [
            f"member {child.name} has not turned for {now - child.heard:.0f} s"
            for child in self._children()
            if child.process is not None and child.status is not None and now - child.heard > STALE_SECONDS
        ]
        if now - self._turned > STALE_SECONDS:
            reasons.append(f"the supervisor has not turned for {now - self._turned:.0f} s")
        return not reasons, {"reasons": reasons}

    def readyz(self) -> tuple[bool, dict[str, Any]]:
        """Whether every member has joined its group and nothing is stopping; no partition is ready, too."""
        reasons = ["stopping"] if self._kill_at is not None else []
        reasons += [str(self._final)] if self._final is not None else []
        reasons += [
            f"member {child.name} has not joined"
            for child in self._children()
            if not child.done and (child.status is None or not child.status.joined)
        ]
        return not reasons, {"reasons": reasons}

    def metrics(self) -> str:
        """All members' metrics as Prometheus text."""
        for pool in self.pools:
            own = self._own[pool.name]
            own.set("members", sum(child.process is not None for child in pool.children))
            self.aggregate.update(pool.name, "supervisor", own.snapshot())
        return self.aggregate.render()

    # ---------------------------------------------------------------------------------------------- the loop

    def _turn(self) -> None:
        now = self._turned = time.monotonic()
        self._obey(now)
        for child in self._children():
            if child.restart_at is not None and now >= child.restart_at:
                self._start(child)
        pipes: dict[Any, Child] = {child.pipe: child for child in self._children() if child.pipe is not None}
        sentinels = [child.process.sentinel for child in self._children() if child.process is not None]
        ready = set(wait([*pipes, *sentinels, self._wake_read], self._timeout(now)))
        if self._wake_read in ready:
            self._wake_read.recv_bytes()
        for pipe in ready.intersection(pipes):
            self._hear(pipes[pipe])
        for child in self._children():
            # Asked of the system: processes that user code forked keep the sentinel of a member that died open.
            if child.process is not None and child.process.exitcode is not None:
                self._bury(child)
        for pool in self.pools:
            self._coordinate(pool)
        if self._kill_at is None:
            self._kill_hanging(time.monotonic())

    def _kill_hanging(self, now: float) -> None:
        """A member that cannot mend itself is started again; one that is told to stop has a deadline anyway."""
        paused = now - self._turned > PAUSED_SECONDS
        for child in self._children():
            if paused:
                child.heard = now
            if child.process is None or child.hang is not None:
                continue
            child.hang = hangs.find(child.status, now - child.heard, child.call_seconds, now)
            if child.hang is not None:
                assert child.stacks is not None
                assert child.process.pid is not None
                stack = hangs.stacks(child.process.pid, child.stacks)
                log.error("member hangs, it is killed", member=child.name, why=child.hang.why, stack=stack)
                child.process.kill()

    def _obey(self, now: float) -> None:
        """What signals and the deadline ask for."""
        if self._signals and self._kill_at is None:
            self._stop_all(now)
        elif self._signals > 1:
            self._final = self._final or Stop("stopped at once by a second signal")
            self._kill_all()
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_all()

    def _timeout(self, now: float) -> float:
        due = [child.restart_at for child in self._children() if child.restart_at is not None]
        if self._kill_at is not None:
            due.append(self._kill_at)
        return max(0.0, min([TURN_SECONDS, *(at - now for at in due)]))

    def _children(self) -> Iterator[Child]:
        for pool in self.pools:
            yield from pool.children

    def _start(self, child: Child) -> None:
        child.restart_at = None
        child.status = child.failure = child.hang = None
        ours, theirs = self._context.Pipe()
        child.stacks, stacks = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=child.entry, args=(child.spec, theirs, stacks), name=f"member-{child.name}", daemon=False
        )
        # The first spawn would start the tracker, and that unblocks both signals (CPython 3.11): not in between.
        resource_tracker.ensure_running()
        # Blocked while the child starts: it inherits the mask, and Ctrl-C cannot hit it before it ignores it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        stacks.close()
        child.process, child.pipe = process, ours
        child.started = child.heard = time.monotonic()
        log.info("member started", member=child.name, pid=process.pid)

    def _hear(self, child: Child) -> None:
        assert child.pipe is not None
        try:
            while child.pipe.poll(0):
                self._take(child, child.pipe.recv())
        except (EOFError, OSError):
            child.pipe.close()
            child.pipe = None

    def _take(self, child: Child, message: Any) -> None:
        child.heard = time.monotonic()
        if isinstance(message, Failure):
            child.failure = message
            return
        pool = self._pool(child)
        if isinstance(message, Alone):
            self._start_others(pool, message.ends)
            return
        status: Status = message
        child.status = status
        pool.ended.update(status.ended)
        pool.progress.update(status.progress)
        pool.limit_reached = pool.limit_reached or status.limit_reached
        self.aggregate.update(pool.name, child.name, status.metrics)
        if pool.limit_reached and not status.limit_reached:
            self._tell(child, ("limit", 0.0))

    def _start_others(self, pool: Pool, ends: dict[int, int]) -> None:
        """A bounded run begins: one member has seen that no other group member is there, and where the input ends."""
        for child in pool.children:
            child.spec = replace(child.spec, ends=ends)
            if child.process is None and not child.done:
                self._start(child)

    def _coordinate(self, pool: Pool) -> None:
        """A bounded run ends when all partitions have; its members stay until then."""
        if pool.complete and not pool.stopping:
            pool.stopping = True
            for child in pool.children:
                if child.process is None:
                    child.done, child.restart_at = True, None  # nothing is left for it to do
                else:
                    self._tell(child, ("stop", time.monotonic() + self._shutdown_seconds))

    # ------------------------------------------------------------------------------------------------ endings

    def _bury(self, child: Child) -> None:
        """A member process has ended: for good, or to be started again."""
        assert child.process is not None
        self._hear(child) if child.pipe is not None else None
        child.process.join()
        code = child.process.exitcode
        child.process.close()
        child.process = None
        for pipe in (child.pipe, child.stacks):
            if pipe is not None:
                pipe.close()
        child.pipe = child.stacks = None
        pool = self._pool(child)
        self.aggregate.remove(pool.name, child.name)
        if code in _FINAL:
            child.done = True
            text = child.failure.message if child.failure is not None else f"member {child.name} ended with {code}"
            self._final = self._final or _FINAL[code](text)
            if self._kill_at is None:
                self._stop_all(time.monotonic())
        elif self._kill_at is not None or pool.stopping or code == ExitCode.DONE:
            child.done = True
            if code != ExitCode.DONE:  # SIGALRM: its own timer
                log.warning("member did not end in order", member=child.name, reason=_reason(code))
        else:
            self._restart(child, pool, code)

    def _restart(self, child: Child, pool: Pool, code: int | None) -> None:
        now = time.monotonic()
        if now - child.started > HEALTHY_SECONDS:
            child.restarts = 0
        delay = RESTART_SECONDS[min(child.restarts, len(RESTART_SECONDS) - 1)]
        child.restarts += 1
        child.restart_at = now + delay
        child.spec = replace(child.spec, patient=True)
        reason = child.hang.reason if child.hang is not None else _reason(code)
        why = child.failure.message if child.failure is not None else None
        self._own[pool.name].inc("member_restarts_total", reason=reason)
        log.error("member died, it is started again", member=child.name, reason=reason, why=why, in_seconds=delay)

    def _stop_all(self, now: float) -> None:
        log.info("stopping", seconds=self._shutdown_seconds)
        self._kill_at = now + self._shutdown_seconds - EXIT_MARGIN_SECONDS
        for child in self._children():
            if child.process is None:
                child.done, child.restart_at = True, None
            else:
                self._tell(child, ("stop", self._kill_at - EXIT_MARGIN_SECONDS))

    def _tell(self, child: Child, message: Told) -> None:
        if child.pipe is not None:
            try:
                child.pipe.send(message)
            except OSError:
                log.debug("member is gone already", member=child.name)

    def _kill_all(self) -> None:
        for child in self._children():
            if child.process is not None and child.process.is_alive():
                log.warning("member did not end in time, it is killed", member=child.name)
                child.process.kill()
        until = time.monotonic() + KILL_SECONDS
        for child in self._children():
            if child.process is not None:
                child.process.join(max(0.0, until - time.monotonic()))
                if child.process.is_alive():
                    log.error("the kernel does not end a member that was killed", member=child.name)
                    _leave_behind(child.process)
                else:
                    child.process.close()
                child.process = None
            child.done, child.restart_at = True, None

    def _pool(self, child: Child) -> Pool:
        return next(pool for pool in self.pools if child in pool.children)

    @contextmanager
    def _handling_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM stop; only the main thread can ask for that, elsewhere the program has its own way."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        kinds = (signal.SIGINT, signal.SIGTERM)
        before = {kind: signal.signal(kind, lambda number, frame: self.stop()) for kind in kinds}
        try:
            yield
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)


def _leave_behind(process: BaseProcess) -> None:
    """Python would wait for it without limit when it exits (`multiprocessing.util._exit_function`)."""
    children: set[BaseProcess] = vars(multiprocessing.process)["_children"]  # as `close` does with one that has ended
    children.discard(process)


def _reason(code: int | None) -> str:
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit {code}"
