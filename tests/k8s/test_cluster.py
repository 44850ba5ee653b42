"""The dev overlay on the cluster of the current kubeconfig: what is promised, whatever Kubernetes does to the pods.

Takes the namespace `checkpoint-consumer`, which must not exist, cordons a node for a moment, and removes all it made.
The figures that it prints go into docs/kubernetes.md.
"""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.k8s import cluster
from tests.k8s.cluster import Broken, Outputs, Pipeline, kubectl, until
from tests.k8s.contract import IMAGE, NAME, quantity
from tests.k8s.manifests import Manifest, of_kind, render
from tests.readback import read_topic

pytestmark = pytest.mark.timeout(420)

HEARTBEAT_SECONDS, SESSION_SECONDS = 2.0, 10.0
"""As k8s/overlays/dev/kafka.yaml sets them."""
TRANSACTION_SECONDS, SWEEP_SECONDS = 10.0, 10.0
"""`transaction.timeout.ms`, and how often a broker looks for transactions beyond it."""
MARGIN_SECONDS = 2.0
BACKFILL = f"app.kubernetes.io/name={NAME},app.kubernetes.io/component=backfill"

Say = Callable[[str], None]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Print a figure, whatever pytest shows."""

    def show(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {text}", flush=True)

    return show


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Pipeline]:
    if NAME in kubectl("get", "namespaces", "-o", "name").replace("namespace/", "").split():
        pytest.exit(
            f"the namespace {NAME} exists, and these tests make and remove it: delete it, or use another cluster", 4
        )
    cluster.load_images(IMAGE, *filter(None, [cluster.KAFKA_IMAGE]))
    pipeline = Pipeline()
    try:
        pipeline.open()
        yield pipeline
    finally:
        pipeline.close()


@pytest.fixture(scope="module")
def outputs(pipeline: Pipeline) -> Iterator[Outputs]:
    outputs = Outputs()
    yield outputs
    outputs.close()


@pytest.fixture(autouse=True)
def _nothing_lost_or_doubled(pipeline: Pipeline, outputs: Outputs, say: Say) -> Iterator[None]:
    """What every test here is about: afterwards everything that was fed has its output, once."""
    yield
    pipeline.caught_up()
    report = outputs.report()
    assert report.ok, str(report)
    say(f"{report.accounted} checkpoints accounted for: 0 lost, {report.repeated} doubled")


def test_the_pipeline_starts_and_publishes(pipeline: Pipeline, outputs: Outputs, say: Say) -> None:
    with pipeline.feeding(2000, 500):
        pass
    pipeline.caught_up()
    outputs.look()
    first = min(min(times) for times in outputs.times.values())
    say(f"from `kubectl apply` to the first output, the broker's start included: {first - pipeline.applied_at:.1f} s")
    pipeline.scale(0)
    with pipeline.feeding(500, 500):
        pass
    began = time.time()
    pipeline.scale(1)
    ready = time.time() - began
    pipeline.caught_up()
    first = min(outputs.first_after(began).values())
    say(f"a pod from `kubectl scale` to ready: {ready:.1f} s; to the first output: {first:.1f} s")
    pipeline.scale(2)
    with pipeline.feeding(5000, 500, 40_000):
        began, used = time.monotonic(), pipeline.cpu_seconds()
    pipeline.caught_up()
    cores = (pipeline.cpu_seconds() - used) / (time.monotonic() - began)
    say(f"CPU of two pods at 500 checkpoints of 40 KB a second: {cores:.2f} cores")


def test_the_namespace_refuses_what_is_not_restricted(pipeline: Pipeline) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root", "namespace": NAME}}
    spec = {"containers": [{"name": "root", "image": IMAGE, "securityContext": {"privileged": True}}]}
    with pytest.raises(Broken, match="violates PodSecurity"):
        pipeline.apply([{**pod, "spec": spec}])


def test_a_rolling_update_under_load(pipeline: Pipeline, outputs: Outputs, say: Say) -> None:
    with pipeline.feeding(15_000, 500):
        began = time.time()
        pipeline.kubectl("rollout", "restart", f"deployment/{NAME}")
        pipeline.rolled_out()
        took = time.time() - began
    pipeline.caught_up()
    pause = outputs.longest_pause(began, began + took)
    say(f"rolling update of 2 pods under 500/s: {took:.1f} s, longest pause of a partition {pause:.2f} s")
    assert pause <= 2 * HEARTBEAT_SECONDS + MARGIN_SECONDS


@pytest.mark.slow
def test_a_pod_that_is_deleted_by_force(pipeline: Pipeline, outputs: Outputs, say: Say) -> None:
    with pipeline.feeding(15_000, 500):
        at = time.time()
        pipeline.kubectl("delete", "pod", pipeline.ready()[0], "--force", "--grace-period=0")
        pipeline.rolled_out()
    pipeline.caught_up()
    pause = outputs.longest_pause(at, time.time() - 1 if time.time() - at < 25 else at + 25)
    say(f"forced deletion: longest pause of a partition {pause:.2f} s")
    assert pause <= max(SESSION_SECONDS, TRANSACTION_SECONDS + SWEEP_SECONDS) + MARGIN_SECONDS


@pytest.mark.slow
def test_a_drain_is_held_by_the_budget(pipeline: Pipeline, say: Say) -> None:
    node = pipeline.pods()[0]["spec"]["nodeName"]
    with pipeline.feeding(6000, 300):
        try:
            options = ("--pod-selector", cluster.CONSUMERS, "--timeout=15s", "--ignore-daemonsets", "--force")
            with pytest.raises(Broken, match="disruption budget"):
                kubectl("drain", node, *options)
            kept = len(pipeline.ready())
        finally:
            kubectl("uncordon", node)
        pipeline.rolled_out()
    say(f"drain of the node: held back by the budget with {kept} pod at work; after uncordon {len(pipeline.ready())}")
    assert kept == 1


@pytest.mark.slow
def test_scaling_from_one_to_three_and_back(pipeline: Pipeline, say: Say) -> None:
    pipeline.scale(1)
    with pipeline.feeding(10_000, 500):
        began = time.monotonic()
        pipeline.scale(3)
        up = time.monotonic() - began
        pipeline.scale(1)
    pipeline.scale(2)
    say(f"scaled from 1 to 3 pods, all ready, in {up:.1f} s")


@pytest.mark.slow
def test_all_processes_of_a_pod_killed_at_once(pipeline: Pipeline, outputs: Outputs, say: Say) -> None:
    """As the node's memory killer or a crash would; the container starts again, under the same identity."""
    kill = (
        "import os, signal\n"
        "for pid in map(int, filter(str.isdigit, os.listdir('/proc'))):\n"
        "    if pid not in (1, os.getpid()):\n"
        "        os.kill(pid, signal.SIGKILL)\n"
    )
    with pipeline.feeding(15_000, 500):
        at = time.time()
        pipeline.run(pipeline.ready()[0], kill)
        ended = until("the container has ended", pipeline.ended)
        pipeline.rolled_out()
    pipeline.caught_up()
    pause = outputs.longest_pause(at, at + 25)
    say(f"SIGKILL for all processes of a pod (exit {ended[0]['exitCode']}): longest pause of a partition {pause:.2f} s")
    assert pause <= max(SESSION_SECONDS, TRANSACTION_SECONDS + SWEEP_SECONDS) + MARGIN_SECONDS


