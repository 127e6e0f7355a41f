"""`cloudedge models compress` on the whole stack: published, recommended, pushed; bad input is one line."""

from __future__ import annotations

import json

import pytest

from infra import keys
from infra.storage import open_store

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module", autouse=True)
def taken_back(up_home, quick_run, up_variables):
    """What is published here is taken back at the end: other tests' edges would measure it, and might answer with it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in up_variables.items():
            patch.setenv(name, value)
        open_store.cache_clear()
        there = set(open_store().keys(keys.models("quick")))
    yield
    with pytest.MonkeyPatch.context() as patch:
        for name, value in up_variables.items():
            patch.setenv(name, value)
        open_store.cache_clear()
        for key in set(open_store().keys(keys.models("quick"))) - there:
            open_store().delete(key)
    open_store.cache_clear()


def test_a_model_of_the_catalog_is_compressed_and_recommended(up_home, quick_run):
    arguments = ("models", "compress", "quick", "--recipe", "int8", "--recipe", "float16", "--max-drop", "0.2")
    report = json.loads(up_home.call(*arguments, "--json").stdout)
    assert report["version"] == quick_run["model_version"]
    assert {trial["recipe"]: trial["status"] for trial in report["trials"]} == {
        "int8": "published", "float16": "published"
    }  # fmt: skip
    smallest = min(report["trials"], key=lambda trial: trial["card"]["stored_bytes"])
    assert report["recommended"] == smallest["recipe"] == "int8"
    shown = up_home.call(*arguments, "--max-bytes", "10").stdout
    assert "recommended: none" in shown
    assert "more than 10" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "no model is called 'nothing'"),
        (("quick", "--recipe", "int9"), "no recipe is called 'int9' (named in --recipe); did you mean 'int8'?"),
        (("quick", "--max-drop", "2"), "--max-drop"),
        (("/no/such/model.keras", "--dataset", "mnist-5k"), "/no/such/model.keras cannot be read"),
        (("/no/such/model.keras",), "is not in the catalog, so name the dataset"),
    ],
)
def test_bad_input_is_one_line(up_home, arguments, message):
    error = up_home.call("models", "compress", *arguments, code=2).stderr
    assert message in error.splitlines()[-1]


def test_the_planner_chooses_among_what_was_published_unless_the_group_was_told(up_home, quick_run):
    """Of the variants that an edge measured it takes the one whose plan is best; a push leaves it none to choose from."""
    up_home.call("models", "compress", "quick", "--recipe", "int8", "--recipe", "float16", "--max-drop", "0.2")

    def planned() -> tuple[dict, set[str]]:
        plan = json.loads(up_home.call("plan", "--model", "quick", "--afresh", "--json").stdout)["plan"]
        return plan, {name for site in plan["sites"] if site["site"] != "cloud" for name in site["variants"]}

    free, among = planned()
    assert all(len(site["variants"]) == 1 for site in free["sites"])
    assert among <= {"edge", "int8", "float16"}
    up_home.call("models", "push", "quick", "edge")
    try:
        told, names = planned()
    finally:
        up_home.call("models", "rollback", "quick")
    assert names == {"edge"}
    assert free["seconds"] <= told["seconds"] * (1 + 1e-6) + 0.5  # profiles are measured anew for what is new
    again = up_home.run("--model", "quick")
    assert again["computed_results"] == 0, "what one variant has answered is not answered by another"
