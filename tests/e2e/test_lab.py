"""The laboratory as a user types it: small, with one fault of each kind, and everything gone afterwards."""

from __future__ import annotations

import json

import pytest

from infra.emulation import namespaces
from tests.homes import Home

pytestmark = pytest.mark.e2e

ROWS = 60_000
SMALL = (
    "--sites", "2", "--speed", "2:1", "--up", "20,5", "--down", "50", "--latency", "10", "--rows", str(ROWS), "--model", "quick",
)  # fmt: skip
FAULTS = ("--cut", "ward-2@1s+2s", "--kill", "ward-1@1s+1s", "--slow", "ward-2@3s+2s/2", "--corrupt", "ward-2@0s")


def test_every_way_answers_every_row_once_whatever_befalls_ours(tmp_path, quick_catalog):
    home = Home(tmp_path / "home", {"CLOUDEDGE_CATALOG": str(quick_catalog)})
    result = json.loads(home.call("lab", "--json", "--fewer", "0", *SMALL, *FAULTS).stdout)
    trials = {trial["name"]: trial for trial in result["trials"]}
    assert list(trials) == ["cloud-only", "edge-only", "equal split", "cloudedge"]
    for trial in trials.values():
        assert (trial["rows"], trial["missing_rows"], trial["duplicate_rows"]) == (ROWS, 0, 0)
        assert sum(trial["rows_by_site"].values()) >= ROWS
        assert trial["wire_bytes"] > trial["link_bytes"] > 0
    assert trials["cloud-only"]["rows_by_site"] == {"ward-1": 0, "ward-2": 0, "cloud": ROWS}
    assert trials["edge-only"]["escalated_rows"] == 0
    assert trials["cloudedge"]["accuracy"] >= trials["cloud-only"]["accuracy"] - 0.005
    assert result["faults"] == ["cut ward-2@1s+2s", "kill ward-1@1s+1s", "slow ward-2@3s+2s/2", "corrupt ward-2@0s"]
    assert "<svg" in (home.path / "lab" / "lab.html").read_text()
    assert not home.servers()
    assert namespaces.why_not() or namespaces.sweep() == []
