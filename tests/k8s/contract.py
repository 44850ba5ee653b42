"""What must hold between the manifests of one kustomization, and between them and the code: one source for each fact.

Every rule yields what is wrong, in words, and `problems` collects them. The tests run them on what is shipped, where
nothing may be wrong, and on manifests that they broke.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import kubernetes_validate

from benchmarks.memory import bound
from consumer.errors import ConfigError
from consumer.settings import Settings, load_settings
from tests.k8s.manifests import ROOT, Manifest, containers, of_kind, pods
from tests.k8s.strimzi import RULES as STRIMZI_RULES
from tests.k8s.strimzi import malformed

__all__ = ["IMAGE", "KUBERNETES", "LARGEST", "NAME", "OPERATOR", "UID", "problems", "quantity"]

KUBERNETES = ("1.30", "1.34")
"""The oldest and the newest that the manifests are checked for."""
NAME = "checkpoint-consumer"
IMAGE = f"{NAME}:{tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['version']}"
CUSTOM = {"ScaledObject", "TriggerAuthentication", "PodMonitor", "PrometheusRule", "KafkaTopic", "KafkaUser"}
"""Kinds whose schemas are not Kubernetes' own; an API server checks them."""
OPERATOR = f"{NAME}-operator"
"""Where people look from: components/strimzi/operators."""
UID = 10001
LARGEST = "checkpoint-consumer/largest-record-bytes"
KUBELET_SECONDS = 5
"""What a pod's grace must leave beside the consumer's own: for the signal to come and the exit to be seen."""
SUPERVISOR_BYTES = 2 * 27_000_000
"""README, limits: 27 MB, as process 1 of a container twice."""


class Pipeline:
    """The manifests of one kustomization, and what its consumers are told."""

    def __init__(self, manifests: list[Manifest]) -> None:
        self.manifests = manifests
        self.consumers = [(m, t) for m, t in pods(manifests) if self._consumer(t) is not None]

    @staticmethod
    def _consumer(template: Mapping[str, Any]) -> Manifest | None:
        return next((c for c in template["spec"]["containers"] if c["name"] == "consumer"), None)

    def consumer(self, template: Mapping[str, Any]) -> Manifest:
        found = self._consumer(template)
        assert found is not None
        return found

    def kind(self, *kinds: str) -> list[Manifest]:
        return of_kind(self.manifests, *kinds)

    def environment(self, container: Manifest) -> dict[str, str]:
        """What the container's variables are; what only the cluster knows is a word for itself."""
        maps = {m["metadata"]["name"]: m["data"] for m in self.kind("ConfigMap")}
        names = [source["configMapRef"]["name"] for source in container.get("envFrom", ())]
        env = {key: value for name in names for key, value in maps.get(name, {}).items()}
        return env | {one["name"]: one.get("value", "known-there") for one in container.get("env", ())}

    def settings(self, template: Mapping[str, Any]) -> Settings:
        """As the consumer itself reads them, but for the Secret.

        Raises:
            ConfigError: what the consumer would say before exit 2.
        """
        env = self.environment(self.consumer(template))
        return load_settings({n: v for n, v in env.items() if n != "CONSUMER_KAFKA__OPTIONS_FILE"})

    @property
    def partitions(self) -> int | None:
        """The input topic's, where this kustomization makes it."""
        counts = [t["spec"]["partitions"] for t in self.kind("KafkaTopic") if t["metadata"]["name"] == "checkpoints"]
        counts += [int(m["data"]["PARTITIONS"]) for m in self.kind("ConfigMap") if "PARTITIONS" in m["data"]]
        return counts[0] if counts else None


def problems(manifests: list[Manifest]) -> list[str]:
    """Everything that is wrong."""
    pipeline = Pipeline(manifests)
    if malformed := list(_schemas(pipeline)):
        return malformed  # the rules rely on the shape
    try:
        return [problem for rule in _RULES for problem in rule(pipeline)]
    except ConfigError as error:
        return [f"settings: {error}"]


def quantity(text: str) -> int:
    """A size such as 256Mi in bytes."""
    return int(text[:-2]) * 1024 ** (" KMGT".index(text[-2])) if text.endswith("i") else int(text)


# ------------------------------------------------------------------------------------------------------------- rules


def _schemas(pipeline: Pipeline) -> Iterator[str]:
    for manifest in pipeline.manifests:
        if manifest["kind"] in CUSTOM:
            yield from malformed(manifest)
            continue
        for version in KUBERNETES:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f"schema of {manifest['kind']} {version}: {error.message}"


