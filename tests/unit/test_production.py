"""What cannot be run here: manifests against the published schemas, images and compose files against what is there."""

from __future__ import annotations

import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
MANIFESTS = [
    (path.name, manifest)
    for path in sorted((ROOT / "infra" / "k8s").glob("*.yaml"))
    for manifest in yaml.safe_load_all(path.read_text())
]
KINDS = [f"{name}: {manifest['kind']} {manifest.get('metadata', {}).get('name', '')}" for name, manifest in MANIFESTS]
COMPOSE = yaml.safe_load((ROOT / "infra" / "docker" / "compose.yaml").read_text())
DOCKERFILES = sorted((ROOT / "infra" / "docker").glob("*.Dockerfile"))
SECRET = re.compile(r"PASSWORD|SECRET|AUTH_STRING|ACCESS_KEY|CONNECTION_URL")


def pods(manifest: dict) -> list[dict]:
    """The pods that a manifest asks for, those of the Dask operator's own kinds too."""
    spec = manifest.get("spec") or {}
    if manifest["kind"] == "DaskCluster":
        return [spec["worker"]["spec"], spec["scheduler"]["spec"]]
    return [spec["template"]["spec"]] if "template" in spec else []


@pytest.mark.parametrize(("name", "manifest"), MANIFESTS, ids=KINDS)
def test_a_manifest_is_what_kubernetes_expects(name, manifest):
    version = kubernetes_validate.latest_version()
    if manifest["apiVersion"].startswith("kubernetes.dask.org"):
        for pod in pods(manifest):
            made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "made"}, "spec": pod}
            kubernetes_validate.validate(made, version, strict=True)
        for key in (
            ("minimum", "maximum", "cluster") if manifest["kind"] == "DaskAutoscaler" else ("worker", "scheduler")
        ):
            assert key in manifest["spec"]
    elif manifest["kind"] != "Kustomization":
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize(("name", "manifest"), MANIFESTS, ids=KINDS)
def test_a_pod_has_no_rights_and_a_bound(name, manifest):
    for pod in pods(manifest):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]
            assert not container["image"].endswith(":latest")
            assert ":" in container["image"]
            for variable in container.get("env", ()):
                if SECRET.search(variable["name"]):
                    assert "secretKeyRef" in variable["valueFrom"], variable["name"]


def test_what_is_applied_is_all_there_is():
    (applied,) = [manifest for _, manifest in MANIFESTS if manifest["kind"] == "Kustomization"]
    assert set(applied["resources"]) == {name for name, _ in MANIFESTS} - {"kustomization.yaml"}


def test_the_dask_cluster_is_where_the_worker_looks_for_it():
    settings = next(manifest for name, manifest in MANIFESTS if name == "settings.yaml")["data"]
    cluster = next(manifest for _, manifest in MANIFESTS if manifest["kind"] == "DaskCluster")
    assert settings["CLOUDEDGE_DASK"] == f"tcp://{cluster['metadata']['name']}-scheduler:8786"


def test_the_server_keeps_its_leases_on_disk_everywhere():
    wanted = "prefect.server.concurrency.lease_storage.filesystem"
    assert COMPOSE["services"]["prefect"]["environment"]["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"] == wanted
    assert wanted in (ROOT / "infra" / "k8s" / "prefect.yaml").read_text()
    assert wanted in (ROOT / "infra" / "stack" / "servers.py").read_text()


def test_compose_names_what_is_there():
    services = COMPOSE["services"]
    for name, service in services.items():
        assert set(service.get("depends_on", ())) <= set(services), name
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).exists(), name
        else:
            assert ":" in service["image"] or service["image"] in {
                s.get("image") for s in services.values() if "build" in s
            }
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                path = (ROOT / "infra" / "docker" / source).resolve()
                assert path.exists() or source == "./certificates", f"{name}: {source}"
            else:
                assert source in COMPOSE["volumes"], f"{name}: {source}"
        for variable, value in service.get("environment", {}).items():
            if SECRET.search(variable):
                assert ":?" in value, f"{name}: {variable} is in the file, and not asked for"
    assert {name for name, service in services.items() if "ports" in service} == {"nginx"}


def test_the_example_of_secrets_has_every_name_and_no_value():
    asked = set(re.findall(r"\$\{(\w+):\?", (ROOT / "infra" / "docker" / "compose.yaml").read_text()))
    lines = (ROOT / "infra" / "docker" / "example.env").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    assert set(given) == asked
    assert set(given.values()) <= {"", "admin:"}


def test_nginx_gets_every_variable_of_its_template():
    template = (ROOT / "infra" / "nginx" / "cloudedge.conf.template").read_text()
    assert set(re.findall(r"\$\{(\w+)\}", template)) <= set(COMPOSE["services"]["nginx"]["environment"])


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_copies_what_is_there_and_has_no_root(path):
    text = path.read_text()
    steps = re.sub(r"\\\n\s*", " ", text).splitlines()
    for step in steps:
        if step.startswith("COPY") and "--from" not in step:
            *sources, _ = step.split()[1:]
            assert all((ROOT / source).exists() for source in sources), step
    bases = [step.split()[1] for step in steps if step.startswith("FROM")]
    assert all(":" in base for base in bases)
    assert [step for step in steps if step.startswith("USER")] == ["USER cloudedge"]
    assert "--require-hashes" in text
    assert ("requirements/all.txt" if "cloud" in path.name else "requirements/edge.txt") in text
