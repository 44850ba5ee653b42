"""`feed`: publishes checkpoint files to the input topic, each record's partition and key from its sequence number."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import BinaryIO, NamedTuple

from consumer.checkpoint import CheckpointHeader, Position, decoder_for
from consumer.cli.documents import Document, documents_in, files_in
from consumer.cli.signals import StopRequest
from consumer.errors import DecodeError, ExitCode
from consumer.kafka.publisher import Publisher
from consumer.kafka.topics import find_topic, largest_record
from consumer.log import configure
from consumer.partitioning import Partitioning
from consumer.settings import Settings, load_settings

__all__ = ["Feed", "Found", "add_arguments", "run"]

REQUIRED = frozenset({"kafka.bootstrap_servers", "input_topic"})
_UNKNOWN_LIMIT_BYTES = 64 * 1024 * 1024
"""The largest document where the topic's limit cannot be read: the brokers refuse what is too large for them."""
_GRACE_SECONDS = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's arguments."""
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="files, folders (their .json, .jsonl, .ndjson), - for standard input"
    )
    parser.add_argument(
        "--partition-by",
        type=_partitioning,
        default=Partitioning(1),
        metavar="RULE",
        help="modulo (default): number %% partitions; range:N: runs of N numbers stay together",
    )


def run(args: argparse.Namespace) -> int:
    """Feed every path; 0 where all of it was published, or a signal ended it; 1 where something was refused.

    Raises:
        ConfigError: a setting or path is wrong, or the topic is missing.
    """
    settings = load_settings(os.environ, config_file=args.config, required=REQUIRED)
    configure(settings.log)
    files = files_in(args.paths)
    with StopRequest() as stop:
        try:
            with stop.interruptible():
                feed = Feed(settings, args.partition_by, stop)
        except KeyboardInterrupt:
            return ExitCode.DONE  # before there was anything to publish
        feed.files(files)
        feed.finish()
    print(json.dumps(feed.summary()) if args.json else feed.sentence())
    return ExitCode.UNEXPECTED if feed.refused or (feed.lost and not stop) else ExitCode.DONE


class Found(NamedTuple):
    """A checkpoint to publish; `label` says where it was found."""

    label: str
    number: int
    data: bytes