def _restricted(pipeline: Pipeline) -> Iterator[str]:
    """Pod Security "restricted", and what it leaves open."""
    for manifest, template in pods(pipeline.manifests):
        where, spec = f"{manifest['kind']} {manifest['metadata']['name']}", template["spec"]
        context = spec.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
            yield f"restricted: {where} may run as root"
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"restricted: {where} has no seccomp profile"
        if {"hostNetwork", "hostPID", "hostIPC"} & spec.keys() or any("hostPath" in v for v in spec["volumes"]):
            yield f"restricted: {where} uses the node's own"
        if spec.get("automountServiceAccountToken") is not False:
            yield f"token: {where} gets one"
        if spec.get("enableServiceLinks") is not False:
            yield f"service links: {where} gets variables of Services"
        for container in containers(template):
            held = container.get("securityContext", {})
            if held.get("allowPrivilegeEscalation") is not False or held.get("capabilities") != {"drop": ["ALL"]}:
                yield f"restricted: {where}, {container['name']} keeps privileges"
            if held.get("readOnlyRootFilesystem") is not True:
                yield f"read-only: {where}, {container['name']} may write"


def _resources(pipeline: Pipeline) -> Iterator[str]:
    for manifest, template in pods(pipeline.manifests):
        for container in containers(template):
            where = f"{manifest['metadata']['name']}, {container['name']}"
            requests, limits = (container.get("resources", {}).get(kind, {}) for kind in ("requests", "limits"))
            if "memory" not in limits or requests.get("memory") != limits["memory"] or "cpu" not in requests:
                yield f"resources: {where} has no bounds, or unequal ones: {requests} {limits}"
            if "cpu" in limits:
                yield f"resources: {where} is throttled"


def _data(pipeline: Pipeline) -> Iterator[str]:
    for manifest, template in pods(pipeline.manifests):
        for container in containers(template):
            data = {one["value"] for one in container.get("env", ()) if one["name"] == "KAFKA_LOG_DIRS"}
            if not data <= {mount["mountPath"] for mount in container.get("volumeMounts", ())}:
                yield f"data: {manifest['metadata']['name']} keeps it in {data}, and mounts no volume exactly there"


def _images(pipeline: Pipeline) -> Iterator[str]:
    for manifest, template in pods(pipeline.manifests):
        for container in containers(template):
            name, _, tag = container["image"].rpartition(":")
            if not name or tag == "latest" or (name == NAME and container["image"] != IMAGE):
                yield f"image: {manifest['metadata']['name']} runs {container['image']}, not {IMAGE} or another version"


def _process(pipeline: Pipeline) -> Iterator[str]:
    """Grace, probes, port, identity, last words."""
    for manifest, template in pipeline.consumers:
        where, settings = manifest["metadata"]["name"], pipeline.settings(template)
        consumer, grace = pipeline.consumer(template), template["spec"]["terminationGracePeriodSeconds"]
        if grace < settings.shutdown.timeout_seconds + KUBELET_SECONDS:
            yield f"grace: {where} is killed after {grace} s, but may take {settings.shutdown.timeout_seconds:g} s"
        ports = {port["name"]: port["containerPort"] for port in consumer["ports"]}
        if ports != {"http": settings.http.port}:
            yield f"port: {where} declares {ports} and listens on {settings.http.port}"
        if settings.http.host.startswith(("127.", "localhost", "::1")):
            yield f"port: {where} listens where no probe comes in"
        asked = {name: consumer[name]["httpGet"] for name in consumer if name.endswith("Probe")}
        right = {
            "startupProbe": {"path": "/livez", "port": "http"},
            "livenessProbe": {"path": "/livez", "port": "http"},
            "readinessProbe": {"path": "/readyz", "port": "http"},
        }
        if not asked or any(right[name] != probe for name, probe in asked.items()):
            yield f"probes: {where} asks {asked}"
        if manifest["kind"] != "Job" and asked.keys() != right.keys():
            yield f"probes: {where} has only {sorted(asked)}"
        identity = [one for one in consumer["env"] if one["name"] == "CONSUMER_INSTANCE_ID"]
        if [one.get("valueFrom") for one in identity] != [{"fieldRef": {"fieldPath": "metadata.name"}}]:
            yield f"identity: {where} does not take its own from the pod's name"
        if consumer.get("terminationMessagePolicy") != "FallbackToLogsOnError":
            yield f"last words: {where} ends without"


def _memory(pipeline: Pipeline) -> Iterator[str]:
    """The limit holds what README's "Limits" promise for the largest record, unpacked: no less than the topic takes."""
    for manifest, template in pipeline.consumers:
        where, settings = manifest["metadata"]["name"], pipeline.settings(template)
        largest = int(template["metadata"]["annotations"][LARGEST])
        possible = [
            topic["spec"]["config"]["max.message.bytes"]
            for topic in pipeline.kind("KafkaTopic")
            if topic["metadata"]["name"] == settings.input_topic
        ]
        for _, other in pods(pipeline.manifests):
            possible += [
                int(one["value"])
                for container in containers(other)
                for one in container.get("env", ())
                if one["name"] == "KAFKA_MESSAGE_MAX_BYTES"
            ]
        if any(size > largest for size in possible):
            yield f"memory: {where} is made for records of {largest}, the topic takes {possible}"
        limit = quantity(pipeline.consumer(template)["resources"].get("limits", {}).get("memory", "0"))
        need = settings.concurrency * bound(largest, settings.memory.max_bytes) + SUPERVISOR_BYTES
        if limit < need:
            yield f"memory: {where} may need {need} and has {limit}"


