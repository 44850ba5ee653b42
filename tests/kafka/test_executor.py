"""The library in a user's own program, run as one: pools, predicates, threads; and what processes weigh."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from tests.brokers.find import Broker
from tests.brokers.settings import free_port
from tests.brokers.topics import TopicFactory
from tests.kafka.commands import WORKERS, Done, Pipeline, Running

HEAD = """
import functools, json, os, sys, threading
from consumer import *
from consumer.errors import ConfigError
from consumer.reducers import EpochReducer
from consumer.workers import SummaryWorker

settings = json.loads(sys.argv[1])

class Mine(SummaryWorker):
    def process_checkpoint(self, checkpoint):
        print("processed", flush=True)
        return super().process_checkpoint(checkpoint)

def make(kind, **options):
    return kind(**options)

def past_twenty(checkpoint):
    return checkpoint.summary.sequence_number > 20

def show(progress):
    print(json.dumps({name: {number: [at.next_offset, at.next_sequence_number] for number, at in of.items()}
                      for name, of in progress.items()}))

if __name__ == "__main__":
"""


class Script:
    """A program of the user's, with nothing of `CONSUMER_*` in its environment but what it is given."""

    def __init__(self, folder: Path, pipeline: Pipeline, body: str) -> None:
        self._file = folder / "program.py"
        self._file.write_text(HEAD + "".join(f"    {line}\n" for line in body.strip().splitlines()))
        self._pipeline = pipeline

    def start(self, env: dict[str, str] | None = None, **settings: Any) -> Running:
        given: dict[str, Any] = {
            "kafka__bootstrap_servers": self._pipeline.bootstrap,
            "input_topic": self._pipeline.names.input,
        }
        given |= {"http__port": 0, "start": "earliest", **settings}
        plain = {
            name: value for name, value in self._pipeline.environment().items() if not name.startswith("CONSUMER_")
        }
        arguments = [sys.executable, str(self._file), json.dumps(given)]
        return Running(arguments, {**plain, **(env or {})}, self._file.parent)

    def run(self, env: dict[str, str] | None = None, **settings: Any) -> tuple[Done, list[str]]:
        """Its end, and the lines it printed."""
        running = self.start(env, **settings)
        try:
            done = running.wait()
            assert running.process.stdout is not None
            return done, running.process.stdout.read().decode().splitlines()
        finally:
            running.close()


