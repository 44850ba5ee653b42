"""A member process from its first line to its exit: composes the member, talks to the supervisor.

Signals are the supervisor's business: the member ignores SIGINT and SIGTERM, is told through a pipe, and ends when
the pipe closes. From the moment it is told to stop, a timer of the kernel bounds its life.
"""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from typing import Any

from consumer import log as logs
from consumer.allocator import return_what_is_freed
from consumer.checkpoint import decoder_for
from consumer.core import messages as m
from consumer.core.audit import SequencePolicy
from consumer.core.flush import FlushPolicy
from consumer.core.history import DeadLetterLimits
from consumer.core.machine import Policy
from consumer.core.retry import Backoff
from consumer.errors import ExitCode, Stop, TransientError
from consumer.hangs import DUMP_SIGNAL
from consumer.joining import Protocol, leave, run_in_group
from consumer.kafka.conf import consumer_conf
from consumer.kafka.preflight import Preflight, Topic
from consumer.kafka.sinks import make_sink
from consumer.kafka.source import Source
from consumer.kafka.transactor import Ready, Sink
from consumer.kafka.watch import Watch
from consumer.limits import CaughtUp, Limits
from consumer.loading import Encoding, encoder, encodings, make
from consumer.member import Member
from consumer.patience import Patience
from consumer.protocol import Alone, Failure, Spec, Status, write_whole
from consumer.reducer import Reducer
from consumer.registry import resolve_id
from consumer.telemetry import Telemetry
from consumer.work.bench import Bench
from consumer.work.job import Job
from consumer.work.publish import DeadLetters, Publisher, Target
from consumer.work.report import Broken, Closed, Measured, Opened, Woken
from consumer.worker import Context, Worker

log = logs.get_logger("consumer.process")
STATUS_SECONDS = 0.5
SWITCH_SECONDS = 0.002
"""Two threads take turns: at Python's 5 ms the poll thread stands after every call of the client; see bench.py."""
LISTEN_SECONDS = 0.02
"""Between two looks into the supervisor's pipe, each of them a turn given away."""
REGISTRY_SECONDS = 2.0
"""One look-up: so that a stop is heard and a silent registry is named in time."""
LEAVE_SECONDS = 2.0
CLOSE_MARGIN_SECONDS = 0.5
"""Of the time to stop: kept for leaving the group."""
DRAIN_SHARE = 0.7
"""Of the time to stop: for finishing and publishing. The rest is for leaving the group and closing."""


