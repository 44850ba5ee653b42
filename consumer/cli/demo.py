"""`demo`: the whole pipeline on the embedded broker: checkpoints fed, read by a pool, published as Avro, shown."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from consumer.cli.documents import files_in
from consumer.cli.feed import Feed, Found
from consumer.cli.live import State, View, make_view
from consumer.cli.pipeline import Output, Pipeline
from consumer.cli.signals import StopRequest
from consumer.errors import ExitCode, Stop
from consumer.generate import stream
from consumer.kafka.embedded import EmbeddedBroker
from consumer.log import configure
from consumer.partitioning import Partitioning
from consumer.settings import Settings, load_settings, load_settings_and_sources

__all__ = ["add_arguments", "run"]

PARTITIONS = 4
CHECKPOINTS = 2_000
RATE = 200
SHOWN = 3
"""Output records that are printed."""
TURN_SECONDS = 0.02
STUCK_SECONDS = 30.0
"""Without any progress for so long the demo has failed; a member that dies is started again well before."""
_WINDOW_BYTES = 3_000_000
"""Fed and not committed, per partition. The embedded broker keeps the newest 5 MB of each and drops what is older,
read or not (`max_size` in rdkafka_mock.c)."""
_LARGEST_BYTES = 4_000_000
"""Of one checkpoint: a record above those 5 MB would be dropped at once."""

# What the demo is; neither the environment nor a file changes it, or it might reach somebody's real brokers.
_DECIDED: dict[str, Any] = {
    "kafka.options": {"message.max.bytes": str(_LARGEST_BYTES)},
    "kafka.group_protocol": "auto",
    "group_id": "demo",
    "instance_id": "demo",
    "static_membership": False,
    "input_topic": "checkpoints",
    "output_topic": "summaries",
    "dlq_topic": "demo.dlq",
    "worker": "consumer.workers:SummaryWorker",
    "worker_options": {},
    "reducer": "",
    "reducer_options": {},
    "delivery": "at_least_once",
    "start": "earliest",
    "schema.registry_url": "",
    "schema.registry_options": {},
}
# What it does unless it is asked for something else.
_DEFAULTS: dict[str, Any] = {"concurrency": 2, "http.port": 0, "log.level": "warning"}

_COUNTED = ('transactions_total{group="demo",outcome="committed"}', "dead_letters_total")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's arguments."""
    parser.add_argument("paths", nargs="*", metavar="PATH", help="files or folders of checkpoints; without: generated")
    parser.add_argument(
        "--checkpoints", type=_number, default=CHECKPOINTS, metavar="N", help="generate so many (default: %(default)s)"
    )
    parser.add_argument(
        "--rate", type=_number, default=RATE, metavar="R", help="feed so many a second (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the pipeline until everything fed is published, or a signal; 1 where something was not published.

    Raises:
        Stop: a path or a setting is wrong, or a member stopped for good.
    """
    files = files_in(args.paths)
    with StopRequest() as stop, EmbeddedBroker() as broker, make_view() as view:
        settings = _settings(args.config, broker.bootstrap, console=view.is_terminal)
        configure(settings.log)
        for topic in (settings.input_topic, settings.output_topic or "", settings.dlq_topic):
            broker.create_topic(topic, PARTITIONS)
        demo = Demo(settings, stop, view, args.rate, None if files else args.checkpoints)
        view.say(demo.introduction(files))
        return demo.run(files)


class Window:
    """What one partition was fed that is not committed yet, kept below what the embedded broker remembers."""

    def __init__(self) -> None:
        self._ends = [0]  # bytes below each offset

    @property
    def fed(self) -> int:
        """Records so far; also the next offset."""
        return len(self._ends) - 1

    def add(self, size: int) -> None:
        """A record of `size` bytes was fed."""
        self._ends.append(self._ends[-1] + size)

    def admits(self, size: int, committed: int) -> bool:
        """Whether one more record leaves all from offset `committed` on in the broker's memory; alone it may go."""
        waiting = self._ends[-1] - self._ends[committed]
        return waiting == 0 or waiting + size <= _WINDOW_BYTES


class Demo:
    """One run: feeds and shows on the main thread, while the pool runs and its output is read on others."""

    def __init__(self, settings: Settings, stop: StopRequest, view: View, rate: int, generated: int | None) -> None:
        self._settings, self._stop, self._view = settings, stop, view
        self._rate, self._generated = rate, generated
        self._pipeline = Pipeline(settings)
        self._output = Output(settings, PARTITIONS, SHOWN)
        self._said = 0
        self._windows = [Window() for _ in range(PARTITIONS)]
        self._began = self._moved_at = time.monotonic()
        self._published = 0

    def introduction(self, files: list[str]) -> str:
        """What is about to happen, and what it does not show."""
        settings, count, heading = self._settings, self._generated, self._view.heading
        made = f"{_of(count or 0, 'checkpoint')} of about 40 KB, made on the spot"
        source = _of(len(files), "file") if count is None else made
        worker, members = settings.worker.partition(":")[2], _of(settings.concurrency, "member")
        lines = [
            heading("Kafka checkpoints in, Avro out: the whole pipeline on this machine, nothing else needed."),
            f"  broker   embedded: librdkafka's mock cluster at {settings.kafka.bootstrap_servers}, in memory",
            f"  input    {source}, {self._rate:,} a second -> topic {settings.input_topic}, {PARTITIONS} partitions",
            f"  pool     {worker}, {members} -> topic {settings.output_topic}",
            "  delivery at-least-once: the embedded broker has no real transactions. Exactly-once, the default,",
            "           needs a real Kafka; `make test` proves it on one.",
        ]
        if settings.http.port:
            lines.append(f"  metrics  http://{settings.http.host}:{settings.http.port}/metrics")
        return "\n".join(lines)

    def run(self, files: list[str]) -> int:
        """Start everything, feed, wait for the end, stop everything."""
        with ExitStack() as closing:
            closing.callback(self._output.finish)
            closing.callback(self._pipeline.end, self._stop)
            self._output.start()
            self._pipeline.start()
            feed = Feed(self._settings, Partitioning(1), self._stop)
            self._feed(feed, feed.checkpoints(files) if files else self._generate())
            feed.finish()
            while self._pipeline.committed < feed.delivered and not self._stop:
                self._turn(wait=True)
            owners = self._owners()
        self._raise_failures()
        self._say_first()
        state = self._state()._replace(owners=owners)
        self._view.end(state, self._closing(feed, state))
        complete = self._output.distinct + state.dead_letters >= feed.delivered
        failed = feed.refused or not feed.delivered or not complete or feed.lost
        return ExitCode.UNEXPECTED if failed and not self._stop else ExitCode.DONE

    def _generate(self) -> Iterator[Found]:
        for number, data in enumerate(stream(self._generated or 0)):
            yield Found(f"checkpoint {number}", number, data)

    def _feed(self, feed: Feed, checkpoints: Iterator[Found]) -> None:
        for fed, found in enumerate(checkpoints):
            partition, size = feed.partition_of(found.number), len(found.data)
            while not self._stop and (
                time.monotonic() < self._began + fed / self._rate
                or not self._windows[partition].admits(size, self._pipeline.next_offset(partition))
            ):
                self._turn(wait=True)
            if self._stop:
                return
            feed.publish(found)
            self._windows[partition].add(size)
            self._turn(wait=False)

    def _turn(self, *, wait: bool) -> None:
        self._raise_failures()
        self._raise_if_stuck()
        self._say_first()
        if self._view.due:
            self._view.show(self._state())
        if wait:
            time.sleep(TURN_SECONDS)

    def _state(self) -> State:
        expected = None
        if self._generated is not None:
            expected = [len(range(partition, self._generated, PARTITIONS)) for partition in range(PARTITIONS)]
        return State(
            time.monotonic() - self._began,
            [window.fed for window in self._windows],
            [len(offsets) for offsets in self._output.sources],
            expected,
            self._owners(),
            *self._pipeline.count(*_COUNTED),
        )

    def _owners(self) -> list[str]:
        return [self._pipeline.owner(partition) for partition in range(PARTITIONS)]

    def _raise_failures(self) -> None:
        for thread in (self._pipeline, self._output):
            if thread.error is not None:
                raise thread.error

    def _say_first(self) -> None:
        lines = self._output.first[self._said :]
        if lines and not self._said:
            self._view.say("\n" + self._view.heading("The first records of the output, as `tail` prints them:"))
        self._said += len(lines)
        for line in lines:
            self._view.say(line)
        if lines and self._said == SHOWN:
            self._view.say("")

    def _raise_if_stuck(self) -> None:
        now, published = time.monotonic(), self._output.published
        if published != self._published or self._pipeline.committed == sum(window.fed for window in self._windows):
            self._published, self._moved_at = published, now
        if now - self._moved_at > STUCK_SECONDS:
            raise Stop(
                f"nothing was published for {STUCK_SECONDS:.0f} s; what the members said about it is above, "
                "CONSUMER_LOG__LEVEL=info says more"
            )

    def _closing(self, feed: Feed, state: State) -> str:
        notes = {
            "dead letters": state.dead_letters,
            "published more than once": self._output.published - self._output.distinct,
            "refused": feed.refused,
            "not delivered": 0 if self._stop else feed.lost,
        }
        text = f"fed {_of(feed.delivered, 'checkpoint')}, published {_of(self._output.published, 'record')} "
        text += f"({self._output.distinct:,} distinct) by {_of(self._settings.concurrency, 'member')} "
        text += f"in {state.batches:,} batch{'' if state.batches == 1 else 'es'}, {state.seconds:.1f} s"
        extra = "".join(f"; {count:,} {what}" for what, count in notes.items() if count)
        return self._view.heading(f"{'stopped' if self._stop else 'done'}: {text}{extra}")


def _settings(config_file: Path | None, bootstrap: str, *, console: bool) -> Settings:
    decided = {**_DECIDED, "kafka.bootstrap_servers": bootstrap}
    _, sources = load_settings_and_sources(os.environ, config_file=config_file, overrides=decided)
    defaults = {**_DEFAULTS, **({"log.format": "console"} if console else {})}
    unasked = {name: value for name, value in defaults.items() if sources[name] == "default"}
    return load_settings(os.environ, config_file=config_file, overrides={**decided, **unasked})


def _of(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no number: use 1 or more")
    return int(text)
