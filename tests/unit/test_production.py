"""What cannot be run here: manifests against the published schemas, images and compose files against what is there."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft201909Validator, Draft202012Validator, ValidationError

from tests.homes import BIN

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


SCHEMAS = ROOT / "tests" / "schemas"


def operator_schema(kind: str) -> dict:
    """What the Dask operator publishes for one of its kinds, where it knows no other keys; pods and services are Kubernetes'."""
    if kind == "DaskAutoscaler":
        (version,) = yaml.safe_load((SCHEMAS / "dask_autoscaler.yaml").read_text())["spec"]["versions"]
        schema, known = version["schema"]["openAPIV3Schema"], {}
    else:
        text = re.sub(r"python://[^#]*#/definitions/", "#/$defs/", (SCHEMAS / "dask_templates.yaml").read_text())
        known = yaml.safe_load(text)["definitions"]
        schema = known.pop(f"dask.k8s.api.v1.{kind}")
    closed(schema["properties"]["spec"])
    closed(known)
    folder = (
        files("kubernetes_validate")
        / "kubernetes-json-schema"
        / f"v{kubernetes_validate.latest_version()}-local-strict"
    )
    published = json.loads((folder / "_definitions.json").read_text())["$defs"]
    return schema | {"$defs": published | known}


def closed(schema: object) -> None:
    """Kubernetes drops keys that a definition does not name; here they are an error."""
    if isinstance(schema, dict):
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
        for part in schema.values():
            closed(part)


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
        Draft202012Validator(operator_schema(manifest["kind"])).validate(manifest)
    elif manifest["kind"] != "Kustomization":
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize(
    ("kind", "change", "says"),
    [
        ("DaskCluster", {"worker": {"replicas": "two"}}, "'two' is not of type 'integer'"),
        ("DaskCluster", {"worker": {"replica": 2}}, "'replica' was unexpected"),
        ("DaskCluster", {"worker": {"spec": {"container": []}}}, "'container' was unexpected"),
        ("DaskCluster", {"scheduler": {"service": {"prots": []}}}, "'prots' was unexpected"),
        ("DaskAutoscaler", {"minimum": None}, "None is not of type 'integer'"),
        ("DaskAutoscaler", {"most": 3}, "'most' was unexpected"),
    ],
)
def test_the_operators_schemas_find_what_is_wrong(kind, change, says):
    manifest = copy.deepcopy(next(manifest for _, manifest in MANIFESTS if manifest["kind"] == kind))

    def put(into, what):
        for key, value in what.items():
            put(into[key], value) if isinstance(value, dict) else into.__setitem__(key, value)

    put(manifest["spec"], change)
    with pytest.raises(ValidationError, match=says):
        Draft202012Validator(operator_schema(kind)).validate(manifest)


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


def test_compose_is_what_its_specification_expects():
    schema = json.loads((SCHEMAS / "compose_spec.json").read_text())
    newer = {"name"}  # than that schema
    check = Draft201909Validator(schema)
    check.validate({key: value for key, value in COMPOSE.items() if key not in newer})
    with pytest.raises(ValidationError, match="'comand' does not match any"):
        check.validate({"services": {"one": COMPOSE["services"]["edge-1"] | {"comand": "x"}}})


def test_an_edge_has_no_credentials_and_a_gateway_may_go():
    """It joins by a token; whoever uses the store goes through NGINX, by the name that is in every signature."""
    services = COMPOSE["services"]
    edge, worker, front = services["edge-1"], services["worker"], services["nginx"]
    assert set(edge["environment"]) == {"CLOUDEDGE_SITE", "SSL_CERT_FILE"}
    assert edge["profiles"] == ["edge"]  # it is started when it has joined
    (name,) = front["networks"]["default"]["aliases"]
    assert worker["environment"]["AWS_ENDPOINT_URL"] == f"https://{name}:{front['environment']['S3_LISTEN']}"
    users = {each for each, service in services.items() if "AWS_ENDPOINT_URL" in service.get("environment", {})}
    assert users == {"worker"}
    for service in (edge, worker):
        assert "nginx" in service["depends_on"]
        trusted = service["environment"].get("SSL_CERT_FILE") or service["environment"]["AWS_CA_BUNDLE"]
        assert f"./certificates/ca.pem:{trusted}:ro" in service["volumes"]
    gateways = re.findall(r"server ([\w-]+):9000", front["environment"]["S3_SERVERS"])
    assert gateways == ["gateway-1", "gateway-2"]


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
                assert path.exists() or source.startswith("./certificates"), f"{name}: {source}"
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
    assert [step for step in steps if step.startswith("USER")] == ["USER 10001"]
    assert "--require-hashes" in text
    assert ("requirements/all.txt" if "cloud" in path.name else "requirements/edge.txt") in text


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_has_nothing_that_the_linter_knows_better(path):
    linter = shutil.which("hadolint", path=f"{BIN}{os.pathsep}{os.environ['PATH']}")
    assert linter, "`make setup` installs it"
    linted = subprocess.run([linter, "--no-color", str(path)], capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout
