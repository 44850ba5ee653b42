"""`make bench`: the consumer and the hand-written loop in turn, on one real broker, in one run.

README.md says how it is measured. Prints a table; every single run goes to benchmarks/results/latest.json.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.measure import Job, Result, Wrong, measure
from benchmarks.report import Variant, line, save, table
from benchmarks.source import PARTITIONS, fill, from_folder, generated
from tests.brokers.container import ContainerBroker
from tests.brokers.find import Broker
from tests.brokers.foreign import ForeignBroker
from tests.brokers.jars import Unavailable
from tests.brokers.jvm import JvmBroker

DELIVERIES = ("exactly_once", "at_least_once")


def main() -> int:
    """Run the benchmark; 1 where a program did not do its job."""
    args = _arguments()
    source = from_folder(args.checkpoints) if args.checkpoints else generated
    variants = [Variant(delivery, members) for delivery in args.delivery for members in (0, *args.members)]
    runs: dict[Variant, list[Result]] = {variant: [] for variant in variants}
    with _broker() as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
        topic = f"benchmark-{uuid.uuid4().hex[:8]}"
        with _topics(admin, topic, f"{topic}.dlq"):
            size = fill(broker.bootstrap, topic, source, args.count, args.compression)
            setting = _setting(args, size, broker)
            print(setting, flush=True)
            for number in range(1, args.rounds + 1):
                for variant in variants if number % 2 else reversed(variants):
                    name = f"{topic}-{uuid.uuid4().hex[:8]}"
                    result = _run(admin, Job(broker.bootstrap, topic, name, name, args.count, source), variant)
                    runs[variant].append(result)
                    print(f"round {number}  {line(variant, result)}", flush=True)
    print(f"\n{table(runs)}\nevery run was verified: all keys, decoded samples, committed offsets, exit code")
    save(setting, runs)
    return 0


def _run(admin: AdminClient, job: Job, variant: Variant) -> Result:
    with _topics(admin, job.output):
        try:
            return measure(job, _command(job, variant), _settings(job, variant))
        except Wrong as error:
            raise SystemExit(f"{variant.name}, {variant.delivery}: {error}") from None


def _command(job: Job, variant: Variant) -> list[str]:
    if variant.members:
        return [sys.executable, "-m", "consumer", "run"]
    program = [sys.executable, "-m", "benchmarks.bare"]
    return [*program, job.bootstrap, job.input, job.output, job.group, variant.delivery]


def _settings(job: Job, variant: Variant) -> dict[str, str]:
    """What the consumer must be told; under `classic`, members that start together begin together."""
    return {
        "CONSUMER_KAFKA__BOOTSTRAP_SERVERS": job.bootstrap,
        "CONSUMER_KAFKA__GROUP_PROTOCOL": "classic",
        "CONSUMER_GROUP_ID": job.group,
        "CONSUMER_INPUT_TOPIC": job.input,
        "CONSUMER_OUTPUT_TOPIC": job.output,
        "CONSUMER_DLQ_TOPIC": f"{job.input}.dlq",
        "CONSUMER_WORKER": "consumer.workers:SummaryWorker",
        "CONSUMER_CONCURRENCY": str(variant.members or 1),
        "CONSUMER_DELIVERY": variant.delivery,
        "CONSUMER_START": "earliest",
        "CONSUMER_HTTP__PORT": "0",
        "CONSUMER_LOG__LEVEL": "warning",
    }


@contextmanager
def _broker() -> Iterator[Broker]:
    """The one of KAFKA_BOOTSTRAP_SERVERS, else a JVM process of our own, else a container, which adds some noise."""
    broker: Broker
    if bootstrap := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        broker = ForeignBroker(bootstrap)
    else:
        try:
            # The delay: all members are there when the work is dealt.
            broker = JvmBroker(settings={"group.initial.rebalance.delay.ms": "1000"}, heap="1g")
        except Unavailable as reason:
            print(f"no broker as a JVM process ({reason}), so in a container", file=sys.stderr)
            broker = ContainerBroker()
    try:
        yield broker
    finally:
        broker.close()


@contextmanager
def _topics(admin: AdminClient, *names: str) -> Iterator[None]:
    config = {"max.message.bytes": "16000000"}
    for made in admin.create_topics([NewTopic(name, PARTITIONS, 1, config=config) for name in names]).values():
        made.result()
    try:
        yield
    finally:
        for gone in admin.delete_topics(list(names)).values():
            gone.result()


def _setting(args: argparse.Namespace, size: int, broker: Broker) -> str:
    kind = f"from {args.checkpoints}, numbered anew" if args.checkpoints else "generated"
    return (
        f"broker: {broker.describe}\ninput: {args.count:,} checkpoints of {size / args.count / 1000:.0f} KB, {kind}, "
        f"compression {args.compression}, {PARTITIONS} partitions\n"
        f"machine: {os.cpu_count()} cores, Python {platform.python_version()}"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench BENCH=...", description="The consumer and a hand-written loop, in turn, on a real broker."
    )
    parser.add_argument("--count", type=int, default=20_000, help="checkpoints (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of every program in turn (default: %(default)s)")
    parser.add_argument("--members", type=int, nargs="*", default=[1, 2], help="member processes (default: 1 2)")
    parser.add_argument("--delivery", nargs="*", default=list(DELIVERIES), choices=DELIVERIES)
    parser.add_argument("--checkpoints", type=Path, metavar="FOLDER", help="real ones instead of generated ones")
    parser.add_argument("--compression", default="none", help="of the input topic: none (default), zstd, lz4, ...")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
