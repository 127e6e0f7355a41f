"""`cloudedge models` as a user types it, on a model that a run has published."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from data_catalog.nouns import Receipt
from infra import keys, ledger, model_registry, self_test

pytestmark = pytest.mark.e2e


def said(home, *arguments, code=0):
    return home.call("models", *arguments, code=code)


@pytest.fixture(scope="module")
def version(quick_run) -> str:
    return quick_run["model_version"]


def test_list_show_and_compare(up_home, version, tmp_path):
    listed = json.loads(said(up_home, "list", "quick", "--json").stdout)
    assert version in listed["quick"]["versions"]
    assert {"cloud", "edge"} <= set(listed["quick"]["versions"][version])
    assert version in said(up_home, "list").stdout
    shown = json.loads(said(up_home, "show", "quick", "--version", version[:6], "--variant", "edge", "--json").stdout)
    assert (shown["model"], shown["version"], shown["tier"]) == ("quick", version, "edge")
    assert 0 < shown["stored_bytes"] < shown["bytes"]
    page = (up_home.path / "models" / "quick" / f"{version}-edge.html").read_text()
    assert shown["digest"] in page
    assert "<script" not in page
    picture = tmp_path / "variants.svg"
    table = said(up_home, "compare", "quick", "--version", version, "--picture", str(picture)).stdout
    assert "edge *" in table
    assert str(picture) in table
    ElementTree.fromstring(picture.read_text())


def test_a_push_is_honoured_and_rolled_back(up_home, version):
    pushed = json.loads(said(up_home, "push", "quick", "edge", "--version", version, "--json").stdout)
    assert (pushed["group"], pushed["version"], pushed["variant"]) == ("edge", version, "edge")
    assert "edge (edge)" in said(up_home, "list", "quick").stdout
    report = up_home.run("--model", "quick")
    assert report["model_version"] == version
    assert report["computed_results"] == 0  # the same variant as before, so the same results
    kept = json.loads(said(up_home, "prune", "quick", "--keep", "0", "--json").stdout)
    assert "group edge answers with it" in kept["kept"][version]
    assert "what the catalog trains" in said(up_home, "rollback", "quick").stdout
    assert "back to the catalog" in said(up_home, "show", "quick").stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("list", "quack"), "no model in the registry is called 'quack' (named in MODEL); did you mean 'quick'?"),
        (("show", "quick", "--version", "zz"), "no version of quick is called 'zz' (named in --version)"),
        (("show", "quick", "--variant", "egde"), "did you mean 'edge'?"),
        (("push", "quick", "egde"), "did you mean 'edge'?"),
        (("push", "quick", "edge", "--group", "edgy"), "no group of sites is called 'edgy' (named in --group)"),
        (("push", "quick", "edge", "--group", "cloud"), "is for the edge, and group cloud has sites of the cloud"),
        (("rollback", "quick"), "group edge has nothing to go back from"),
        (("rollback", "quack"), "did you mean 'quick'?"),
        (("prune", "quack"), "did you mean 'quick'?"),
        (("prune", "quick", "--keep", "-1"), "--keep"),
    ],
)
def test_what_is_wrong_is_one_line(up_home, version, arguments, says):
    done = said(up_home, *arguments, code=2)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert says in done.stderr


@pytest.fixture
def broken(up_home, up_store, version):
    """A variant beside the edge's that answers here otherwise than where it was published, pushed to the edges."""
    card = model_registry.read_card(up_store, "quick", version, "edge")
    golden, _ = model_registry.read_golden(up_store, card)
    answers = {}
    for split in ("validation", "test"):
        key = keys.answers("quick", version, "edge", split)
        answers[split] = ledger.read_parquet(up_store.get(key), key)
    model = model_registry.read_model(up_store, card) + bytes(16)  # another file, and as good
    named = card.model_copy(update={"name": "broken"})
    wrong = self_test.Golden(golden.x, -golden.logits)
    published = model_registry.publish(up_store, named, model, wrong, answers)
    said(up_home, "push", "quick", "broken", "--version", version)
    yield published
    said(up_home, "rollback", "quick")
    for key in up_store.keys(keys.variant("quick", version, "broken")):
        up_store.delete(key)


def test_a_site_falls_back_to_the_last_good_variant(up_home, up_store, version, broken):
    before = up_home.run(
        "--model", "quick", "--site", "edge-1", "--site", "edge-2", "--site", "edge-3", "--site", "cloud"
    )
    good = before["variants"]["edge"]["digest"]
    assert good != broken.digest
    assert before["computed_results"] == 0  # its answers have the names that they had
    for site in before["sites"]:
        if site["tier"] == "edge":
            assert site["variant"] == good
            assert "fell back to variant edge" in site["fallback"]
            assert "failed its self-test here on litert: another class for" in site["fallback"]
            receipt = Receipt.model_validate_json(
                up_store.get(keys.run(before["run_id"], "receipts", f"{site['name']}.json"))
            )
            assert (receipt.variant, receipt.fallback) == (good, site["fallback"])
        else:
            assert site["fallback"] == ""
    page = (up_home.path / "runs" / before["run_id"] / "report.html").read_text()
    assert "the last good one" in page
    assert not list((up_home.path / "sites").glob(f"*/models/{broken.digest}"))