@pytest.mark.slow
def test_an_image_that_crashes_at_start_takes_no_pod_away(pipeline: Pipeline, outputs: Outputs, say: Say) -> None:
    before = set(pipeline.ready())
    pipeline.configure(progressDeadlineSeconds=15)
    with pipeline.feeding(6000, 200):
        pipeline.patch(command=["python3", "-c", "raise SystemExit('broken on purpose')"])
        with pytest.raises(Broken, match="exceeded its progress deadline"):
            pipeline.rolled_out()
        assert before <= set(pipeline.ready())
        [ended, *_] = pipeline.ended(but=before)
        assert ended["message"].strip() == "broken on purpose"
        outputs.look()
        assert time.time() - max(max(times) for times in outputs.times.values()) < 2, "the old pods do not go on"
        pipeline.kubectl("rollout", "undo", f"deployment/{NAME}")
        pipeline.rolled_out()
    assert set(pipeline.ready()) == before
    pipeline.configure(progressDeadlineSeconds=120)
    say(f"an image that crashes (exit {ended['exitCode']}): the rollout stops, {len(before)} old pods go on")


def test_a_wrong_secret_is_said_where_an_operator_looks(pipeline: Pipeline, say: Say) -> None:
    pipeline.patch({"initContainers": None})  # dev's own waits for the topics, with the same options
    pipeline.rolled_out()
    before = set(pipeline.ready())

    def options(text: str) -> None:
        [secret] = of_kind(pipeline.manifests(), "Secret")
        pipeline.apply([{k: v for k, v in secret.items() if k != "data"} | {"stringData": {"options.json": text}}])

    with pipeline.feeding(3000, 200):
        options('{"security.protocol": "plaintext"')
        pipeline.kubectl("rollout", "restart", f"deployment/{NAME}")
        [ended, *_] = until("the new pod ends", lambda: pipeline.ended(but=before))
        assert before <= set(pipeline.ready())
        [crashing] = {pod["metadata"]["name"] for pod in pipeline.pods()} - before
        log = pipeline.kubectl("logs", crashing, "-c", "consumer")
        options("{}")
        pipeline.kubectl("delete", "pod", crashing)
        pipeline.rolled_out()
    assert ended["exitCode"] == 2
    assert "CONSUMER_KAFKA__OPTIONS (from the file /etc/kafka/options.json) must be a JSON object" in ended["message"]
    assert ended["message"].strip() in log
    say(f"a wrong Secret: exit {ended['exitCode']}, termination message: {ended['message'].strip()}")


