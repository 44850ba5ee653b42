"""How a test broker is configured: the same settings whether it runs as a JVM process or in a container."""

from __future__ import annotations

import random
import socket

CLUSTER_ID = "checkpointconsumertest"
LARGEST_REQUEST = 100 * 1024 * 1024

BROKER_SETTINGS: dict[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    # One broker is all there is.
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "min.insync.replicas": "1",
    # Few partitions: the coordinators load and restart quickly.
    "offsets.topic.num.partitions": "3",
    "transaction.state.log.num.partitions": "3",
    # Joins, departures and abandoned transactions are noticed as fast as the protocol allows.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "5000",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.heartbeat.interval.ms": "1000",
    "group.consumer.heartbeat.interval.ms": "1000",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    # A broker that was killed may register again once its old session is over.
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "500",
    # Topics of 64 MiB records must be possible; a topic without its own limit keeps the stock one.
    "socket.request.max.bytes": str(LARGEST_REQUEST),
    # Nothing expires while a test looks at it.
    "log.retention.hours": "-1",
    "log.retention.bytes": "-1",
    # The stock buffer takes 128 MiB of heap.
    "log.cleaner.dedupe.buffer.size": str(4 * 1024 * 1024),
}


def free_port() -> int:
    """A TCP port nobody listens on, below the range from which the kernel takes the ports of outgoing connections.

    From within that range a client that keeps connecting to a stopped broker would sooner or later be given the
    broker's own port, connect to itself, and keep the broker from coming back.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