def _secret(pipeline: Pipeline) -> Iterator[str]:
    """The Kafka options are a file that is mounted, and what a file of this kustomization holds can be read."""
    held = {m["metadata"]["name"]: m["data"] for m in pipeline.kind("ConfigMap")}
    made = {m["metadata"]["name"] for m in pipeline.kind("Secret", "KafkaUser")}
    for manifest, template in pipeline.consumers:
        consumer = pipeline.consumer(template)
        folder, _, name = pipeline.environment(consumer)["CONSUMER_KAFKA__OPTIONS_FILE"].rpartition("/")
        mounts = {mount["mountPath"]: mount["name"] for mount in consumer["volumeMounts"] if mount.get("readOnly")}
        volume: Manifest = next((v for v in template["spec"]["volumes"] if v["name"] == mounts.get(folder)), {})
        if "secret" not in volume and "projected" not in volume:
            yield f"secret: {manifest['metadata']['name']} reads {folder}, where none is mounted"
        if "secret" in volume and made and volume["secret"]["secretName"] not in made:
            yield f"secret: {manifest['metadata']['name']} mounts {volume['secret']['secretName']}, made is {made}"
        for source in volume.get("projected", {}).get("sources", ()):
            if "configMap" in source:
                options = held.get(source["configMap"]["name"], {}).get(name, "")
                files = {
                    item["path"]
                    for s in volume["projected"]["sources"]
                    for item in s.get("secret", {}).get("items", ())
                }
                read = load_settings({"CONSUMER_KAFKA__OPTIONS": options}, required=()).kafka.options
                named = {value for option, value in read.items() if option.endswith(".location")}
                if named != {f"{folder}/{file}" for file in files}:
                    yield f"secret: the options name {sorted(named)}, mounted are {sorted(files)} in {folder}"


def _selectors(pipeline: Pipeline) -> Iterator[str]:
    """Who selects the consumers' pods selects them, and the workload and its budget select no others."""
    consumers = [t["metadata"]["labels"] for m, t in pipeline.consumers if m["kind"] != "Job"]
    others = [t["metadata"]["labels"] for m, t in pods(pipeline.manifests) if t["metadata"]["labels"] not in consumers]
    for manifest in pipeline.kind("Deployment", "StatefulSet", "PodDisruptionBudget"):
        wanted = manifest["spec"]["selector"]["matchLabels"].items()
        if manifest["metadata"]["name"] in ("kafka", OPERATOR):
            continue
        if not all(wanted <= labels.items() for labels in consumers):
            yield f"selector: {manifest['kind']} does not select the consumers"
        if any(wanted <= labels.items() for labels in others):
            yield f"selector: {manifest['kind']} selects others too"
    for manifest in pipeline.kind("NetworkPolicy", "PodMonitor"):
        if manifest["metadata"]["name"] == OPERATOR:
            continue
        wanted = manifest["spec"].get("podSelector", manifest["spec"].get("selector"))["matchLabels"].items()
        if not all(wanted <= t["metadata"]["labels"].items() for _, t in pipeline.consumers):
            yield f"selector: {manifest['kind']} does not select the consumers"


def _watched(pipeline: Pipeline) -> Iterator[str]:
    for manifest in pipeline.kind("PodMonitor"):
        ends = [(end["port"], end["path"]) for end in manifest["spec"]["podMetricsEndpoints"]]
        if ends != [("http", "/metrics")]:
            yield f"metrics: Prometheus asks {ends}"
    workloads = [manifest for manifest, _ in pipeline.consumers if manifest["kind"] != "Job"]
    if workloads and len(pipeline.kind("PodDisruptionBudget")) != 1:
        yield "budget: there is none"


def _alerts(pipeline: Pipeline) -> Iterator[str]:
    alerts = " ".join(str(manifest["spec"]) for manifest in pipeline.kind("PrometheusRule"))
    for pattern in re.findall(r'\bpod=~"([^"]+)"', alerts):
        for manifest, _ in pipeline.consumers:
            if not re.fullmatch(pattern, f"{manifest['metadata']['name']}-0"):
                yield f"alerts: {pattern} does not match the pods of {manifest['metadata']['name']}"