def test_a_pod_that_is_deleted_ends_by_itself_within_its_grace(pipeline: Pipeline, say: Say) -> None:
    [name, *_] = pipeline.ready()
    column = "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}{'\\n'}"
    with pipeline.feeding(5000, 500):
        watching = ["kubectl", "-n", NAME, "get", "pod", name, "--watch", "-o", column]
        with subprocess.Popen(watching, stdout=subprocess.PIPE, text=True) as watch:
            began = time.monotonic()
            pipeline.kubectl("delete", "pod", name)
            took = time.monotonic() - began
            watch.terminate()
            codes = (watch.communicate()[0] or "").split()
        pipeline.rolled_out()
    say(f"SIGTERM under load: exit {codes[-1]} and gone after {took:.1f} s")
    assert codes[-1] == "0"
    assert took < 15


@pytest.mark.slow
def test_a_checkpoint_that_takes_all_memory(pipeline: Pipeline, outputs: Outputs, say: Say) -> None:
    """The memory killer of the pod's limit; the checkpoint becomes a dead letter, its neighbours go through.

    With cgroup v1 it takes the member; with cgroup v2 the container, which the kubelet starts again, ever later.
    """
    code = (
        "from consumer.workers import SummaryWorker\n"
        "class Hungry(SummaryWorker):\n"
        "    def process_checkpoint(self, checkpoint):\n"
        f"        if checkpoint.summary.sequence_number == {pipeline.fed + 500}:\n"
        "            bytearray(1 << 30)[:] = bytes(1 << 30)\n"
        "        return super().process_checkpoint(checkpoint)\n"
    )
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "hungry", "namespace": NAME}}
    pipeline.apply([config | {"data": {"hungry.py": code}}])
    volume = {"name": "code", "configMap": {"name": "hungry"}}
    mount = {"name": "code", "mountPath": "/app", "readOnly": True}
    pipeline.patch(
        {"volumes": [volume]}, env=[{"name": "CONSUMER_WORKER", "value": "hungry:Hungry"}], volumeMounts=[mount]
    )
    pipeline.rolled_out()
    with pipeline.feeding(1000, 100):
        pass
    pipeline.caught_up(200)
    pipeline.kubectl("rollout", "undo", f"deployment/{NAME}")
    pipeline.rolled_out()
    outputs.look()
    letters = cluster.dead_letters()
    assert [letter.header("__connect.errors.exception.class.name") for letter in letters] == [
        "consumer.errors.ProcessKilled"
    ]
    say(
        "a checkpoint that takes all memory: 1 dead letter (ProcessKilled) after the memory killer's fifth visit, "
        "to a member with cgroup v1, to a whole container with v2"
    )


def test_the_backfill_runs_to_its_end(pipeline: Pipeline, say: Say) -> None:
    with backfilling(pipeline, render("backfill")) as output:
        pass
    say(f"the backfill Job: {len(sources(output))} checkpoints, complete")


