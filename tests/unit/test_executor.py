"""`WorkerPool`, `Executor` and `run` up to the supervisor: what they refuse, and which settings reach which pool."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Sequence
from typing import Any

import pytest

import consumer
from consumer import CaughtUp, Executor, MaxCheckpoint, Reducer, WorkerPool, executor
from consumer.errors import ConfigError
from consumer.executor import Progress
from consumer.reducers import EpochReducer
from consumer.supervisor import Pool
from consumer.workers import SummaryWorker, TransactionWorker

GIVEN: dict[str, Any] = {
    "kafka__bootstrap_servers": "kafka:9092",
    "input_topic": "in",
    "output_topic": "out",
    "http__port": 0,
}


class FakeSupervisor:
    """Ends at once; what it was made of is kept in `made`."""

    made: list[FakeSupervisor]
    during: Any = None

    def __init__(self, pools: Sequence[Pool], shutdown_seconds: float) -> None:
        self.pools, self.shutdown_seconds, self.stops = pools, shutdown_seconds, 0
        self.made.append(self)

    def stop(self) -> None:
        self.stops += 1

    def run(self) -> None:
        if self.during is not None:
            self.during()
        for pool in self.pools:
            pool.progress.update({1: (7, None), 0: (5, 12)})

    livez = readyz = metrics = stop


@pytest.fixture
def supervisors(monkeypatch: pytest.MonkeyPatch) -> list[FakeSupervisor]:
    FakeSupervisor.made = []
    monkeypatch.setattr(executor, "Supervisor", FakeSupervisor)
    for name in [name for name in os.environ if name.startswith("CONSUMER_")]:
        monkeypatch.delenv(name)
    return FakeSupervisor.made


def settings_of(supervisor: FakeSupervisor, pool: int = 0) -> Any:
    return supervisor.pools[pool].children[0].spec.settings


def made_by_a_factory(suffix: str = "") -> SummaryWorker:
    return SummaryWorker()


def is_past(checkpoint: Any) -> bool:
    return True


class Taker(Reducer[dict[str, Any], Any]):
    pass


class OfTransactions(TransactionWorker):
    pass


# ------------------------------------------------------------------------------------------- what a pool takes


def test_an_instance_a_lambda_and_a_local_class_are_type_errors_that_say_so() -> None:
    class Local(SummaryWorker):
        pass

    with pytest.raises(TypeError, match=r"worker is an instance of SummaryWorker: give the class, a factory or an"):
        WorkerPool(SummaryWorker(), "pool")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="CONSUMER_REDUCER_OPTIONS"):
        WorkerPool(SummaryWorker, "pool", reducer=EpochReducer())  # type: ignore[arg-type]
    for unimportable in (lambda: SummaryWorker(), Local, functools.partial(Local)):  # noqa: PLW0108
        with pytest.raises(TypeError, match=r"cannot be imported in a fresh process .* top level of a module"):
            WorkerPool(unimportable, "pool")
    with pytest.raises(TypeError, match="must be a class, a factory or an import path, not int"):
        WorkerPool(5, "pool")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "worker", [SummaryWorker, made_by_a_factory, functools.partial(made_by_a_factory, "x"), "package.module:Name"]
)
def test_a_class_a_factory_and_an_import_path_are_taken(worker: Any) -> None:
    assert WorkerPool(worker, "pool").worker is worker


def test_the_reducers_message_is_the_workers() -> None:
    with pytest.raises(TypeError, match="EpochReducer takes CheckpointSummary messages, but TransactionWorker makes"):
        WorkerPool(TransactionWorker, "pool", reducer=EpochReducer)
    with pytest.raises(TypeError, match="EpochReducer takes CheckpointSummary messages, but OfTransactions makes"):
        WorkerPool(OfTransactions, "pool", reducer=EpochReducer)
    WorkerPool(SummaryWorker, "pool", reducer=EpochReducer)
    WorkerPool(SummaryWorker, "pool", reducer=Taker)  # a mapping says nothing


@pytest.mark.parametrize(
    ("name", "argument"),
    [("group_id", "name"), ("worker", "worker"), ("reducer", "reducer"), ("concurrency", "concurrency")],
)
def test_what_is_an_argument_is_no_setting(name: str, argument: str) -> None:
    for make in (lambda s: WorkerPool(SummaryWorker, "pool", settings=s), Executor):
        with pytest.raises(TypeError, match=f"{name} is no setting here: give it to WorkerPool as {argument}"):
            make({name: "x"})


# ------------------------------------------------------------------------------------------- what an executor takes


def test_no_pool_and_two_pools_of_one_name_are_errors() -> None:
    with pytest.raises(ConfigError, match="there is no pool: register a WorkerPool"):
        Executor().run()
    both = Executor()
    both.register(WorkerPool(SummaryWorker, "pool"))
    with pytest.raises(ConfigError, match="two pools are named pool"):
        both.register(WorkerPool(SummaryWorker, "pool"))


def test_a_predicate_must_be_importable(supervisors: list[FakeSupervisor]) -> None:
    one = Executor(GIVEN)
    one.register(WorkerPool(SummaryWorker, "pool"))
    with pytest.raises(TypeError, match=r"until .*<lambda>.* cannot be imported in a fresh process"):
        one.run(until=lambda checkpoint: True)
    assert supervisors == []
    one.run(until=is_past)
    assert supervisors[0].pools[0].children[0].spec.until is is_past


def test_arguments_win_over_the_environment_and_a_pools_over_the_executors(
    supervisors: list[FakeSupervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSUMER_GROUP_ID", "environment")
    monkeypatch.setenv("CONSUMER_CONCURRENCY", "5")
    monkeypatch.setenv("CONSUMER_REDUCER", "consumer.reducers:EpochReducer")
    monkeypatch.setenv("CONSUMER_OUTPUT_TOPIC", "environment")
    monkeypatch.setenv("CONSUMER_BATCH__MAX_MESSAGES", "1")
    monkeypatch.setenv("CONSUMER_MAX_IN_FLIGHT", "9")
    both = Executor({**GIVEN, "batch": {"max_messages": 2, "max_seconds": 3.0}})
    both.register(WorkerPool(SummaryWorker, "one", 2, settings={"batch": {"max_messages": 4}, "output_topic": "first"}))
    both.register(WorkerPool(SummaryWorker, "two", settings={"batch__max_seconds": 5.0}, reducer=EpochReducer))

    both.run()

    one, two = settings_of(supervisors[0], 0), settings_of(supervisors[0], 1)
    assert (one.group_id, one.dlq_topic, one.output_topic) == ("one", "one.dlq", "first")
    assert (two.group_id, two.dlq_topic, two.output_topic) == ("two", "two.dlq", "out")
    assert (one.batch.max_messages, one.batch.max_seconds) == (4, 3.0)
    assert (two.batch.max_messages, two.batch.max_seconds) == (2, 5.0)
    assert one.max_in_flight == two.max_in_flight == 9
    assert [len(pool.children) for pool in supervisors[0].pools] == [2, 1]
    assert [pool.children[0].spec.reducer for pool in supervisors[0].pools] == [None, EpochReducer]
    assert one.reducer is None


@pytest.mark.parametrize(
    "own",
    [{"input_topic": "other"}, {"kafka__bootstrap_servers": "other:9092"}, {"http__port": 1}, {"log__level": "debug"}],
)
def test_what_all_pools_share_cannot_differ(supervisors: list[FakeSupervisor], own: dict[str, Any]) -> None:
    both = Executor(GIVEN)
    both.register(WorkerPool(SummaryWorker, "one"))
    both.register(WorkerPool(SummaryWorker, "two", settings=own))
    name = next(iter(own)).partition("__")[0]
    with pytest.raises(ConfigError, match=f"the pools one and two differ in {name}, which all pools .* share"):
        both.run()
    assert supervisors == []


def test_progress_is_returned_by_pool_and_partition(supervisors: list[FakeSupervisor]) -> None:
    one = Executor(GIVEN)
    one.register(WorkerPool(SummaryWorker, "pool"))
    assert one.run(until=CaughtUp()) == {"pool": {0: Progress(5, 12), 1: Progress(7, None)}}
    assert supervisors[0].pools[0].bounded


def test_the_longest_shutdown_of_all_pools_counts(supervisors: list[FakeSupervisor]) -> None:
    both = Executor({**GIVEN, "shutdown__timeout_seconds": 5})
    both.register(WorkerPool(SummaryWorker, "one"))
    both.register(WorkerPool(SummaryWorker, "two", settings={"shutdown__timeout_seconds": 20}))
    both.run()
    assert supervisors[0].shutdown_seconds == 20


# ----------------------------------------------------------------------------------------------------- stopping


def test_a_stop_before_run_ends_it_and_the_next_run_is_another(supervisors: list[FakeSupervisor]) -> None:
    one = Executor(GIVEN)
    one.register(WorkerPool(SummaryWorker, "pool"))
    one.stop()
    one.run()
    one.run()
    assert [supervisor.stops for supervisor in supervisors] == [1, 0]


def test_a_stop_from_another_thread_reaches_the_supervisor_once(
    supervisors: list[FakeSupervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Executor(GIVEN)
    one.register(WorkerPool(SummaryWorker, "pool"))

    def stop_from_elsewhere() -> None:
        thread = threading.Thread(target=one.stop)
        thread.start()
        thread.join(5)
        assert not thread.is_alive()

    monkeypatch.setattr(FakeSupervisor, "during", staticmethod(stop_from_elsewhere))
    one.run()
    assert supervisors[0].stops == 1


def test_after_an_error_it_can_be_run_again(supervisors: list[FakeSupervisor], monkeypatch: pytest.MonkeyPatch) -> None:
    one = Executor(GIVEN)
    one.register(WorkerPool(SummaryWorker, "pool"))

    def fail() -> None:
        one.stop()
        raise ConfigError("wrong")

    monkeypatch.setattr(FakeSupervisor, "during", staticmethod(fail))
    with pytest.raises(ConfigError):
        one.run()
    monkeypatch.setattr(FakeSupervisor, "during", None)
    one.run()
    assert supervisors[1].stops == 0


# --------------------------------------------------------------------------------------------------- the one call


def test_run_takes_settings_as_keywords_and_the_rest_from_the_environment(
    supervisors: list[FakeSupervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSUMER_GROUP_ID", "environment")
    monkeypatch.setenv("CONSUMER_CONCURRENCY", "3")
    found = consumer.run(SummaryWorker, EpochReducer, MaxCheckpoint(5), batch__max_messages=7, **GIVEN)
    assert found[0] == Progress(5, 12)
    settings = settings_of(supervisors[0])
    assert (settings.group_id, settings.batch.max_messages) == ("environment", 7)
    specs = [child.spec for child in supervisors[0].pools[0].children]
    assert [(spec.index, spec.until, spec.reducer) for spec in specs] == [
        (index, MaxCheckpoint(5), EpochReducer) for index in range(3)
    ]
    consumer.run(SummaryWorker, group_id="argument", concurrency=1, **GIVEN)
    assert settings_of(supervisors[1]).group_id == "argument"
    assert len(supervisors[1].pools[0].children) == 1


@pytest.mark.parametrize(
    ("environment", "text"),
    [({}, "CONSUMER_GROUP_ID is required"), ({"GROUP_ID": "g", "CONCURRENCY": "x"}, "CONSUMER_CONCURRENCY")],
)
def test_run_says_which_setting_is_missing_or_wrong(
    supervisors: list[FakeSupervisor], monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], text: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"CONSUMER_{name}", value)
    with pytest.raises(ConfigError, match=text):
        consumer.run(SummaryWorker, **GIVEN)


def test_with_a_reducer_the_output_topic_may_be_left_out(supervisors: list[FakeSupervisor]) -> None:
    given = {name: value for name, value in GIVEN.items() if name != "output_topic"}
    with pytest.raises(ConfigError, match="CONSUMER_OUTPUT_TOPIC"):
        consumer.run(SummaryWorker, group_id="g", **given)
    consumer.run(SummaryWorker, EpochReducer, group_id="g", **given)
    assert settings_of(supervisors[0]).output_topic is None
