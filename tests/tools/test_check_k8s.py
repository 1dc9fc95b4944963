"""The Kubernetes check finds what is broken: each case breaks one thing in a copy of the real files."""

import shutil
from pathlib import Path

import pytest

from tools import check_k8s


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `k8s/base` that the check looks at instead of the real one."""
    copy = tmp_path / "base"
    shutil.copytree(check_k8s.BASE, copy)
    monkeypatch.setattr(check_k8s, "BASE", copy)
    return copy


def test_the_real_files_are_sound() -> None:
    assert list(check_k8s.complaints()) == []


@pytest.mark.parametrize(
    ("name", "before", "after", "complaint"),
    [
        ("api-deployment.yaml", "  selector:", "  replicasss: 2\n  selector:", "replicasss"),
        ("api-deployment.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "may run as root"),
        (
            "api-deployment.yaml",
            "readOnlyRootFilesystem: true",
            "readOnlyRootFilesystem: false",
            "is writable",
        ),
        ("api-deployment.yaml", "livenessProbe", "readinessProbe", "nobody would notice"),
        ("worker-deployment.yaml", 'drop: ["ALL"]', 'drop: ["NET_RAW"]', "keeps capabilities"),
        (
            "worker-deployment.yaml",
            "name: parhelion\n            - secretRef",
            "name: x\n            - secretRef",
            "no Conf",
        ),
        ("migrate-job.yaml", "              memory: 256Mi", "              cpu: 1", "no memory limit"),
        ("migrate-job.yaml", "restartPolicy: Never", "restartPolicy: 7", "restartPolicy"),
        ("api-service.yaml", "targetPort: http", "targetPort: web", "no port web"),
        ("api-autoscaler.yaml", "    name: parhelion-api", "    name: parhelion-apis", "no such Deployment"),
        ("disruption-budgets.yaml", "component: worker\n", "component: workers\n", "finds no pod"),
        ("kustomization.yaml", "  - api-service.yaml\n", "", "does not list api-service.yaml"),
    ],
)
def test_a_broken_file_is_named(base: Path, name: str, before: str, after: str, complaint: str) -> None:
    path = base / name
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    assert [found for found in check_k8s.complaints() if complaint in found]


def test_a_secret_among_the_files_is_refused(base: Path) -> None:
    (base / "service-account.yaml").write_text(
        (base / "service-account.yaml").read_text()
        + "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: parhelion\nstringData:\n  key: value\n"
    )
    assert any("a Secret is kept with the sources" in found for found in check_k8s.complaints())