@pytest.mark.slow
def test_a_backfill_whose_pod_is_deleted_is_not_complete_before_another_has_finished(
    pipeline: Pipeline, say: Say
) -> None:
    code = (
        "import time\n"
        "from consumer.workers import SummaryWorker\n"
        "class Slow(SummaryWorker):\n"
        "    calls = 0\n"
        "    def process_checkpoint(self, checkpoint):\n"
        "        self.calls += 1\n"
        "        if self.calls == 500:\n"
        "            time.sleep(8)\n"
        "        return super().process_checkpoint(checkpoint)\n"
    )
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "slow", "namespace": NAME}}
    pipeline.apply([config | {"data": {"slow.py": code}}])
    manifests = render("backfill")
    next(m["data"] for m in of_kind(manifests, "ConfigMap"))["CONSUMER_WORKER"] = "slow:Slow"
    [job] = of_kind(manifests, "Job")
    pod = job["spec"]["template"]["spec"]
    pod["volumes"].append({"name": "code", "configMap": {"name": "slow"}})
    pod["containers"][0]["volumeMounts"].append({"name": "code", "mountPath": "/app", "readOnly": True})
    with backfilling(pipeline, manifests) as output:
        until("something is published", lambda: sources(output))
        [first] = pipeline.pods(BACKFILL)
        pipeline.kubectl("delete", "pod", first["metadata"]["name"])
        done = len(sources(output))
        assert done < pipeline.inputs(), "the pod was too fast for this test"
    say(f"the backfill Job: its pod was deleted after {done} checkpoints, another one did the rest")


@contextmanager
def backfilling(pipeline: Pipeline, manifests: list[Manifest]) -> Iterator[str]:
    """The Job under way; at the end it completes, and its output topic, which this gives, holds everything once."""
    config = next(m["data"] for m in of_kind(manifests, "ConfigMap"))
    own = uuid.uuid4().hex[:8]
    for setting in ("GROUP_ID", "OUTPUT_TOPIC", "DLQ_TOPIC"):
        config[f"CONSUMER_{setting}"] += f".{own}"
    output = config["CONSUMER_OUTPUT_TOPIC"]
    cluster.make_topics(output, config["CONSUMER_DLQ_TOPIC"])
    fed = pipeline.inputs()
    pipeline.apply(manifests)
    [job] = of_kind(manifests, "Job")
    name = f"job/{job['metadata']['name']}"
    yield output
    pipeline.kubectl("wait", "--for=condition=Complete", name, "--timeout=180s", timeout=190)
    made = sources(output)
    assert len(made) == len(set(made)) == fed
    pipeline.kubectl("delete", name)


def sources(topic: str) -> list[str | None]:
    return [record.header("checkpoint-source") for record in read_topic(cluster.BOOTSTRAP, [topic])]


@pytest.mark.slow
def test_a_static_member_comes_back_without_a_rebalance(pipeline: Pipeline, say: Say) -> None:
    """The StatefulSet of static-membership, told to use dev's broker."""
    manifests = of_kind(render("static-membership"), "StatefulSet", "ConfigMap")
    [config] = of_kind(manifests, "ConfigMap")
    config["data"]["CONSUMER_KAFKA__BOOTSTRAP_SERVERS"] = "kafka:9092"
    pipeline.scale(0)
    pipeline.apply(manifests)
    names = [f"{NAME}-{ordinal}" for ordinal in range(3)]
    until("all three are ready", lambda: sorted(pipeline.ready()) == names)
    with pipeline.feeding(10_000, 500):
        until("all have partitions", lambda: all(_rebalances(pipeline, name) for name in names))
        before = [_rebalances(pipeline, name) for name in names[:2]]
        pipeline.kubectl("delete", "pod", names[2])
        until("it is back", lambda: sorted(pipeline.ready()) == names)
    pipeline.caught_up()
    assert [_rebalances(pipeline, name) for name in names[:2]] == before
    pipeline.kubectl("delete", "statefulset", NAME)
    pipeline.scale(2)
    say("a static member was deleted and came back: no partition changed hands")


def _rebalances(pipeline: Pipeline, pod: str) -> int:
    code = "from urllib.request import urlopen\nprint(urlopen('http://localhost:8080/metrics').read().decode())"
    lines = pipeline.run(pod, code).splitlines()
    return int(
        sum(float(line.split()[-1]) for line in lines if line.startswith("checkpoint_consumer_rebalances_total{"))
    )