def main(spec: Spec, pipe: Connection, stacks: Connection) -> None:
    """Entry point of the member process; never returns. `stacks` takes what its threads do when the supervisor asks."""
    faulthandler.register(DUMP_SIGNAL, stacks.fileno(), all_threads=True)
    return_what_is_freed()
    sys.setswitchinterval(SWITCH_SECONDS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    settings = spec.settings
    logs.configure(settings.log, group=settings.group_id, member=spec.index)
    code = ExitCode.UNEXPECTED
    try:
        MemberProcess(spec, pipe).run()
        code = ExitCode.DONE
    except StopIteration:
        code = ExitCode.DONE  # told to stop before it had joined
    except Stop as stop:
        code = stop.exit_code
        if not _tell(pipe, Failure(code, str(stop))):
            log.error("member failed", error=str(stop))
    except (Exception, SystemExit) as error:  # noqa: BLE001 whatever it is, it is logged and ends this process
        log.error("member failed", error=f"{type(error).__name__}: {error}", exception=error)
    # Not sys.exit: threads that user code or a pool left behind would be waited for.
    logging.shutdown()
    os._exit(code)


def _tell(pipe: Connection, message: Any, seconds: float = 1.0) -> bool:
    """Whether the supervisor is told; one that is stopped does not read, and is not waited for."""
    try:
        if not select.select([], [pipe], [], seconds)[1]:
            return False
        write_whole(pipe, message)
    except OSError:
        log.warning("the supervisor is gone")
        return False
    return True


class MemberProcess:
    """Composes one member and runs it."""

    def __init__(self, spec: Spec, pipe: Connection) -> None:
        self._spec = spec
        self._settings = spec.settings
        self._pipe = pipe
        self._stop_at: float | None = None
        self._reported = 0.0
        self._listen_at = 0.0
        self._input = Topic(spec.settings.input_topic, 0, 0)
        self._limits = Limits()
        self._bench: Bench | None = None
        self._patience = Patience(spec.patient, self._stopping)
        self._revoke_seconds = min(3.0, spec.settings.shutdown.timeout_seconds / 2)

    def run(self) -> None:
        """Prepare, join, work, leave."""
        settings, spec = self._settings, self._spec
        worker = make(spec.worker, Worker, settings.worker_options, "CONSUMER_WORKER")
        reducer = None
        if spec.reducer is not None:
            reducer = make(spec.reducer, Reducer, settings.reducer_options, "CONSUMER_REDUCER")
        outputs = encodings(worker, reducer, settings)
        preflight = Preflight(settings, self._patience)
        names = {settings.input_topic, settings.dlq_topic, *(output.topic for output in outputs)}
        topics = preflight.topics(names)
        self._input = topics[settings.input_topic]
        self._limits = self._find_limits(preflight)
        job = self._job(worker, reducer, outputs, topics)
        outbox: SimpleQueue[Any] = SimpleQueue()
        bench = self._bench = Bench(job, outbox)
        bench.start()
        self._await_open(outbox)
        self._member(preflight, bench, outbox, reducer, topics)

    # --------------------------------------------------------------------------------------------- preparation

    def _find_limits(self, preflight: Preflight) -> Limits:
        spec = self._spec
        if spec.until is None:
            return Limits()
        ends = spec.ends
        if ends is None:
            preflight.wait_until_alone()
            ends = preflight.ends(self._input.partitions) if isinstance(spec.until, CaughtUp) else {}
            _tell(self._pipe, Alone(ends))
        return Limits(spec.until, self._settings.sequence.partitioning, self._input.partitions, ends)

    def _job(self, worker: Any, reducer: Any, outputs: list[Encoding], topics: dict[str, Topic]) -> Job:
        settings = self._settings
        default: Target | None = None
        by_type: dict[type, Target] = {}
        for output in outputs:
            schema_id = self._schema_id(output)
            topic = topics[output.topic]
            target = Target(topic.name, topic.partitions, topic.max_bytes, encoder(output, schema_id).encode)
            if output.message_type is None:
                default = target
            else:
                by_type[output.message_type] = target
        dlq = topics[settings.dlq_topic]
        return Job(
            make_worker=lambda: worker,
            make_reducer=None if reducer is None else lambda: reducer,
            decoder=lambda made: decoder_for(type(made).checkpoint_type),
            publisher=Publisher(default, by_type),
            dead_letters=DeadLetters(dlq.name, dlq.partitions, dlq.max_bytes, settings.group_id, settings.input_topic),
            limits=self._limits,
            sequence=SequencePolicy(settings.sequence.policy, settings.sequence.partitioning, self._input.partitions),
            dead_letter_limits=DeadLetterLimits(settings.dlq.max_consecutive, settings.dlq.max_ratio),
            context=Context(settings.group_id, self._spec.index, settings.input_topic),
            max_in_flight=settings.max_in_flight,
            max_messages=settings.batch.max_messages,
            max_bytes=settings.batch.max_bytes,
        )

    def _schema_id(self, output: Encoding) -> int:
        schema = self._settings.schema
        schema_id, where = self._patience.ask(
            lambda: resolve_id(output.schema, output.topic, schema, REGISTRY_SECONDS),
            lambda error: str(error) if isinstance(error, TransientError) else None,
            f"the schema registry at {schema.registry_url} (CONSUMER_SCHEMA__REGISTRY_URL)",
        )
        if where == "hash":
            log.info(
                "schema is in no version file, its id is made of its canonical form",
                topic=output.topic,
                schema_id=schema_id,
            )
        return schema_id

    def _await_open(self, outbox: SimpleQueue[Any]) -> None:
        answer: Any = None
        while not isinstance(answer, Opened):
            if isinstance(answer, Broken):
                raise answer.error
            try:
                answer = outbox.get(timeout=0.1)
            except Empty:
                if self._stopping():
                    raise StopIteration from None

    def _policy(self, reducer: Any) -> Policy:
        settings = self._settings
        retry = settings.retry
        return Policy(
            topic=settings.input_topic,
            topic_id=self._input.topic_id,
            flush=FlushPolicy(
                settings.batch.max_messages,
                settings.batch.max_bytes,
                settings.batch.max_seconds,
                settings.batch.linger_seconds,
            ),
            memory_bytes=settings.memory.max_bytes // 2,
            retry=Backoff(retry.initial_seconds, retry.multiplier, retry.max_seconds),
            retry_attempts=retry.max_attempts,
            retry_elapsed_seconds=retry.max_elapsed_seconds,
            reduces=reducer is not None,
            positions=reducer is not None and type(reducer).start_offset is not Reducer.start_offset,
            stop_seconds=DRAIN_SHARE * settings.shutdown.timeout_seconds,
            stuck_seconds=settings.watchdog.stuck_seconds,
            limits=self._limits,
        )

    # ------------------------------------------------------------------------------------------------- running

    def _member(
        self,
        preflight: Preflight,
        bench: Bench,
        outbox: SimpleQueue[Any],
        reducer: Any,
        topics: dict[str, Topic],
    ) -> None:
        settings = self._settings
        telemetry = Telemetry(settings.input_topic, self._spec.index)
        sink = make_sink(settings, self._spec.index, topics.values(), lambda: self._source, lambda: outbox.put(Woken()))
        member = Member(
            self._policy(reducer),
            bench,
            outbox,
            sink,
            telemetry,
            self._listen,
            self._report,
            revoke_seconds=self._revoke_seconds,
        )
        choice = settings.kafka.group_protocol
        source = self._open(member, "classic" if choice == "classic" else "consumer")
        sink.rebuild()
        # Only now: a client that refuses its options must not leave a group that has begun.
        preflight.start_group(self._input.partitions, settings.sequence.partitioning)
        self._start_sink(sink)
        watch = Watch(
            preflight.admin,
            settings.input_topic,
            {topic.name: topic.topic_id for topic in topics.values()},
            lambda: list(member.machine.partitions),
            outbox,
            settings.watchdog.stuck_seconds / 4,
            # A bounded run keeps to what there was at its start.
            self._input.partitions if settings.sequence.partitioning.known and not self._limits.bounded else None,
        )
        watch.start()
        gc.freeze()
        try:
            opened, bound = partial(self._open, member), self._revoke_seconds + LEAVE_SECONDS
            source = run_in_group(member.run, opened, source, choice, self._patience, bound)
        except BaseException:
            self._abandon()
            raise
        finally:
            sink.discard()
        bench.post([None])
        self._await_closed(outbox, telemetry)
        self._reported = 0.0
        self._report(member)  # while there still are partitions: closing gives them back
        leave(source.close, min(LEAVE_SECONDS, self._left(0.1)))

    def _open(self, member: Member, protocol: Protocol) -> Source:
        settings = self._settings
        index, largest = self._spec.index, self._input.max_bytes
        conf, left_out = consumer_conf(settings, member=index, group_protocol=protocol, largest_record=largest)
        if self._limits.bounded:
            conf["enable.partition.eof"] = True
        log.info("joining", topic=settings.input_topic, protocol=protocol, options_left_out=left_out)
        self._source = Source(conf, settings.input_topic, member)
        return self._source

    def _abandon(self) -> None:
        """Leave after a failure; that one counts, with its exit code, whatever comes of leaving."""
        try:
            leave(self._source.abandon, min(LEAVE_SECONDS, self._left(0.1)))
        except Exception as error:  # noqa: BLE001 whatever it is, it is logged
            log.warning("the group was not left in order", error=f"{type(error).__name__}: {error}")

    def _left(self, margin: float) -> float:
        """Seconds until `margin` before the end of the time to stop, which begins now unless it has begun."""
        at = self._stop_at or time.monotonic() + self._settings.shutdown.timeout_seconds
        return max(0.0, at - margin - time.monotonic())

    def _start_sink(self, sink: Sink) -> None:
        """Settle what a predecessor with this identity left open, before joining the group."""

        def ready() -> None:
            if not isinstance(sink.step(1.0), Ready):
                raise TransientError(
                    "it does not take this producer in; one broker alone needs its "
                    "transaction.state.log.replication.factor to be 1"
                )

        servers = self._settings.kafka.bootstrap_servers
        self._patience.ask(
            ready,
            lambda error: str(error) if isinstance(error, TransientError) else None,
            f"the transaction coordinator at {servers} (CONSUMER_KAFKA__BOOTSTRAP_SERVERS)",
        )

    def _await_closed(self, outbox: SimpleQueue[Any], telemetry: Telemetry) -> None:
        """Let `close` of the worker and reducer run, within what is left of the time to stop."""
        report = None
        try:
            while not isinstance(report, (Closed, Broken)):
                report = outbox.get(timeout=self._left(CLOSE_MARGIN_SECONDS))
                if isinstance(report, (Measured, Closed)):  # the last second counts as well
                    telemetry.measured(report.tally)
        except Empty:
            log.warning("the worker did not close in time")

    # ---------------------------------------------------------------------------------------------- supervisor

    def _messages(self) -> Iterator[Any]:
        try:
            while self._pipe.poll(0):
                yield self._pipe.recv()
        except (EOFError, OSError):
            yield ("stop", time.monotonic() + self._settings.shutdown.timeout_seconds)  # the supervisor is gone

    def _listen(self) -> Iterable[m.Event]:
        if (now := time.monotonic()) < self._listen_at:
            return
        self._listen_at = now + LISTEN_SECONDS
        for message in self._messages():
            if message[0] == "stop" and self._stop_at is None:
                self._be_told_to_stop(message[1])
                yield m.Stop(now + DRAIN_SHARE * (message[1] - now))
            elif message[0] == "limit":
                yield m.LimitReached()

    def _be_told_to_stop(self, at: float) -> None:
        self._stop_at = at
        if threading.current_thread() is threading.main_thread():  # else the group is being left to join it again
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process whatever hangs, even with the GIL held
        signal.setitimer(signal.ITIMER_REAL, max(0.1, at - time.monotonic()))

    def _stopping(self) -> bool:
        for _ in self._listen():
            pass
        if self._due():
            _tell(self._pipe, Status(joined=False, partitions=0, call=self._call()))
        return self._stop_at is not None

    def _due(self) -> bool:
        now = time.monotonic()
        if now - self._reported < STATUS_SECONDS:
            return False
        self._reported = now
        return True

    def _call(self) -> tuple[float, str] | None:
        return self._bench.underway.longest() if self._bench is not None else None

    def _report(self, member: Member) -> None:
        if not self._due():
            return
        machine = member.machine
        assigned = sorted(machine.partitions)
        metrics = member.telemetry.snapshot(machine, self._source.ends(assigned), self._source.positions(assigned))
        status = Status(
            joined=self._source.joined,
            partitions=self._input.partitions,
            assigned=assigned,
            ended=machine.ended,
            limit_reached=machine.limit_reached,
            progress=machine.committed,
            metrics=metrics,
            call=self._call(),
        )
        _tell(self._pipe, status, 0)  # where it cannot be sent, the next one says the same
