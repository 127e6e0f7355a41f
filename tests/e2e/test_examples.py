"""The examples of the documents do what their text says, command by command."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.homes import BIN, environment

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
EXAMPLE = Path("docs/examples/own-data")


def block_of(document: Path, language: str) -> str:
    """The first fenced block of that language that a document has."""
    found = re.search(rf"^```{language}\n(.*?)^```$", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found, f"{document} has no {language} block"
    return found.group(1)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A folder with the example in its place: what it makes stays out of the repository."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / EXAMPLE, folder / EXAMPLE, ignore=shutil.ignore_patterns("*.npy", "__pycache__"))
    return folder


@pytest.fixture(scope="module")
def report(checkout, up_home, quick_run, quick_catalog):
    """The report of the example's commands, with the quick model in the place of the default one."""
    commands = block_of(checkout / EXAMPLE / "README.md", "sh").strip().splitlines()
    assert [command.split()[0] for command in commands] == [".venv/bin/python", ".venv/bin/cloudedge"]
    commands[-1] += f" --json --model quick --catalog {quick_catalog}"
    for command in commands:
        done = subprocess.run(
            ["bash", "-eu", "-c", command.replace(".venv/bin", str(BIN))], cwd=checkout, capture_output=True, text=True,
            env=environment(up_home.path, **up_home.variables),
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


def test_every_row_of_ones_own_data_is_answered(report):
    assert report["status"] == "complete"
    assert report["dataset"] == "my-digits"
    assert report["rows_in"] == report["rows_out"] == report["scored_rows"] == 300
    assert {site["name"] for site in report["sites"]} == {"edge-1", "cloud"}


def test_accuracy_is_counted_as_the_text_says(report):
    assert report["accuracy"]["edge_only"] > 0.5
    assert report["accuracy"]["cascade"] is not None
    assert report["accuracy"]["cloud_only"] is None


def test_a_relative_path_starts_at_the_working_directory(report, checkout, up_home, quick_catalog):
    """Home starts commands in `/`, where the data is not: the error says where it was looked for."""
    folders = ("--catalog", str(checkout / EXAMPLE), "--catalog", str(quick_catalog))
    failed = up_home.call("run", "--dataset", "my-digits", "--model", "quick", *folders, code=2)
    assert f"{EXAMPLE}/my-digits.npy does not exist" in failed.stderr


def test_an_absolute_path_does_not(report, checkout, up_home, quick_catalog):
    entry = checkout / EXAMPLE / "datasets" / "my-digits.yaml"
    entry.with_stem("anywhere").write_text(entry.read_text().replace(str(EXAMPLE), str(checkout / EXAMPLE)))
    folders = ("--catalog", str(checkout / EXAMPLE), "--catalog", str(quick_catalog))
    again = up_home.run("--dataset", "anywhere", "--model", "quick", *folders)
    assert again["rows_out"] == 300


def test_predictions_are_read_as_the_readme_says(quick_run, up_home):
    """Its snippet, with this home's folder."""
    code = block_of(ROOT / "README.md", "python")
    assert ".cloudedge/stack.json" in code
    code = code.replace(".cloudedge/stack.json", str(up_home.path / "stack.json"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(up_home.path))
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: int(line.split()[1]) for line in done.stdout.splitlines()}
    mine = [count for path, count in rows.items() if quick_run["run_id"] in path]
    assert len(mine) == len(quick_run["predictions"])
    assert sum(mine) == quick_run["rows_out"]
