"""The cluster of the current kubeconfig, and the pipeline of the dev overlay on it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import Any, cast

import yaml
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from tests.checker import Report, check, committed_offsets
from tests.k8s.contract import NAME
from tests.k8s.manifests import Manifest, of_kind, render
from tests.readback import Place, Record, end_offsets, read_topic

__all__ = ["BOOTSTRAP", "GROUP", "Broken", "Outputs", "Pipeline", "kubectl", "load_images", "until"]

GROUP, INPUT, OUTPUT, DEAD_LETTERS = "summaries", "checkpoints", "checkpoint-summaries", "summaries.dlq"
BOOTSTRAP = "localhost:19092"
CONSUMERS = f"app.kubernetes.io/name={NAME},app.kubernetes.io/component=consumer"
KAFKA_IMAGE = os.environ.get("TEST_KAFKA_IMAGE")
"""In place of the dev overlay's."""
PARTITIONS = 6


class Broken(AssertionError):
    """The cluster did not do what it was told; the text holds what it said."""


def kubectl(*args: str, stdin: str | None = None, timeout: float = 120, check: bool = True) -> str:
    """Run kubectl and return its output; Broken where it fails, unless not to be checked."""
    done = subprocess.run(["kubectl", *args], input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
    if check and done.returncode:
        raise Broken(f"kubectl {shlex.join(args)}: {(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


def load_images(*images: str) -> None:
    """Into the cluster's nodes: by K8S_LOAD_IMAGES, a command that takes names of images; else they are there."""
    command = os.environ.get("K8S_LOAD_IMAGES")
    if not command and kubectl("config", "current-context").startswith("kind-"):
        command = "kind load docker-image"
    if command:
        subprocess.run([*shlex.split(command), *images], check=True, capture_output=True, timeout=300)


def until(what: str, happens: Callable[[], Any], seconds: float = 90) -> Any:
    """Ask until the answer is true, and return it; Broken after `seconds`."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not (answer := happens()):
        if time.monotonic() > deadline:
            raise Broken(f"not within {seconds:g} s: {what}")
        pause.wait(0.2)
    return answer


class Pipeline:
    """The dev overlay in its namespace; `close` removes all of it."""

    def __init__(self) -> None:
        self.applied_at = time.time()
        self.fed = 0
        """The number of the next checkpoint."""
        self._forward: subprocess.Popen[bytes] | None = None

    # ----------------------------------------------------------------------------------------------------- manifests

    def manifests(self, name: str = "dev") -> list[Manifest]:
        """Of a kustomization, with the broker's image of this run, and without the feed."""
        manifests = [m for m in render(name) if not (m["kind"] == "Job" and m["metadata"]["name"] == "feed")]
        for broker in of_kind(manifests, "StatefulSet"):
            for container in broker["spec"]["template"]["spec"]["containers"]:
                container["image"] = KAFKA_IMAGE or container["image"]
        return manifests

    def apply(self, manifests: Sequence[Manifest]) -> None:
        """`kubectl apply`."""
        kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(manifests))

    def open(self) -> None:
        """Apply it and wait until it is ready, and the broker can be reached from here."""
        self.applied_at = time.time()
        self.apply(self.manifests())
        self.rolled_out()
        self._forward = subprocess.Popen(
            ["kubectl", "-n", NAME, "port-forward", "service/kafka", BOOTSTRAP.rpartition(":")[2]],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # it tells of every connection that ends
        )
        until("the broker answers through the forwarded port", self._answers)

    def close(self) -> None:
        """Remove the namespace and everything in it."""
        if self._forward:
            self._forward.terminate()
            self._forward.wait()
        kubectl("delete", "namespace", NAME, "--ignore-not-found", timeout=180)

    def _answers(self) -> bool:
        admin = AdminClient({"bootstrap.servers": BOOTSTRAP, "log_level": 0})
        with suppress(KafkaException):
            return {INPUT, OUTPUT, DEAD_LETTERS} <= admin.list_topics(timeout=5).topics.keys()
        return False

    # -------------------------------------------------------------------------------------------------- the workload

    def kubectl(self, *args: str, **options: Any) -> str:
        """In the pipeline's namespace."""
        return kubectl("-n", NAME, *args, **options)

    def rolled_out(self, seconds: int = 150) -> None:
        """Wait for the rollout."""
        self.kubectl("rollout", "status", f"deployment/{NAME}", f"--timeout={seconds}s", timeout=seconds + 10)

    def scale(self, replicas: int) -> None:
        """Set the replicas and wait until as many are ready."""
        self.kubectl("scale", f"deployment/{NAME}", f"--replicas={replicas}")
        until(f"{replicas} pods", lambda: len(self.ready()) == replicas == len(self.pods()))

    def configure(self, **fields: Any) -> None:
        """Change the Deployment."""
        self.kubectl("patch", "deployment", NAME, "-p", json.dumps({"spec": fields}))

    def patch(self, pod: Manifest | None = None, /, **fields: Any) -> None:
        """Change the consumer's container, and its pod."""
        self.configure(template={"spec": {**(pod or {}), "containers": [{"name": "consumer", **fields}]}})

    def pods(self, selector: str = CONSUMERS) -> list[Manifest]:
        """Pods that are not on their way out."""
        found = json.loads(self.kubectl("get", "pods", "-l", selector, "-o", "json"))["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def ready(self) -> list[str]:
        """The names of the pods that are ready."""
        return [
            pod["metadata"]["name"]
            for pod in self.pods()
            if any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))
        ]

    def ended(self, *, but: Collection[str] = ()) -> list[Manifest]:
        """How consumers ended, as their pods tell, all but some: `exitCode`, `reason`, `message`."""
        pods = [pod for pod in self.pods() if pod["metadata"]["name"] not in but]
        statuses = [status for pod in pods for status in pod["status"].get("containerStatuses", ())]
        states = [status[which] for status in statuses for which in ("state", "lastState")]
        return [state["terminated"] for state in states if "terminated" in state]

    def peak_bytes(self) -> int:
        """The most memory that the consumer's container has had in use, its cache included."""
        return int(self._cgroup(self.ready()[0], "memory/memory.max_usage_in_bytes", "memory.peak"))

    def cpu_seconds(self) -> float:
        """What the consumers' containers have used up so far, of one core."""
        used = 0.0
        for pod in self.ready():
            text = self._cgroup(pod, "cpuacct/cpuacct.usage", "cpu.stat").split()
            used += int(text[0]) / 1e9 if len(text) == 1 else int(text[1]) / 1e6
        return used

    def run(self, pod: str, code: str) -> str:
        """Python code in a consumer's container."""
        return str(self.kubectl("exec", pod, "-c", "consumer", "--", "python3", "-c", code))

    def _cgroup(self, pod: str, old: str, new: str) -> str:
        code = "from pathlib import Path\nfiles = [Path('/sys/fs/cgroup', name) for name in ({old!r}, {new!r})]\n"
        code += "print(next(file for file in files if file.exists()).read_text())"
        return self.run(pod, code.format(old=old, new=new))

    # --------------------------------------------------------------------------------------------------- checkpoints

    @contextmanager
    def feeding(self, count: int, rate: int, size: int = 10_000, memory: str = "192Mi") -> Iterator[None]:
        """While a Job feeds the next `count` checkpoints, and until it has."""
        [job] = [m for m in render("dev") if m["kind"] == "Job"]
        job["metadata"]["name"] = name = f"feed-{self.fed}"
        feed = job["spec"]["template"]["spec"]["containers"][0]
        values = {"FIRST": self.fed, "CHECKPOINTS": count, "RATE": rate, "BYTES": size}
        feed["env"] = [{"name": f"FEED_{key}", "value": str(value)} for key, value in values.items()]
        feed["resources"] = {kind: {"cpu": "100m", "memory": memory} for kind in ("requests", "limits")}
        feed["resources"]["limits"].pop("cpu")
        before = self.inputs()
        self.apply([job])
        until("checkpoints come in", lambda: self.inputs() > before)
        yield
        self.fed += count
        self.kubectl("wait", "--for=condition=Complete", f"job/{name}", "--timeout=240s", timeout=250)

    def inputs(self) -> int:
        """Records in the input topic."""
        return sum(end_offsets(BOOTSTRAP, [INPUT]).values())

    def caught_up(self, seconds: float = 120) -> None:
        """Wait until all that was fed is committed."""
        ends = {place: end for place, end in end_offsets(BOOTSTRAP, [INPUT]).items() if end}

        def all_of_it() -> bool:
            with suppress(KafkaException):  # a transaction of a member that died is still open
                return committed_offsets(BOOTSTRAP, GROUP) == ends
            return False

        until("the group has committed all there is", all_of_it, seconds)


