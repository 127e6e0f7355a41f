"""A run in which a site is slower than it was measured: another takes over, and every row is answered once."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from data_catalog.nouns import Plan
from infra import keys
from tests.conftest import ROOT
from tests.homes import MANY_SHARDS, environment

pytestmark = pytest.mark.e2e


def slowly(home, catalog, *arguments):
    """The report of `cloudedge run` over two edges, of which the one that begins first takes a second a shard."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.slow_run", "1.0", "run", "--json", "--model", "quick", "--bound", "1",
         "--dataset", "free-shards", "--site", "edge-1", "--site", "edge-2", *arguments],
        env=environment(home.path, CLOUDEDGE_CATALOG=catalog, PYTHONPATH=str(ROOT)), cwd=ROOT, text=True,
        capture_output=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_shards_leave_a_site_that_is_slower_than_planned(up_home, quick_run, up_store, quick_catalog, tmp_path):
    (tmp_path / "datasets").mkdir()
    few = MANY_SHARDS.replace("unsure-rows", "any").replace("modulo: 2", "modulo: 10")
    (tmp_path / "datasets" / "free-shards.yaml").write_text(few)
    catalog = f"{tmp_path}:{quick_catalog}"
    report = slowly(up_home, catalog)
    assert report["status"] == "complete"
    assert report["rows_in"] == report["rows_out"] == 1000
    first = Plan.model_validate_json(up_store.get(keys.run(report["run_id"], "plan.json")))
    last = Plan.model_validate_json(up_store.get(report["replanned"][-1]["plan"]))
    slow = report["replanned"][0]["why"].partition(" ")[0]
    assert "is behind" in report["replanned"][0]["why"]
    planned, answered = (sum(p.site == slow for p in plan.placements) for plan in (first, last))
    assert planned > answered
    assert [p.result for p in last.placements] == [p.result for p in first.placements], "by the same variant"
    assert all(up_store.exists(keys.result(p.result)) for p in last.placements)
    assert sum(each["moved"] for each in report["replanned"]) >= planned - answered
    assert "took over" in next(line["reason"] for line in report["sites"] if line["name"] != slow)
    page = up_store.get(keys.run(report["run_id"], "report.html")).decode()
    assert "The plan was changed while the run was under way" in page

    again = slowly(up_home, catalog, "--no-replan")  # all is known, whoever answered it
    assert again["replanned"] == []
    assert again["rows_out"] == 1000
    assert again["computed_results"] == 0
