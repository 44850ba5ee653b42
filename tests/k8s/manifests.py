"""Kustomizations rendered, by whichever of kubectl and kustomize there is, and what is read out of them."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

__all__ = ["KUSTOMIZATIONS", "ROOT", "Manifest", "containers", "data", "of_kind", "pods", "render", "renderer"]

ROOT = Path(__file__).parents[2]
Manifest = dict[str, Any]

KUSTOMIZATIONS = {
    "base": "k8s/base",
    "backfill": "k8s/backfill",
    "dev": "k8s/overlays/dev",
    "prod": "k8s/overlays/prod",
    "static-membership": "k8s/overlays/static-membership",
    "everything": "tests/k8s/kustomizations/everything",
    "everything-v1beta2": "tests/k8s/kustomizations/everything-v1beta2",
    "backfill-strimzi": "tests/k8s/kustomizations/backfill-strimzi",
    "dev-keda": "tests/k8s/kustomizations/dev-keda",
}


def renderer() -> list[str] | None:
    """The command that a kustomization's folder is appended to; None where there is none on PATH."""
    if shutil.which("kubectl"):
        return ["kubectl", "kustomize"]
    return ["kustomize", "build"] if shutil.which("kustomize") else None


@functools.cache
def _rendered(folder: str) -> str:
    command = renderer()
    assert command is not None, "install kubectl or kustomize"
    done = subprocess.run([*command, folder], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{folder}: {done.stderr}"
    return done.stdout


def render(name: str) -> list[Manifest]:
    """The manifests of one of `KUSTOMIZATIONS`, new ones at every call."""
    return [manifest for manifest in yaml.safe_load_all(_rendered(KUSTOMIZATIONS[name])) if manifest]


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    """Those of the kinds."""
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def pods(manifests: list[Manifest]) -> Iterator[tuple[Manifest, Manifest]]:
    """Everything that makes pods, with the pod's template."""
    for manifest in of_kind(manifests, "Deployment", "StatefulSet", "Job"):
        yield manifest, manifest["spec"]["template"]


def containers(template: Mapping[str, Any]) -> list[Manifest]:
    """A pod's containers, those that run first included."""
    spec = template["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def data(manifests: list[Manifest], name: str) -> dict[str, str]:
    """The ConfigMap's content; its name may end in a hash."""
    found = [m for m in of_kind(manifests, "ConfigMap") if m["metadata"]["name"] == name]
    assert found, f"there is no ConfigMap {name}"
    content: dict[str, str] = found[0]["data"]
    return content