class Outputs:
    """The output topic as a read_committed reader sees it, with the time of each record; reads on at every look."""

    def __init__(self) -> None:
        conf = {"bootstrap.servers": BOOTSTRAP, "group.id": "k8s-test", "enable.auto.commit": False}
        conf |= {"isolation.level": "read_committed", "auto.offset.reset": "error", "enable.partition.eof": True}
        self._consumer = Consumer(conf)
        self._consumer.assign([TopicPartition(OUTPUT, partition, 0) for partition in range(PARTITIONS)])
        self._next: dict[Place, int] = {}
        self.records: list[Record] = []
        self.times: dict[int, list[float]] = defaultdict(list)
        """By partition, when each record was published, in seconds since 1970."""

    def close(self) -> None:
        self._consumer.close()

    def look(self, seconds: float = 60) -> None:
        """Take in what there is; TimeoutError after `seconds`: a transaction stays open."""
        ends, deadline = end_offsets(BOOTSTRAP, [OUTPUT]), time.monotonic() + seconds
        while behind := [place for place, end in ends.items() if self._next.get(place, 0) < end]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{behind} cannot be read to the end")
            for message in self._consumer.consume(1000, 0.2):
                self._take(message)

    def _take(self, message: Message) -> None:
        partition, offset, error = message.partition() or 0, message.offset() or 0, message.error()
        if error is None:
            headers = cast(list[tuple[str, bytes]], message.headers() or [])
            self.records.append(Record(OUTPUT, partition, offset, None, None, tuple(headers)))
            self.times[partition].append(message.timestamp()[1] / 1000)
            self._next[OUTPUT, partition] = offset + 1
        elif error.code() == KafkaError._PARTITION_EOF:
            self._next[OUTPUT, partition] = offset
        else:
            raise KafkaException(error)

    def report(self) -> Report:
        """What the exactly-once checker says of everything so far; the input has no holes, nobody aborts there."""
        self.look()
        ends = end_offsets(BOOTSTRAP, [INPUT])
        inputs = [Record(*place, offset) for place, end in ends.items() for offset in range(end)]
        dead = [letter._replace(key=None, value=None) for letter in dead_letters()]
        committed: dict[Place, int] = committed_offsets(BOOTSTRAP, GROUP)
        return check(inputs, self.records, dead, committed)

    def longest_pause(self, since: float, end: float) -> float:
        """Seconds that one partition published nothing for, between two times."""
        self.look()
        inside = [[since, *(at for at in times if since < at < end), end] for times in self.times.values()]
        return max(later - earlier for times in inside for earlier, later in pairwise(times))

    def first_after(self, at: float) -> dict[int, float]:
        """By partition, the seconds from `at` to the first record that was published after it."""
        self.look()
        return {p: min(after) - at for p, times in self.times.items() if (after := [t for t in times if t > at])}


def dead_letters() -> list[Record]:
    """All there are."""
    return read_topic(BOOTSTRAP, [DEAD_LETTERS])


def make_topics(*names: str) -> None:
    """With as many partitions as the input has."""
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    for future in admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names]).values():
        future.result()


def allow_records_of(size: int) -> None:
    """Let the topics take records of `size` bytes."""
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    resources = [
        ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry]) for topic in (INPUT, DEAD_LETTERS)
    ]
    for future in admin.incremental_alter_configs(resources).values():
        future.result()