def test_two_pools_over_one_input_with_what_the_script_itself_defines(
    broker: Broker, topics: TopicFactory, tmp_path: Path
) -> None:
    """A class of the script, a partial of a factory, a predicate; each pool its group, output, reducer and settings."""
    one, two = Pipeline(broker, topics()), Pipeline(broker, topics(input=0))
    two.names = two.names._replace(input=one.names.input)
    one.feed(range(36))
    body = f"""
executor = Executor(settings)
executor.register(WorkerPool(Mine, {one.names.group!r}, concurrency=2,
                             settings={{"output_topic": {one.names.output!r}, "batch": {{"max_messages": 1}}}}))
executor.register(WorkerPool(functools.partial(make, SummaryWorker), {two.names.group!r},
                             reducer=functools.partial(make, EpochReducer, max_checkpoints=3),
                             settings={{"output_topic": {two.names.output!r}}}))
show(executor.run(until=past_twenty))
"""
    done, lines = Script(tmp_path, one, body).run()

    assert done.code == 0, done.stderr
    assert one.numbers() == list(range(21))
    assert lines.count("processed") >= 21
    offsets = {partition: sum(n % 6 == partition for n in range(21)) for partition in range(6)}
    following = {str(partition): [count, partition + 6 * (count - 1) + 1] for partition, count in offsets.items()}
    assert json.loads(lines[-1]) == {one.names.group: following, two.names.group: following}
    assert one.committed() == two.committed() == offsets
    totals = two.outputs()
    assert len(totals) == sum(-(-count // 3) for count in offsets.values())
    assert {(record.value or b"")[:5] for record in totals} == {b"\0\0\0\0\3"}


def test_a_run_on_another_thread_is_stopped_from_the_main_one(
    broker: Broker, topics: TopicFactory, tmp_path: Path
) -> None:
    pipeline = Pipeline(broker, topics(input=2))
    pipeline.feed(range(10), partitions=2)
    body = f"""
executor = Executor(settings)
executor.register(WorkerPool("{WORKERS}:Noting", {pipeline.names.group!r}, concurrency=2))
found = {{}}
thread = threading.Thread(target=lambda: found.update(executor.run()))
thread.start()
open("go").readline()
executor.stop()
thread.join()
show(found)
"""
    script = Script(tmp_path, pipeline, body)
    os.mkfifo(tmp_path / "go")
    options = {"path": str(tmp_path / "noted")}
    running = script.start(output_topic=pipeline.names.output, worker_options=options)
    try:
        running.wait_until(partial(has_published, pipeline, 10), "the output")
        (tmp_path / "go").write_text("now\n")
        done = running.wait()
        assert running.process.stdout is not None
        shown = json.loads(running.process.stdout.read())
    finally:
        running.close()
    assert done.code == 0, done.stderr
    assert shown == {pipeline.names.group: {"0": [5, 9], "1": [5, 10]}}


def has_published(pipeline: Pipeline, count: int) -> bool:
    return len(pipeline.outputs()) == count


def test_one_call_with_the_rest_from_the_environment(broker: Broker, topics: TopicFactory, tmp_path: Path) -> None:
    """And a configuration error is an exception that the program can catch."""
    pipeline = Pipeline(broker, topics(input=2))
    pipeline.feed(range(10), partitions=2)
    body = """
try:
    run(Mine, until=CaughtUp(), **{**settings, "start": "fail"})
except ConfigError as error:
    print(error)
show({"found": run(Mine, EpochReducer, CaughtUp(), **settings)})
"""
    env = {
        "CONSUMER_GROUP_ID": pipeline.names.group,
        "CONSUMER_OUTPUT_TOPIC": pipeline.names.output,
        "CONSUMER_START": "latest",  # the argument wins
        "CONSUMER_CONCURRENCY": "2",
    }
    done, lines = Script(tmp_path, pipeline, body).run(env)
    assert done.code == 0, done.stderr
    assert lines[0].startswith(f"group {pipeline.names.group} has no committed offset")
    assert json.loads(lines[-1]) == {"found": {"0": [5, 9], "1": [5, 10]}}
    assert len(pipeline.outputs()) == 2
    assert "Traceback" not in done.stderr


def test_what_the_processes_of_the_command_weigh(
    broker: Broker, topics: TopicFactory, record_property: Callable[[str, Any], None]
) -> None:
    """The supervisor that serves health and metrics stays below 30 MB; what its members take is recorded."""
    port = free_port()
    pipeline = Pipeline(broker, topics(), concurrency=2, http__port=port, reducer="consumer.reducers:EpochReducer")
    pipeline.feed(range(60))
    with pipeline.running() as run:
        run.wait_until(partial(is_ready, port), "both members")
        metrics = get(port, "/metrics")
        resident = psutil.Process(run.process.pid).memory_info().rss
        members = [
            child.memory_info().rss
            for child in psutil.Process(run.process.pid).children()
            if any("spawn_main" in word for word in child.cmdline())
        ]
        assert run.stop().code == 0
    record_property("supervisor_rss_bytes", resident)
    record_property("member_rss_bytes", members)
    print(
        f"resident: supervisor {resident / 1e6:.1f} MB, members {', '.join(f'{rss / 1e6:.1f} MB' for rss in members)}"
    )
    assert resident < 30 * 1024 * 1024
    assert len(members) == 2
    assert 'checkpoint_consumer_members{group="' in metrics


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        text: str = answer.read().decode()
        return text


def is_ready(port: int) -> bool:
    try:
        get(port, "/readyz")
    except OSError:
        return False
    return True


def test_user_code_that_exits_is_a_death_like_any_other(broker: Broker, topics: TopicFactory, tmp_path: Path) -> None:
    """Exit code 0 of a member that nobody told to end does not end the pool with success."""
    options = {"path": str(tmp_path / "mark")}
    pipeline = Pipeline(broker, topics(), worker=f"{WORKERS}:Leaves", worker_options=options)
    pipeline.feed(range(12))
    done = pipeline.run("--until-caught-up")
    assert done.code == 0
    assert [line["reason"] for line in done.said("member died, it is started again")] == ["exit 1"]
    assert pipeline.numbers() == list(range(12))
