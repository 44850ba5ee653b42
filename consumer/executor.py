"""`WorkerPool`, `Executor` and `run`: the library's way to start what the command starts."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from consumer.errors import ConfigError
from consumer.http import HealthServer
from consumer.limits import CaughtUp, EndOfEpoch, MaxCheckpoint, Until
from consumer.protocol import Spec
from consumer.reducer import Reducer
from consumer.settings import Settings, load_settings
from consumer.settings.model import leaf_types
from consumer.supervisor import Child, Pool, Supervisor
from consumer.targets import Target, check_importable, check_target
from consumer.worker import Worker

__all__ = ["Executor", "Progress", "WorkerPool", "run"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a partition is committed: next offset, and next sequence number where it is known."""

    next_offset: int
    next_sequence_number: int | None


class WorkerPool:
    """One task: a worker, perhaps a reducer, and the consumer group they share.

    Args:
        worker: a class, a factory or an import path; called once in each member process.
        name: the task's name and the consumer group's id.
        concurrency: member processes started on this machine.
        reducer: as `worker`; None: direct mode.
        settings: settings of this pool by lower-case name, nested or flat (`batch__max_messages`).

    Raises:
        TypeError: an instance, a lambda or a local class was given, the reducer takes other messages than the worker
            makes, or the settings hold what is an argument.
    """

    def __init__(
        self,
        worker: Target,
        name: str,
        concurrency: int = 1,
        reducer: Target | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.worker = check_target(worker, Worker, "worker")
        self.reducer = None if reducer is None else check_target(reducer, Reducer, "reducer")
        self.name = name
        self.concurrency = concurrency
        self.settings = _checked(settings)
        if isinstance(worker, type) and isinstance(reducer, type):
            from consumer.loading import check_messages  # it loads Avro: only where user code is loaded anyway

            check_messages(worker, reducer)


class Executor:
    """Runs one or more pools over the same input topic, each with a group, an output and settings of its own.

    `settings` are those of every pool, by lower-case name; a pool's own win, except for kafka, input_topic, http and
    log, which all pools share.
    """

    def __init__(self, settings: Mapping[str, Any] | None = None, *, config_file: Path | None = None) -> None:
        self._settings = _checked(settings)
        self._config_file = config_file
        self._pools: list[WorkerPool] = []
        self._supervisor: Supervisor | None = None
        self.complete = False
        """Whether the last `run` reached its limit in every pool; without a limit, or stopped before it: False."""
        self._stops = 0
        self._lock = threading.RLock()  # a signal handler may stop what its own thread is just starting

    def register(self, pool: WorkerPool) -> None:
        """Add a pool before `run`.

        Raises:
            ConfigError: there is a pool with this name.
        """
        if any(other.name == pool.name for other in self._pools):
            raise ConfigError(f"two pools are named {pool.name}: each needs a group of its own")
        self._pools.append(pool)

    def stop(self) -> None:
        """End `run`, or the next one, in order; a second time: at once. From any thread or signal handler."""
        with self._lock:
            self._stops += 1
            if self._supervisor is not None:
                self._supervisor.stop()

    def run(self, until: Until | None = None) -> dict[str, dict[int, Progress]]:
        """Block until stopped, or until the limit; returns for each pool and partition how far it is committed.

        Raises:
            ConfigError, PolicyStop, Fenced: as the exit codes 2, 3 and 4 of the command.
            TypeError: `until` is a predicate that a fresh process could not import.
        """
        if not self._pools:
            raise ConfigError("there is no pool: register a WorkerPool before run()")
        if until is not None and not isinstance(until, (MaxCheckpoint, EndOfEpoch, CaughtUp)):
            check_importable(until, "until")
        self.complete = False
        settings = [self._load(pool) for pool in self._pools]
        _check_shared(settings)
        pools = [_pool(pool, own, until) for pool, own in zip(self._pools, settings, strict=True)]
        supervisor = Supervisor(pools, max(own.shutdown.timeout_seconds for own in settings))
        try:
            server = _health(settings[0], supervisor)
            with self._lock:
                self._supervisor = supervisor
                for _ in range(self._stops):
                    supervisor.stop()
            try:
                supervisor.run()
            finally:
                if server is not None:
                    server.close()
        finally:
            with self._lock:
                self._supervisor, self._stops = None, 0
        self.complete = all(pool.complete for pool in pools)
        return {pool.name: {number: Progress(*at) for number, at in sorted(pool.progress.items())} for pool in pools}

    def _load(self, pool: WorkerPool) -> Settings:
        overrides = {
            **_merged(self._settings, pool.settings),
            "group_id": pool.name,
            "concurrency": pool.concurrency,
            **_targets(pool.worker, pool.reducer),
        }
        return load_settings(os.environ, config_file=self._config_file, overrides=overrides)


def run(
    worker: Target,
    reducer: Target | None = None,
    until: Until | None = None,
    **settings: Any,
) -> dict[int, Progress]:
    """One worker, one call: the settings as keyword arguments (`kafka__bootstrap_servers=...`), else the environment.

    Raises:
        As `WorkerPool` and `Executor.run`.
    """
    named = {name: settings.pop(name, None) for name in ("group_id", "concurrency")}
    pool = WorkerPool(worker, "", 1, reducer, settings)
    found = load_settings(os.environ, overrides={**settings, **named, **_targets(worker, reducer)})
    pool.name, pool.concurrency = found.group_id, found.concurrency
    executor = Executor()
    executor.register(pool)
    return executor.run(until)[pool.name]


def _checked(settings: Mapping[str, Any] | None) -> dict[str, Any]:
    for name in ("worker", "reducer", "group_id", "concurrency"):
        if name in (settings or {}):
            argument = "name" if name == "group_id" else name
            raise TypeError(f"{name} is no setting here: give it to WorkerPool as {argument}")
    return dict(settings or {})


def _merged(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`own` over `shared`; where both give a group of settings as a table, setting by setting."""
    groups = {name.partition(".")[0] for name in leaf_types() if "." in name}
    both = {**shared, **own}
    for name in groups & shared.keys() & own.keys():
        both[name] = {**shared[name], **own[name]}
    return both


def _check_shared(settings: Sequence[Settings]) -> None:
    """One process group has one input, one set of brokers, one port and one log."""
    first = settings[0]
    for other in settings[1:]:
        for name in ("kafka", "input_topic", "http", "log"):
            if getattr(other, name) != getattr(first, name):
                raise ConfigError(
                    f"the pools {first.group_id} and {other.group_id} differ in {name}, which all pools of an Executor "
                    "share: give it to the Executor, or run them in processes of their own"
                )


def _targets(worker: Target, reducer: Target | None) -> dict[str, str]:
    return {"worker": _path(worker), "reducer": "" if reducer is None else _path(reducer)}  # "": none, whatever is set


def _path(target: Target) -> str:
    """How the settings name a target; a factory that is no plain class or function goes by its own text."""
    if isinstance(target, str):
        return target
    return f"{getattr(target, '__module__', 'unknown')}:{getattr(target, '__qualname__', type(target).__qualname__)}"


def _pool(pool: WorkerPool, settings: Settings, until: Until | None) -> Pool:
    children = [
        Child(
            pool.name,
            Spec(index, settings, pool.worker, pool.reducer, until),
            member_main,
            settings.watchdog.call_seconds,
        )
        for index in range(settings.concurrency)
    ]
    return Pool(pool.name, children, until is not None)


def member_main(spec: Spec, pipe: Connection, stacks: Connection) -> None:
    """What a spawned member runs; it is imported there, since the supervisor loads nothing of Kafka."""
    entry: Callable[[Spec, Connection, Connection], None]
    from consumer.process import main as entry

    entry(spec, pipe, stacks)


def _health(settings: Settings, supervisor: Supervisor) -> HealthServer | None:
    if settings.http.port == 0:
        return None
    return HealthServer(
        settings.http.host,
        settings.http.port,
        livez=supervisor.livez,
        readyz=supervisor.readyz,
        metrics=supervisor.metrics,
    )
