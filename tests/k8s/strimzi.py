"""What must hold of the resources for Strimzi: their shape, what they make, who may do what, whose Secrets are used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import jsonschema

from tests.k8s.manifests import Manifest, pods

if TYPE_CHECKING:
    from consumer.settings import Settings
    from tests.k8s.contract import Pipeline

__all__ = ["OLD_VERSION", "RULES", "VERSION", "malformed"]

VERSION = "kafka.strimzi.io/v1"
"""Strimzi 0.49 and later; 1.0 and later have no other."""
OLD_VERSION = "kafka.strimzi.io/v1beta2"
"""Up to Strimzi 0.51."""
LARGEST = "checkpoint-consumer/largest-record-bytes"


def _closed(*required: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required or properties),
        "additionalProperties": False,
    }


def _one_of(*values: str) -> dict[str, Any]:
    return {"enum": list(values)}


_OPERATIONS = ("Read", "Write", "Create", "Delete", "Alter", "Describe", "AlterConfigs", "DescribeConfigs")
SPECS = {
    "KafkaTopic": _closed(
        partitions={"type": "integer", "minimum": 1},
        replicas={"type": "integer", "minimum": 1, "maximum": 32767},
        config={"type": "object", "additionalProperties": {"type": ["integer", "string"]}},
    ),
    "KafkaUser": _closed(
        authentication=_closed(type=_one_of("tls", "tls-external", "scram-sha-512")),
        authorization=_closed(
            type=_one_of("simple"),
            acls={
                "type": "array",
                "items": _closed(
                    resource=_closed(
                        type=_one_of("topic", "group", "transactionalId"),
                        name={"type": "string"},
                        patternType=_one_of("literal", "prefix"),
                    ),
                    operations={"type": "array", "items": _one_of(*_OPERATIONS)},
                ),
            },
        ),
    ),
}
"""Of the CRDs' specs what k8s/ uses: the same under both versions. An API server checks the rest (test_server)."""


def malformed(manifest: Manifest) -> Iterator[str]:
    """What is wrong with the shape of a resource for Strimzi; nothing with that of others."""
    spec = SPECS.get(manifest["kind"])
    if spec is None:
        return
    where = f"schema of {manifest['kind']} {manifest['metadata']['name']}"
    if manifest["apiVersion"] not in (VERSION, OLD_VERSION):
        yield f"{where}: there is no {manifest['apiVersion']}"
    for error in jsonschema.Draft202012Validator(spec).iter_errors(manifest["spec"]):
        yield f"{where}: {error.json_path} {error.message}"


def _parts(pipeline: Pipeline) -> tuple[Manifest, Manifest, Settings, list[Manifest]] | None:
    """The consumers, their pods' template, what they are told, the users; None where Strimzi is not used."""
    users = pipeline.kind("KafkaUser")
    if not users:
        return None
    [(manifest, template)] = pipeline.consumers
    return manifest, template, pipeline.settings(template), users


def _topics(pipeline: Pipeline) -> Iterator[str]:
    if (parts := _parts(pipeline)) is None:
        return
    manifest, template, settings, _ = parts
    if len({m["apiVersion"] for m in pipeline.kind(*SPECS)}) != 1:
        yield "versions: not all resources for Strimzi have the same"
    topics = {topic["metadata"]["name"]: topic["spec"] for topic in pipeline.kind("KafkaTopic")}
    # A Job's input is that of the live pipeline, which makes it.
    read = set() if manifest["kind"] == "Job" else {settings.input_topic}
    if topics.keys() != {*read, settings.output_topic, settings.dlq_topic}:
        yield f"topics: {sorted(topics)} are made"
        return
    if len({spec["partitions"] for spec in topics.values()}) != 1:
        yield "topics: not all have the same partitions"
    largest = int(template["metadata"]["annotations"][LARGEST])
    if topics[settings.dlq_topic]["config"]["max.message.bytes"] <= largest:
        yield f"topics: the largest record, of {largest}, is no dead letter"


def _acls(pipeline: Pipeline) -> Iterator[str]:
    """What tests/kafka/test_acls.py has seen to be needed, for the topics, group and slots of these settings."""
    if (parts := _parts(pipeline)) is None:
        return
    manifest, _, settings, users = parts
    written = {settings.output_topic or "", settings.dlq_topic}
    needed = {("topic", name, "literal", "DescribeConfigs") for name in {settings.input_topic, *written}}
    needed |= {("topic", settings.input_topic, "literal", "Read"), ("group", settings.group_id, "literal", "Read")}
    needed |= {("topic", name, "literal", "Write") for name in written}
    needed |= {("transactionalId", f"{settings.group_id}-", "prefix", "Write")}
    looked_at = {(kind, name, pattern, "Read") for kind, name, pattern, _ in needed if kind != "transactionalId"}
    for user in users:
        name = user["metadata"]["name"]
        given = {
            (acl["resource"]["type"], acl["resource"]["name"], acl["resource"]["patternType"], operation)
            for acl in user["spec"]["authorization"]["acls"]
            for operation in acl["operations"]
        }
        wanted = needed if name == manifest["metadata"]["name"] else looked_at
        if given != wanted:
            yield f"acls: {name} has too much {sorted(given - wanted)}, too little {sorted(wanted - given)}"


def _secrets(pipeline: Pipeline) -> Iterator[str]:
    """Every pod, and KEDA, has the certificate of the user of its own name, and the cluster's CA, not the clients'."""
    if (parts := _parts(pipeline)) is None:
        return
    manifest, _, settings, users = parts
    names = {user["metadata"]["name"] for user in users}
    cluster = users[0]["metadata"]["labels"]["strimzi.io/cluster"]
    if {m["metadata"]["labels"]["strimzi.io/cluster"] for m in pipeline.kind(*SPECS)} != {cluster}:
        yield "brokers: not all resources for Strimzi are of one cluster"
    if not settings.kafka.bootstrap_servers.startswith(f"{cluster}-kafka-bootstrap."):
        yield f"brokers: {settings.kafka.bootstrap_servers} are not cluster {cluster}"
    authority = f"{cluster}-cluster-ca-cert"
    for owner, template in pods(pipeline.manifests):
        name = owner["metadata"]["name"]
        sources = [s for v in template["spec"]["volumes"] for s in v.get("projected", {}).get("sources", ())]
        mounted = {
            (s["secret"]["name"], item["key"], item["path"])
            for s in sources
            if "secret" in s
            for item in s["secret"]["items"]
        }
        own = {(name, "user.crt", "user.crt"), (name, "user.key", "user.key"), (authority, "ca.crt", "ca.crt")}
        if name not in names or mounted != own:
            yield f"secret: {name} mounts {sorted(mounted)}, which are not Strimzi's for it"
    name = manifest["metadata"]["name"]
    for authentication in pipeline.kind("TriggerAuthentication"):
        given = {(ref["parameter"], ref["name"], ref["key"]) for ref in authentication["spec"]["secretTargetRef"]}
        if given != {("cert", name, "user.crt"), ("key", name, "user.key"), ("ca", authority, "ca.crt")}:
            yield f"scaling: KEDA logs in with {sorted(given)}: components/strimzi stands behind components/keda"
    for scaled in pipeline.kind("ScaledObject"):
        if scaled["spec"]["triggers"][0]["metadata"].get("tls") != "enable":
            yield "scaling: KEDA does not use TLS"


RULES: tuple[Callable[[Pipeline], Iterator[str]], ...] = (_topics, _acls, _secrets)
