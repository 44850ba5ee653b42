"""What an API server says of the manifests, with the real CRDs of KEDA, the Prometheus operator and Strimzi in it.

Nothing is kept: all is applied with --dry-run=server. K8S_CRDS names a folder of CRDs to install first.
"""

from __future__ import annotations

import copy
import json
import os
from typing import Any

import pytest
import yaml

from tests.k8s.cluster import Broken, kubectl, until
from tests.k8s.contract import CUSTOM
from tests.k8s.manifests import KUSTOMIZATIONS, Manifest, of_kind, render

NAMESPACE = "default"
"""Of a dry run: the overlays' own need not be there."""


@pytest.fixture(scope="module")
def custom() -> set[tuple[str, str]]:
    """The kinds of `CUSTOM` that the server knows, each with the versions that it serves."""
    if folder := os.environ.get("K8S_CRDS"):
        kubectl("apply", "--server-side", "-f", folder, timeout=120)
        until("the CRDs are served", lambda: all(_established(crd) for crd in _crds()))
    return {
        (crd["spec"]["names"]["kind"], f"{crd['spec']['group']}/{version['name']}")
        for crd in _crds()
        if crd["spec"]["names"]["kind"] in CUSTOM
        for version in crd["spec"]["versions"]
        if version["served"]
    }


def _crds() -> list[Manifest]:
    found: list[Manifest] = json.loads(kubectl("get", "crd", "-o", "json"))["items"]
    return found


def _established(crd: Manifest) -> bool:
    conditions = crd.get("status", {}).get("conditions") or []
    return ("Established", "True") in [(condition["type"], condition["status"]) for condition in conditions]


def unknown(manifests: list[Manifest], custom: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """What the server does not serve of these manifests' kinds and versions."""
    return {(m["kind"], m["apiVersion"]) for m in manifests if m["kind"] in CUSTOM} - custom


def skip_for(missing: set[tuple[str, str]]) -> None:
    if missing:
        names = ", ".join(sorted(f"{kind} {version}" for kind, version in missing))
        pytest.skip(f"this cluster has no {names}: K8S_CRDS=FOLDER installs them")


def dry_run(manifests: list[Manifest]) -> str:
    """Apply all without keeping any; Broken with what the server says."""
    here = copy.deepcopy(manifests)
    for manifest in here:
        if manifest["kind"] != "Namespace":
            manifest["metadata"]["namespace"] = NAMESPACE
    return kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=yaml.safe_dump_all(here))


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_the_server_takes_everything(name: str, custom: set[tuple[str, str]]) -> None:
    manifests = render(name)
    skip_for(unknown(manifests, custom))
    assert dry_run(manifests).count("(server dry run)") == len(manifests)


CONTAINER = ("template", "spec", "containers", 0)
BROKEN: dict[str, tuple[str, tuple[str | int, ...], dict[str, Any]]] = {
    "a field that does not exist": ("Deployment", ("template", "spec"), {"terminationGracePeriod": 15}),
    "a value of the wrong type": ("Deployment", (), {"replicas": "three"}),
    "fewer than no replicas": ("Deployment", (), {"replicas": -1}),
    "a selector that misses its pods": ("Deployment", ("selector", "matchLabels"), {"app.kubernetes.io/name": "other"}),
    "no surge and none unavailable": ("Deployment", ("strategy", "rollingUpdate"), {"maxSurge": 0}),
    "a deadline within the time to be ready": ("Deployment", (), {"progressDeadlineSeconds": 3}),
    "a size that is none": ("Deployment", (*CONTAINER, "resources", "limits"), {"memory": "320MB"}),
    "more requested than allowed": ("Deployment", (*CONTAINER, "resources", "requests"), {"memory": "1Gi"}),
    "a volume that is not there": ("Deployment", (*CONTAINER, "volumeMounts", 0), {"name": "kafkas"}),
    "a port out of range": ("Deployment", (*CONTAINER, "ports", 0), {"containerPort": 70000}),
    "a probe of no port": ("Deployment", (*CONTAINER, "livenessProbe", "httpGet"), {"port": "no_port_name_at_all"}),
    "a field of the pod that does not exist": (
        "Deployment",
        (*CONTAINER, "env", 0, "valueFrom", "fieldRef"),
        {"fieldPath": "metadata.nam"},
    ),
    "an unknown policy": ("Deployment", CONTAINER, {"terminationMessagePolicy": "FallbackToLogs"}),
    "a budget of two minds": ("PodDisruptionBudget", (), {"minAvailable": 1}),
    "an unknown protocol": ("NetworkPolicy", ("egress", 0, "ports", 0), {"protocol": "QUIC"}),
    "a scaled object of nothing": ("ScaledObject", (), {"scaleTargetRef": {}}),
    "a replica count in words": ("ScaledObject", (), {"maxReplicaCount": "six"}),
    "a misspelt scaling field": ("ScaledObject", (), {"maxReplicas": 6}),
    "a monitor of no interval": ("PodMonitor", ("podMetricsEndpoints", 0), {"interval": "often"}),
    "a misspelt monitor": ("PodMonitor", ("podMetricsEndpoints", 0), {"paths": "/metrics"}),
    "an alert of no duration": ("PrometheusRule", ("groups", 0, "rules", 0), {"for": "soon"}),
    "a rule that is a list": ("PrometheusRule", ("groups", 0, "rules", 0), {"expr": ["up"]}),
    "a topic without partitions": ("KafkaTopic", (), {"partitions": 0}),
    "an unknown operation": ("KafkaUser", ("authorization", "acls", 0), {"operations": ["Consume"]}),
    "an unknown resource": ("KafkaUser", ("authorization", "acls", 0, "resource"), {"type": "topics"}),
    "an unknown authentication": ("KafkaUser", ("authentication",), {"type": "password"}),
}


@pytest.mark.parametrize("what", BROKEN)
def test_the_server_refuses_what_is_broken(what: str, custom: set[tuple[str, str]]) -> None:
    kind, path, change = BROKEN[what]
    new, old = (of_kind(render(name), kind)[:1] for name in ("everything", "everything-v1beta2"))
    manifests = old if unknown(new, custom) else new
    skip_for(unknown(manifests, custom))
    dry_run(manifests)
    part: Any = manifests[0]["spec"]
    for step in path:
        part = part[step]
    part.update(change)
    with pytest.raises(Broken):
        dry_run(manifests)