class Feed:
    """Publishes documents that are checkpoints; what is none is named on stderr and costs none of its neighbours."""

    def __init__(self, settings: Settings, partitioning: Partitioning, stop: StopRequest) -> None:
        logger = logging.getLogger("consumer.feed")
        self._topic = find_topic(settings, settings.input_topic, "CONSUMER_INPUT_TOPIC", logger)
        self._largest = largest_record(settings, self._topic.name, logger)
        self._publisher = Publisher(settings, self._topic, self._failed, logger, largest_record=self._largest)
        self._partitioning, self._stop = partitioning, stop
        self._decode = decoder_for(CheckpointHeader)
        self._progress = _Progress()
        self._began = time.monotonic()
        self.handed_over = 0
        self.refused = 0
        """Files and documents that were not published because of themselves."""

    @property
    def delivered(self) -> int:
        """Checkpoints that the brokers have acknowledged."""
        return sum(self._publisher.delivered)

    @property
    def lost(self) -> int:
        """Checkpoints that were handed over and not acknowledged."""
        return self.handed_over - self.delivered

    def files(self, files: list[str]) -> None:
        """Publish what is in the files, until the end, a signal, or a failure that would repeat itself."""
        for checkpoint in self.checkpoints(files):
            self.publish(checkpoint)

    def checkpoints(self, files: list[str]) -> Iterator[Found]:
        """The checkpoints in the files, until the end or a signal; what is none is named and counted as refused."""
        for name in files:
            for document in self._documents(name):
                found = self._found(name, document)
                if found is not None:
                    yield found
            if self._ended:
                return

    def partition_of(self, number: int) -> int:
        """Where checkpoint `number` belongs."""
        return self._partitioning.partition_of(number, self._topic.partitions)

    def publish(self, found: Found) -> None:
        """Hand one checkpoint over, waiting for room."""
        self._publisher.publish(self.partition_of(found.number), str(found.number).encode(), found.data, found.label)
        self.handed_over += 1
        self._progress.show(self.delivered)

    def finish(self) -> None:
        """Wait until all is delivered; after a signal for 10 s at most, after a second one no longer."""
        deadline: float | None = None

        def give_up() -> bool:
            nonlocal deadline
            if self._stop and deadline is None:
                deadline = time.monotonic() + _GRACE_SECONDS
            self._progress.show(self.delivered)
            return deadline is not None and (time.monotonic() > deadline or self._stop.count > 1)

        self._publisher.drain(give_up)
        self._progress.clear()

    def summary(self) -> dict[str, object]:
        """The result for programs."""
        return {
            "topic": self._topic.name,
            "delivered": self.delivered,
            "refused": self.refused,
            "failed": self.lost,
            "bytes": self._publisher.delivered_bytes,
            "seconds": round(time.monotonic() - self._began, 3),
            "interrupted": bool(self._stop),
            "partitions": dict(enumerate(self._publisher.delivered)),
        }

    def sentence(self) -> str:
        """The result for people."""
        seconds = time.monotonic() - self._began
        text = f"fed {self.delivered:,} checkpoints ({self._publisher.delivered_bytes / 1e6:,.1f} MB) to topic "
        text += f"{self._topic.name}, {self._topic.partitions} partitions, in {seconds:.1f} s"
        notes = [f"{self.refused:,} refused"] * bool(self.refused) + [f"{self.lost:,} not delivered"] * bool(self.lost)
        return "; ".join([text, *notes, *["stopped by a signal"] * bool(self._stop)])

    @property
    def _ended(self) -> bool:
        return bool(self._stop) or self._publisher.broken

    def _documents(self, name: str) -> Iterator[Document]:
        """The file's documents; a file that cannot be read is one that is refused."""
        largest = self._largest or _UNKNOWN_LIMIT_BYTES
        try:
            with ExitStack() as closing:
                stream: BinaryIO = sys.stdin.buffer if name == "-" else closing.enter_context(open(name, "rb"))  # noqa: PTH123
                documents = documents_in(stream, largest, self._is_checkpoint)
                while not self._ended and (document := self._next(documents)) is not None:
                    yield document
        except OSError as error:
            self._refuse(name, f"cannot be read: {error.strerror}")

    def _next(self, documents: Iterator[Document]) -> Document | None:
        try:
            with self._stop.interruptible():
                return next(documents, None)
        except KeyboardInterrupt:
            return None

    def _found(self, name: str, document: Document) -> Found | None:
        label = f"{name}, line {document.line}" if document.line > 1 or name == "-" else name
        if document.error is not None:
            self._refuse(label, document.error)
            return None
        try:
            return Found(label, self._number(document.data), document.data)
        except DecodeError as error:
            self._refuse(label, f"is no checkpoint: {error}")
            return None

    def _number(self, data: bytes) -> int:
        header: CheckpointHeader = self._decode(data, Position(self._topic.name, -1, -1))
        return header.summary.sequence_number

    def _is_checkpoint(self, data: bytes) -> bool:
        try:
            self._number(data)
        except DecodeError:
            return False
        return True

    def _refuse(self, label: str, reason: str) -> None:
        self.refused += 1
        self._say(f"{label} {reason}")

    def _failed(self, label: str, reason: str) -> None:
        if not self._stop:  # after a signal what is given up is only counted
            self._say(f"{label} was not delivered: {reason}")

    def _say(self, line: str) -> None:
        self._progress.clear()
        print(line, file=sys.stderr)


class _Progress:
    """One line on a terminal, written again a few times a second."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._began = self._shown_at = time.monotonic()

    def show(self, delivered: int) -> None:
        now = time.monotonic()
        if self._terminal and now - self._shown_at > 0.2:
            self._shown_at = now
            sys.stderr.write(f"\r\x1b[K{delivered:,} fed, {delivered / (now - self._began):,.0f}/s")
            sys.stderr.flush()

    def clear(self) -> None:
        if self._terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _partitioning(text: str) -> Partitioning:
    try:
        rule = Partitioning.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not rule.known:
        raise argparse.ArgumentTypeError("feed must know where a number goes: use modulo or range:N")
    return rule
