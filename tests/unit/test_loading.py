"""From settings to objects: what is imported and made, what each refusal says, and what a pool publishes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from consumer import Reducer, Worker
from consumer.errors import ConfigError, PolicyStop
from consumer.loading import encodings, make
from consumer.reducers import EpochReducer
from consumer.settings import Settings
from consumer.workers import CheckpointSummary, SummaryWorker, TransactionWorker


class Totals(msgspec.Struct):
    total: int


class WithOptions(SummaryWorker):
    def __init__(self, size: int, name: str = "x") -> None:
        if size < 0:
            raise PolicyStop("the worker itself says stop")
        self.size, self.name = size, name


class PassesOn(Reducer[CheckpointSummary, CheckpointSummary]):
    pass


class Unannotated(Reducer):  # type: ignore[type-arg]
    pass


class Sums(Reducer[CheckpointSummary, Totals]):
    pass


class AnyWorker(Worker[Any]):
    pass


class TwoOutputs(Worker[Any]):
    outputs: ClassVar[Any] = {CheckpointSummary: ("summaries", "checkpoint-summary/v1.avsc"), Totals: ("totals", None)}


def made(target: Any, **options: Any) -> Any:
    return make(target, Worker, options, "CONSUMER_WORKER")


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes a module into the working folder and returns its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])

    def write(text: str) -> str:
        name = f"users_{len(list(tmp_path.iterdir()))}_{tmp_path.name}".replace("-", "_")
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write


# ------------------------------------------------------------------------------------------------------- making


def test_a_class_a_factory_and_a_path_are_called_with_the_options() -> None:
    assert made(WithOptions, size=3).size == 3
    assert made(lambda size: WithOptions(size, "y"), size=3).name == "y"
    assert isinstance(made("consumer.workers:SummaryWorker"), SummaryWorker)


def test_a_module_is_found_in_the_working_folder_as_python_m_finds_it(module: Callable[[str], str]) -> None:
    name = module(
        "from consumer.workers import SummaryWorker\nclass Outer:\n    class Inner(SummaryWorker):\n        pass\n"
    )
    assert type(made(f"{name}:Outer.Inner")).__qualname__ == "Outer.Inner"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise RuntimeError('broken')", "cannot be imported: RuntimeError: broken: correct the path, or install"),
        ("import sys\nsys.exit(0)", "cannot be imported: SystemExit: 0: correct the path"),
        ("import no_such_thing", "cannot be imported: ModuleNotFoundError: No module named 'no_such_thing'"),
        ("x = (", "cannot be imported: SyntaxError"),
        ("Wanted = 5", "is no class and no factory"),
        ("def Wanted(): return 5", "makes a int, which is no consumer.Worker"),
        ("def Wanted(): raise KeyError('DATABASE')", "could not be made with CONSUMER_WORKER_OPTIONS (none): KeyError"),
        ("def Wanted(): raise SystemExit(0)", "could not be made with CONSUMER_WORKER_OPTIONS (none): SystemExit: 0"),
    ],
)
def test_what_cannot_be_made_says_why_and_names_the_setting(module: Callable[[str], str], text: str, said: str) -> None:
    path = f"{module(text)}:Wanted"
    with pytest.raises(ConfigError) as refused:
        made(path)
    assert str(refused.value).startswith(f"CONSUMER_WORKER={path} ")
    assert said in str(refused.value)


def test_wrong_options_are_named_but_not_their_values() -> None:
    with pytest.raises(ConfigError, match=r"CONSUMER_WORKER_OPTIONS \(password\): TypeError: .*'password'") as refused:
        made(WithOptions, password="hunter2")
    assert "hunter2" not in str(refused.value)


def test_a_stop_of_the_users_own_stays_what_it_is() -> None:
    with pytest.raises(PolicyStop, match="the worker itself says stop"):
        made(WithOptions, size=-1)


# ---------------------------------------------------------------------------------------------------- publishing


def published(worker: Worker[Any], reducer: Reducer[Any, Any] | None = None, **settings: Any) -> dict[str, str]:
    """Topic to the name of its schema."""
    found = encodings(worker, reducer, Settings(**{"output_topic": "out", **settings}))
    return {one.topic: one.schema["name"] for one in found}


def test_without_a_reducer_the_workers_schema_counts() -> None:
    assert published(SummaryWorker()) == {"out": "CheckpointSummary"}
    assert published(TransactionWorker()) == {"out": "CheckpointTransaction"}


def test_the_reducers_schema_is_its_own_or_its_results_or_the_workers() -> None:
    (shipped,) = encodings(SummaryWorker(), None, Settings(output_topic="out"))
    assert published(SummaryWorker(), EpochReducer()) == {"out": "EpochTotals"}
    assert published(SummaryWorker(), Sums()) == {"out": "Totals"}
    for passing_on in (PassesOn(), Unannotated()):
        (found,) = encodings(SummaryWorker(), passing_on, Settings(output_topic="out"))
        assert found.schema == shipped.schema  # not one derived from the message type, which has another id


def test_several_outputs_need_no_further_one() -> None:
    assert published(TwoOutputs(), output_topic=None) == {"summaries": "CheckpointSummary", "totals": "Totals"}
    assert published(TwoOutputs()) == {"summaries": "CheckpointSummary", "totals": "Totals"}


def test_a_reducer_may_publish_nothing_a_worker_may_not() -> None:
    assert published(SummaryWorker(), PassesOn(), output_topic=None) == {}
    with pytest.raises(ConfigError, match="there is no output topic: set CONSUMER_OUTPUT_TOPIC"):
        published(SummaryWorker(), output_topic=None)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (None, "AnyWorker has no schema and no Message type to derive one from: set `schema`"),
        ("none/v1.avsc", "none/v1.avsc does not exist in "),
        ({"type": "record", "name": "R", "fields": [{"name": "a", "type": "nothing.Known"}]}, "nothing.Known"),
    ],
)
def test_a_schema_that_is_missing_or_wrong(monkeypatch: pytest.MonkeyPatch, schema: Any, said: str) -> None:
    monkeypatch.setattr(AnyWorker, "schema", schema)
    with pytest.raises(ConfigError, match=said):
        published(AnyWorker())


def test_a_reducer_of_other_messages_is_refused_also_by_path() -> None:
    settings = Settings(output_topic="out", reducer="consumer.reducers:EpochReducer")
    with pytest.raises(ConfigError, match=r"CONSUMER_REDUCER=consumer\.reducers:EpochReducer: EpochReducer takes"):
        encodings(TransactionWorker(), EpochReducer(), settings)
