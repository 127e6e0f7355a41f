"""`cloudedge models` as a user types it, on a model that a run has published."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

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
