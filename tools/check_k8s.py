"""Validates `k8s/base` offline: Kubernetes' own schemas, references between files, promises about pods.

Schemas say whether a field exists; they do not say whether a Service finds a pod. So the references between
files are followed, and every pod is looked at for what keeps it harmless (not root, nothing writable, memory
bounded).
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

BASE = Path(__file__).resolve().parent.parent / "k8s" / "base"
VERSIONS = ("1.30", kubernetes_validate.latest_version())
# Made by the operator, never kept here: k8s/README.md says how.
OPERATORS_SECRET = "parhelion"  # noqa: S105 - the name of a Secret, not a secret

Document = dict[str, Any]


def load() -> dict[str, list[Document]]:
    """The documents of every file that is not the kustomization."""
    files = sorted(path for path in BASE.glob("*.yaml") if path.name != "kustomization.yaml")
    return {path.name: [found for found in yaml.safe_load_all(path.read_text()) if found] for path in files}


def schema_complaints(files: dict[str, list[Document]]) -> Iterator[str]:
    """Unknown fields, missing fields, wrong types."""
    for name, documents in files.items():
        for document in documents:
            for version in VERSIONS:
                try:
                    kubernetes_validate.validate(document, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    where = ".".join(str(step) for step in error.path)
                    yield f"{name}: {document['kind']} {where}: {error.message} (Kubernetes {version})"


def kustomization_complaints(files: dict[str, list[Document]]) -> Iterator[str]:
    """A file that nobody lists is a file that nobody applies."""
    listed = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    yield from (f"kustomization.yaml does not list {name}" for name in files if name not in listed)
    yield from (f"kustomization.yaml lists {name}, which is not there" for name in listed if name not in files)


def pods_of(documents: list[Document]) -> dict[str, Document]:
    """Pod templates by the name of what makes them."""
    makers = ("Deployment", "Job")
    return {found["metadata"]["name"]: found["spec"]["template"] for found in documents if found["kind"] in makers}


def pod_complaints(name: str, template: Document, config_maps: set[str], accounts: set[str]) -> Iterator[str]:
    """What a pod must and must not be, whatever the schema allows."""
    spec = template["spec"]
    if not spec.get("securityContext", {}).get("runAsNonRoot"):
        yield f"{name}: the pod may run as root"
    if spec.get("automountServiceAccountToken") is not False:
        yield f"{name}: the pod gets a token of the cluster's API"
    if spec.get("serviceAccountName") not in accounts:
        yield f"{name}: no ServiceAccount {spec.get('serviceAccountName')!r}"
    for container in spec["containers"]:
        yield from container_complaints(name, container)
        for source in container.get("envFrom", []):
            if "configMapRef" in source and source["configMapRef"]["name"] not in config_maps:
                yield f"{name}: no ConfigMap {source['configMapRef']['name']!r}"
            if "secretRef" in source and source["secretRef"]["name"] != OPERATORS_SECRET:
                yield f"{name}: no Secret {source['secretRef']['name']!r}"


def container_complaints(name: str, container: Document) -> Iterator[str]:
    """A container writes nothing, gains nothing, and cannot take the node's memory."""
    guard = container.get("securityContext", {})
    if not guard.get("readOnlyRootFilesystem") or guard.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: the container's filesystem is writable or it may gain privileges"
    if guard.get("capabilities", {}).get("drop") != ["ALL"]:
        yield f"{name}: the container keeps capabilities"
    if "memory" not in container.get("resources", {}).get("limits", {}):
        yield f"{name}: no memory limit"


def selects(selector: dict[str, str], template: Document) -> bool:
    """Whether a label selector finds the pods of a template."""
    labels = template["metadata"]["labels"]
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def reference_complaints(documents: list[Document]) -> Iterator[str]:
    """Selectors that find nothing, autoscalers of nothing, ports that no container opens."""
    pods = pods_of(documents)
    deployments = {found["metadata"]["name"]: found for found in documents if found["kind"] == "Deployment"}
    for name, deployment in deployments.items():
        if not selects(deployment["spec"]["selector"]["matchLabels"], pods[name]):
            yield f"{name}: its selector does not find its own pods"
        if "livenessProbe" not in pods[name]["spec"]["containers"][0]:
            yield f"{name}: nobody would notice that it hangs"
    for found in documents:
        kind, spec = found["kind"], found.get("spec", {})
        label = f"{kind} {found['metadata']['name']}"
        if kind == "HorizontalPodAutoscaler" and spec["scaleTargetRef"]["name"] not in deployments:
            yield f"{label}: no such Deployment"
        if kind == "PodDisruptionBudget" and not any(
            selects(spec["selector"]["matchLabels"], p) for p in pods.values()
        ):
            yield f"{label}: finds no pod"
        if kind == "NetworkPolicy" and not any(selects(spec["podSelector"]["matchLabels"], p) for p in pods.values()):
            yield f"{label}: finds no pod"
        if kind == "Service":
            reached = [pod for pod in pods.values() if selects(spec["selector"], pod)]
            opened = {port["name"] for pod in reached for box in pod["spec"]["containers"] for port in box["ports"]}
            yield from (f"{label}: no port {p['targetPort']}" for p in spec["ports"] if p["targetPort"] not in opened)


def complaints() -> Iterator[str]:
    """Everything that is wrong with the folder; nothing when it is sound."""
    files = load()
    documents = [document for found in files.values() for document in found]
    yield from kustomization_complaints(files)
    yield from schema_complaints(files)
    if any(found["kind"] == "Secret" for found in documents):
        yield "a Secret is kept with the sources; k8s/README.md says where it belongs"
    config_maps = {found["metadata"]["name"] for found in documents if found["kind"] == "ConfigMap"}
    accounts = {found["metadata"]["name"] for found in documents if found["kind"] == "ServiceAccount"}
    for name, template in pods_of(documents).items():
        yield from pod_complaints(name, template, config_maps, accounts)
    yield from reference_complaints(documents)


def main() -> int:
    """Prints each complaint; exit code 1 when there is one."""
    found = list(complaints())
    for complaint in found:
        print(complaint)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
