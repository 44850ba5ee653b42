"""k8s/ as it is written: rendered, against the schemas of Kubernetes and against the code. Needs no cluster."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from consumer.errors import ExitCode
from consumer.settings import load_settings
from tests.k8s.contract import IMAGE, KUBERNETES, LARGEST, NAME, OPERATOR, UID, problems
from tests.k8s.manifests import KUSTOMIZATIONS, ROOT, Manifest, of_kind, pods, render, renderer
from tests.k8s.strimzi import OLD_VERSION, VERSION

NO_RENDERER = "neither kubectl nor kustomize is on PATH, and k8s/ is made of kustomizations: install one of them"
rendered = pytest.mark.skipif(renderer() is None, reason=NO_RENDERER)


@rendered
@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_everything_that_is_shipped_holds_together(name: str) -> None:
    assert problems(render(name)) == []


def test_the_base_holds_together_unrendered() -> None:
    """The same rules where nothing renders: what the generator does is done here, for the base alone."""
    listed = yaml.safe_load((ROOT / "k8s/base/kustomization.yaml").read_text())
    manifests: list[Manifest] = [yaml.safe_load((ROOT / "k8s/base" / file).read_text()) for file in listed["resources"]]
    lines = (ROOT / "k8s/base/settings.env").read_text().splitlines()
    content = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    name = f"{NAME}-0123456789"
    manifests.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": content})
    [deployment] = of_kind(manifests, "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["envFrom"][0]["configMapRef"]["name"] = name
    assert problems(manifests) == []


def one(manifests: list[Manifest], kind: str) -> Any:
    return of_kind(manifests, kind)[0]["spec"]


def whole(manifests: list[Manifest], kind: str) -> Manifest:
    return of_kind(manifests, kind)[0]


def acl(manifests: list[Manifest]) -> Any:
    return one(manifests, "KafkaUser")["authorization"]["acls"][0]


def pod(manifests: list[Manifest]) -> Any:
    return one(manifests, "Deployment")["template"]["spec"]


def consumer(manifests: list[Manifest]) -> Any:
    return pod(manifests)["containers"][0]


def settings(manifests: list[Manifest]) -> dict[str, str]:
    [found] = [m["data"] for m in of_kind(manifests, "ConfigMap") if "CONSUMER_GROUP_ID" in m["data"]]
    assert isinstance(found, dict)
    return found


def topic(manifests: list[Manifest], name: str) -> Any:
    return next(t["spec"] for t in of_kind(manifests, "KafkaTopic") if t["metadata"]["name"] == name)


def dead_letters(manifests: list[Manifest]) -> Any:
    return topic(manifests, "summaries.dlq")


BROKEN: dict[str, tuple[str, Callable[[list[Manifest]], object]]] = {
    "a field that does not exist": ("schema", lambda m: pod(m).update(restartPolicies="Always")),
    "a value of the wrong type": ("schema", lambda m: one(m, "Deployment").update(replicas="three")),
    "root": ("restricted", lambda m: pod(m)["securityContext"].pop("runAsNonRoot")),
    "no seccomp": ("restricted", lambda m: pod(m)["securityContext"].pop("seccompProfile")),
    "the node's network": ("restricted", lambda m: pod(m).update(hostNetwork=True)),
    "capabilities": ("restricted", lambda m: consumer(m)["securityContext"].pop("capabilities")),
    "a root that can be written": ("read-only", lambda m: consumer(m)["securityContext"].pop("readOnlyRootFilesystem")),
    "a token": ("token", lambda m: pod(m).pop("automountServiceAccountToken")),
    "service links": ("service links", lambda m: pod(m).pop("enableServiceLinks")),
    "no memory limit": ("resources", lambda m: consumer(m).update(resources={"requests": {"cpu": "1"}})),
    "a CPU limit": ("resources", lambda m: consumer(m)["resources"]["limits"].update(cpu="1")),
    "latest": ("image", lambda m: consumer(m).update(image="checkpoint-consumer:latest")),
    "another version": ("image", lambda m: consumer(m).update(image="checkpoint-consumer:0.0.1")),
    "a grace without margin": ("grace", lambda m: pod(m).update(terminationGracePeriodSeconds=10)),
    "a longer shutdown": ("grace", lambda m: settings(m).update(CONSUMER_SHUTDOWN__TIMEOUT_SECONDS="60")),
    "another port": ("port", lambda m: settings(m).update(CONSUMER_HTTP__PORT="9090")),
    "a port for itself": ("port", lambda m: settings(m).update(CONSUMER_HTTP__HOST="127.0.0.1")),
    "readiness as liveness": ("probes", lambda m: consumer(m)["livenessProbe"]["httpGet"].update(path="/readyz")),
    "no startup probe": ("probes", lambda m: consumer(m).pop("startupProbe")),
    "one identity for all": ("identity", lambda m: consumer(m).update(env=[])),
    "no last words": ("last words", lambda m: consumer(m).pop("terminationMessagePolicy")),
    "larger records": (
        "memory",
        lambda m: one(m, "Deployment")["template"]["metadata"]["annotations"].update({LARGEST: "99000000"}),
    ),
    "a larger budget": ("memory", lambda m: settings(m).update(CONSUMER_MEMORY__MAX_BYTES="268435456")),
    "a second member": ("memory", lambda m: settings(m).update(CONSUMER_CONCURRENCY="2")),
    "a topic of larger records": (
        "memory",
        lambda m: topic(m, "checkpoints")["config"].update({"max.message.bytes": 50_000_000}),
    ),
    "no Secret": ("secret", lambda m: consumer(m)["volumeMounts"][0].update(mountPath="/elsewhere")),
    "a certificate that is not mounted": ("secret", lambda m: pod(m)["volumes"][0]["projected"]["sources"].pop()),
    "a budget for nobody": (
        "selector",
        lambda m: one(m, "PodDisruptionBudget")["selector"]["matchLabels"].update(a="b"),
    ),
    "a policy for all": (
        "network",
        lambda m: one(m, "NetworkPolicy")["podSelector"]["matchLabels"].pop("app.kubernetes.io/component"),
    ),
    "alerts for other pods": ("alerts", lambda m: of_kind(m, "Deployment")[0]["metadata"].update(name="gas")),
    "a monitor for nobody": ("selector", lambda m: one(m, "PodMonitor")["selector"]["matchLabels"].update(a="b")),
    "a policy for nobody": ("selector", lambda m: one(m, "NetworkPolicy")["podSelector"]["matchLabels"].update(a="b")),
    "another path of metrics": ("metrics", lambda m: one(m, "PodMonitor")["podMetricsEndpoints"][0].update(path="/")),
    "brokers on another port": (
        "network",
        lambda m: settings(m).update(CONSUMER_KAFKA__BOOTSTRAP_SERVERS="main-kafka-bootstrap.kafka.svc:9094"),
    ),
    "a registry on another port": (
        "network",
        lambda m: settings(m).update(CONSUMER_SCHEMA__REGISTRY_URL="http://registry:8085"),
    ),
    "no name service": ("network", lambda m: one(m, "NetworkPolicy")["egress"].pop(0)),
    "no surge": ("rollout", lambda m: one(m, "Deployment")["strategy"]["rollingUpdate"].update(maxUnavailable=1)),
    "settings without a hash": ("rollout", lambda m: consumer(m)["envFrom"].append({"configMapRef": {"name": NAME}})),
    "static members of a Deployment": ("static", lambda m: settings(m).update(CONSUMER_STATIC_MEMBERSHIP="true")),
    "more replicas than partitions": ("replicas", lambda m: one(m, "Deployment").update(replicas=7)),
    "more scaled replicas than partitions": ("scaling", lambda m: one(m, "ScaledObject").update(maxReplicaCount=12)),
    "replicas that an apply resets": ("scaling", lambda m: one(m, "Deployment").update(replicas=3)),
    "another target": ("scaling", lambda m: one(m, "ScaledObject")["scaleTargetRef"].update(name="other")),
    "down within a batch": ("scaling", lambda m: settings(m).update(CONSUMER_BATCH__MAX_SECONDS="900")),
    "lag of another group": (
        "scaling",
        lambda m: one(m, "ScaledObject")["triggers"][0]["metadata"].update(consumerGroupFromEnv="GROUP"),
    ),
    "a setting that does not exist": ("settings", lambda m: settings(m).update(CONSUMER_KAFKA__BROKERS="kafka:9092")),
    "another output": ("topics", lambda m: settings(m).update(CONSUMER_OUTPUT_TOPIC="elsewhere")),
    "fewer output partitions": ("topics", lambda m: dead_letters(m).update(partitions=3)),
    "dead letters that do not fit": (
        "topics",
        lambda m: dead_letters(m)["config"].update({"max.message.bytes": 1_000_000}),
    ),
    "another group": (
        "acls",
        lambda m: settings(m).update(CONSUMER_GROUP_ID="other", CONSUMER_DLQ_TOPIC="summaries.dlq"),
    ),
    "too many rights": (
        "acls",
        lambda m: one(m, "KafkaUser")["authorization"]["acls"][0]["operations"].append("Write"),
    ),
    "a literal transactional id": (
        "acls",
        lambda m: one(m, "KafkaUser")["authorization"]["acls"][4]["resource"].update(patternType="literal"),
    ),
    "a version that Strimzi never had": (
        "schema",
        lambda m: whole(m, "KafkaUser").update(apiVersion=f"{OLD_VERSION}1"),
    ),
    "two versions of Strimzi": ("versions", lambda m: whole(m, "KafkaTopic").update(apiVersion=OLD_VERSION)),
    "the operation of old": ("schema", lambda m: acl(m).update(operation=acl(m).pop("operations")[0])),
    "an unknown operation": ("schema", lambda m: acl(m).update(operations=["Consume"])),
    "operators without a policy": (
        "network",
        lambda m: m.remove(next(p for p in of_kind(m, "NetworkPolicy") if p["metadata"]["name"] == OPERATOR)),
    ),
    "operators who write": (
        "acls",
        lambda m: of_kind(m, "KafkaUser")[1]["spec"]["authorization"]["acls"][1]["operations"].append("Write"),
    ),
    "the clients' CA": (
        "secret",
        lambda m: pod(m)["volumes"][0]["projected"]["sources"][2]["secret"].update(name=NAME),
    ),
    "the certificate of another": (
        "secret",
        lambda m: pod(m)["volumes"][0]["projected"]["sources"][1]["secret"].update(name=f"{NAME}-operator"),
    ),
    "KEDA without a certificate": ("scaling", lambda m: one(m, "TriggerAuthentication")["secretTargetRef"].pop(0)),
    "KEDA in plain text": ("scaling", lambda m: one(m, "ScaledObject")["triggers"][0]["metadata"].pop("tls")),
    "a topic of another cluster": (
        "brokers",
        lambda m: whole(m, "KafkaTopic")["metadata"]["labels"].update({"strimzi.io/cluster": "other"}),
    ),
    "another cluster": (
        "brokers",
        lambda m: settings(m).update(CONSUMER_KAFKA__BOOTSTRAP_SERVERS="other.kafka.svc:9093"),
    ),
}


@rendered
@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_found(what: str) -> None:
    word, damage = BROKEN[what]
    manifests = render("everything")
    damage(manifests)
    found = problems(manifests)
    assert any(problem.startswith(word) for problem in found), found


BROKEN_DEV: dict[str, tuple[str, Callable[[list[Manifest]], object]]] = {
    "a broker that may write": ("read-only", lambda m: broker(m)["securityContext"].pop("readOnlyRootFilesystem")),
    "a volume above the data": ("data", lambda m: broker(m)["volumeMounts"][0].update(mountPath="/var/lib/kafka")),
    "a feed that starts over": ("feed", lambda m: one(m, "Job")["template"]["spec"].update(restartPolicy="OnFailure")),
    "a feed that is tried again": ("feed", lambda m: one(m, "Job").pop("podFailurePolicy")),
}


def broker(manifests: list[Manifest]) -> Any:
    return one(manifests, "StatefulSet")["template"]["spec"]["containers"][0]


@rendered
@pytest.mark.parametrize("what", BROKEN_DEV)
def test_what_is_broken_in_dev_is_found(what: str) -> None:
    word, damage = BROKEN_DEV[what]
    manifests = render("dev")
    damage(manifests)
    found = problems(manifests)
    assert any(problem.startswith(word) for problem in found), found


@rendered
def test_a_changed_setting_is_a_rollout_and_an_unchanged_one_is_none() -> None:
    names = [
        one(render(name), "Deployment")["template"]["spec"]["containers"][0]["envFrom"]
        for name in ("base", "dev", "prod")
    ]
    assert len({json.dumps(name) for name in names}) == 3


def test_the_options_that_are_shown_for_prod_are_options() -> None:
    text = (ROOT / "k8s/overlays/prod/options.example.json").read_text()
    options = load_settings({"CONSUMER_KAFKA__OPTIONS": text}, required=()).kafka.options
    assert options["security.protocol"] == "SASL_SSL"
    assert options["ssl.ca.location"] == "/etc/kafka/ca.crt"


@rendered
def test_members_of_the_stateful_set_are_static_and_named_by_ordinal() -> None:
    manifests = render("static-membership")
    assert not of_kind(manifests, "Deployment", "ScaledObject")
    assert settings(manifests)["CONSUMER_STATIC_MEMBERSHIP"] == "true"


@rendered
@pytest.mark.parametrize("name", ["prod", "everything"])
def test_the_runbook_resumes_with_what_the_pipelines_pods_have(name: str, tmp_path: Path) -> None:
    """Its own lines are run, with a kubectl that knows the Deployment and says what it is told to make."""
    [block] = re.findall(r"```sh\n(alone\(\).*?)```", (ROOT / "docs/runbook.md").read_text(), re.DOTALL)
    manifests = render(name)
    there = {**pod(manifests), "restartPolicy": "Always"}  # as an API server has it
    (tmp_path / "spec").write_text(json.dumps(there, separators=(",", ":")))
    stub = (
        "kubectl() {\n"
        '  case " $* " in\n'
        f'    *" get deployment "*) cat "{tmp_path}/spec" ;;\n'
        '    *" run "*) echo "${@: -1}" ;;\n'
        '    *) echo "$3" "${@: -1}" >&2 ;;\n'
        "  esac\n"
        "}\n"
    )
    done = subprocess.run(["bash", "-euc", stub + block], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == ["scale --replicas=0", "scale --replicas=2"]
    option, _, override = done.stdout.partition("=")
    assert option == "--overrides"
    made = json.loads(override)
    kubernetes_validate.validate({**made, "kind": "Pod", "metadata": {"name": "alone"}}, KUBERNETES[0], strict=True)
    made = made["spec"]
    [container] = made["containers"]
    assert container["args"] == ["dlq", "resume"]
    assert made["restartPolicy"] == "Never"
    assert {"name": container["name"], "image": container["image"], "envFrom": container["envFrom"]} == {
        field: consumer(manifests)[field] for field in ("name", "image", "envFrom")
    }
    assert made["securityContext"] == there["securityContext"]
    assert [volume["name"] for volume in made["volumes"]] == [volume["name"] for volume in there["volumes"]]


@rendered
def test_the_monitoring_takes_the_label_that_an_operator_selects_by() -> None:
    made = of_kind(render("everything"), "PodMonitor", "PrometheusRule")
    assert [manifest["metadata"]["labels"].get("release") for manifest in made] == ["kube-prometheus-stack"] * 2
    shown = (ROOT / "docs/kubernetes.md").read_text()
    assert shown.count("{op: add, path: /metadata/labels/release, value: kube-prometheus-stack}") == 1


@rendered
def test_the_backfill_is_not_complete_before_its_end() -> None:
    [job] = of_kind(render("backfill"), "Job")
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["run", "--until-caught-up", "--fail-when-stopped"]
    [final] = [
        rule["onExitCodes"]["values"] for rule in job["spec"]["podFailurePolicy"]["rules"] if "onExitCodes" in rule
    ]
    assert set(final) == {ExitCode.POLICY, ExitCode.FENCED}, "brokers that are silent at the start end with 2"


def test_the_backfill_shares_nothing_with_the_live_pipeline() -> None:
    live, backfill = settings(render("base")), settings(render("backfill"))
    for name in ("CONSUMER_GROUP_ID", "CONSUMER_OUTPUT_TOPIC", "CONSUMER_DLQ_TOPIC"):
        assert live[name] != backfill[name]
    assert live["CONSUMER_INPUT_TOPIC"] == backfill["CONSUMER_INPUT_TOPIC"]
    # Who may write transactions of one group, by the prefix of its slots, may not write those of the other.
    groups = [live["CONSUMER_GROUP_ID"], backfill["CONSUMER_GROUP_ID"]]
    assert not any(one.startswith(f"{other}-") for one, other in permutations(groups))
    policies = {name: one(render(name), "NetworkPolicy")["podSelector"]["matchLabels"] for name in ("base", "backfill")}
    labels = {name: next(pods(render(name)))[1]["metadata"]["labels"] for name in policies}
    selected = {(policy, of) for policy in policies for of in labels if policies[policy].items() <= labels[of].items()}
    assert selected == {("base", "base"), ("backfill", "backfill")}


@rendered
def test_for_an_old_strimzi_there_is_one_thing_to_change() -> None:
    new, old = render("everything"), render("everything-v1beta2")
    for manifest in new:
        if manifest["apiVersion"] == VERSION:
            manifest["apiVersion"] = OLD_VERSION
    assert new == old
    assert {m["kind"] for m in old if m["apiVersion"] == OLD_VERSION} == {"KafkaTopic", "KafkaUser"}


def test_the_image_is_what_the_manifests_expect() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    last = lines[max(at for at, line in enumerate(lines) if line.startswith("FROM")) :]
    port = load_settings({}, required=()).http.port
    assert f"USER {UID}:{UID}" in last
    assert f"EXPOSE {port}" in last
    assert 'ENTRYPOINT ["checkpoint-consumer"]' in last
    assert f"ARG VERSION={tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['version']}" in last
    assert (ROOT / "examples/worker/Dockerfile").read_text().startswith(f"FROM {IMAGE}\n")
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"