def _feed(pipeline: Pipeline) -> Iterator[str]:
    """What a Job has fed before it fails must not be fed again: the Job fails with its pod."""
    for job in (job for job in pipeline.kind("Job") if job["metadata"]["name"] == "feed"):
        rules = job["spec"].get("podFailurePolicy", {}).get("rules", ())
        reasons = {reason for rule in rules if rule["action"] == "FailJob" for reason in rule}
        never = job["spec"]["template"]["spec"]["restartPolicy"] == "Never"
        if not never or not {"onExitCodes", "onPodConditions"} <= reasons:
            yield "feed: it begins again after a failure"


def _network(pipeline: Pipeline) -> Iterator[str]:
    for policy in pipeline.kind("NetworkPolicy"):
        if "app.kubernetes.io/component" not in policy["spec"]["podSelector"]["matchLabels"]:
            yield "network: the policy holds for a backfill's pods and the live ones alike"
        open_ports = {p["port"] for rule in policy["spec"]["egress"] for p in rule["ports"]}
        for manifest, template in pipeline.consumers:
            settings = pipeline.settings(template)
            needed = {int(broker.rpartition(":")[2]) for broker in settings.kafka.bootstrap_servers.split(",")} | {53}
            if settings.schema.registry_url:
                address = settings.schema.registry_url.partition("://")[2].partition("/")[0]
                https = settings.schema.registry_url.startswith("https")
                needed.add(int(address.partition(":")[2] or (443 if https else 80)))
            if needed - open_ports:
                yield f"network: {manifest['metadata']['name']} cannot reach ports {sorted(needed - open_ports)}"
    selectors = [policy["spec"]["podSelector"]["matchLabels"].items() for policy in pipeline.kind("NetworkPolicy")]
    for manifest, template in pods(pipeline.manifests):
        name, labels = manifest["metadata"]["name"], template["metadata"]["labels"].items()
        count = sum(selector <= labels for selector in selectors)
        if count != 1 and name.startswith(NAME):
            yield f"network: {count} policies hold for {name}"


def _rollout(pipeline: Pipeline) -> Iterator[str]:
    for manifest, template in pipeline.consumers:
        spec, static = manifest["spec"], pipeline.settings(template).static_membership
        if manifest["kind"] == "Deployment" and spec["strategy"]["rollingUpdate"] != {
            "maxSurge": 1,
            "maxUnavailable": 0,
        }:
            yield "rollout: a broken image would take a pod that works away"
        if static != (manifest["kind"] == "StatefulSet"):
            yield f"static membership: {static}, but a {manifest['kind']}"
        if static and pipeline.kind("ScaledObject"):
            yield "static membership: together with autoscaling"
        if pipeline.partitions and spec.get("replicas", 1) > pipeline.partitions:
            yield f"replicas: {spec['replicas']} of them for {pipeline.partitions} partitions"
        names = [source["configMapRef"]["name"] for source in pipeline.consumer(template)["envFrom"]]
        if any(len(name.rpartition("-")[2]) != 10 for name in names):
            yield f"rollout: a change of {names} goes unnoticed"


def _scaling(pipeline: Pipeline) -> Iterator[str]:
    for scaled in pipeline.kind("ScaledObject"):
        spec = scaled["spec"]
        targets = {m["metadata"]["name"]: (m, t) for m, t in pipeline.consumers if m["kind"] == "Deployment"}
        if spec["scaleTargetRef"]["name"] not in targets:
            yield f"scaling: {spec['scaleTargetRef']} is no consumer"
            continue
        manifest, template = targets[spec["scaleTargetRef"]["name"]]
        if "replicas" in manifest["spec"]:
            yield "scaling: every apply sets the replicas back"
        if pipeline.partitions and spec["maxReplicaCount"] != pipeline.partitions:
            yield f"scaling: up to {spec['maxReplicaCount']} for {pipeline.partitions} partitions"
        settings = pipeline.settings(template)
        behaviour = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        if behaviour["scaleDown"]["stabilizationWindowSeconds"] <= settings.batch.max_seconds:
            yield "scaling: down while a batch may be open"
        names = {value for key, value in spec["triggers"][0]["metadata"].items() if key.endswith("FromEnv")}
        wanted = {"CONSUMER_KAFKA__BOOTSTRAP_SERVERS", "CONSUMER_GROUP_ID", "CONSUMER_INPUT_TOPIC"}
        if names != wanted or not wanted <= pipeline.environment(pipeline.consumer(template)).keys():
            yield f"scaling: by {sorted(names)}"
        if "." not in settings.kafka.bootstrap_servers:
            yield f"scaling: {settings.kafka.bootstrap_servers} is no name in KEDA's namespace"


_RULES: tuple[Callable[[Pipeline], Iterator[str]], ...] = (
    *(_restricted, _resources, _data, _images, _process, _memory, _secret),
    *(_selectors, _watched, _alerts, _feed, _network, _rollout, _scaling, *STRIMZI_RULES),
)