@pytest.mark.slow
def test_a_changed_setting_is_a_rolling_update(pipeline: Pipeline, say: Say) -> None:
    manifests = pipeline.manifests()
    name = "checkpoint-consumer-changed"
    for manifest in of_kind(manifests, "ConfigMap"):
        if "CONSUMER_GROUP_ID" in manifest["data"]:
            old, manifest["metadata"]["name"] = manifest["metadata"]["name"], name
            manifest["data"]["CONSUMER_BATCH__LINGER_SECONDS"] = "0.03"
    changed = json.loads(json.dumps(manifests).replace(old, name))
    before = set(pipeline.ready())
    with pipeline.feeding(5000, 300):
        pipeline.apply(changed)
        pipeline.rolled_out()
        after = set(pipeline.ready())
    assert not before & after
    show = ("exec", next(iter(after)), "-c", "consumer", "--", "checkpoint-consumer", "config")
    assert "CONSUMER_BATCH__LINGER_SECONDS=0.03" in pipeline.kubectl(*show)
    say("a changed setting: both pods replaced, with the new value")


@pytest.mark.slow
def test_the_memory_limit_of_prod_holds(pipeline: Pipeline, say: Say) -> None:
    [deployment] = of_kind(render("prod"), "Deployment")
    resources = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]
    limit = quantity(resources["limits"]["memory"])
    cluster.allow_records_of(20 * 1024 * 1024)
    pipeline.scale(1)
    pipeline.patch(resources=resources)
    pipeline.rolled_out()
    for count, size, rate in ((10_000, 40_000, 1000), (60, 20_000_000, 100)):
        pipeline.scale(0)  # a backlog, so that it reads as fast as it can
        with pipeline.feeding(count, rate, size, memory="1Gi"):
            pass
        pipeline.scale(1)
        pipeline.caught_up(300)
        peak = pipeline.peak_bytes()
        say(f"prod's limit {limit / 2**20:.0f} MiB, {count} checkpoints of {size:,} bytes: peak {peak / 2**20:.0f} MiB")
        assert peak < limit
        assert [pod["status"]["containerStatuses"][0]["restartCount"] for pod in pipeline.pods()] == [0]


@pytest.mark.slow
def test_keda_scales_by_lag(pipeline: Pipeline, say: Say) -> None:
    if "scaledobjects.keda.sh" not in kubectl("get", "crd", "-o", "name"):
        pytest.skip("KEDA is not in this cluster")
    pipeline.scale(1)
    pipeline.kubectl("rollout", "undo", f"deployment/{NAME}", check=False)
    pipeline.rolled_out()
    pipeline.apply(
        [m for m in pipeline.manifests("dev-keda") if m["kind"] in ("ScaledObject", "TriggerAuthentication")]
    )
    until(
        "the ScaledObject is ready",
        lambda: (
            "True"
            in pipeline.kubectl(
                "get", "scaledobject", NAME, "-o", "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
            )
        ),
    )
    try:
        slow = [{"name": "CONSUMER_WORKER", "value": "slow:Slow"}]
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "slow", "namespace": NAME}}
        code = (
            "import time\n"
            "from consumer.workers import SummaryWorker\n"
            "class Slow(SummaryWorker):\n"
            "    def process_checkpoint(self, checkpoint):\n"
            "        time.sleep(0.02)\n"
            "        return super().process_checkpoint(checkpoint)\n"
        )
        pipeline.apply([config | {"data": {"slow.py": code}}])
        mount = {"name": "code", "mountPath": "/app", "readOnly": True}
        pipeline.patch({"volumes": [{"name": "code", "configMap": {"name": "slow"}}]}, env=slow, volumeMounts=[mount])
        pipeline.rolled_out()
        with pipeline.feeding(15_000, 1000):
            began = time.monotonic()
            until("as many pods as partitions", lambda: len(pipeline.ready()) == cluster.PARTITIONS, 120)
            up = time.monotonic() - began
        pipeline.caught_up(200)
        began = time.monotonic()
        until("one pod again", lambda: len(pipeline.pods()) == 1, 150)
        down = time.monotonic() - began
        say(f"KEDA: from lag to {cluster.PARTITIONS} ready pods in {up:.0f} s, back to 1 in {down:.0f} s")
    finally:
        pipeline.kubectl("delete", "scaledobject", NAME)
