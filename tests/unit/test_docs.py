"""The documents against the code: paths, links, keys, variables, markers and commands are those that exist."""

from __future__ import annotations

import ast
import re
import tomllib
import types
import typing
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest

from cloudedge.__main__ import cli
from data_catalog import nouns

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *ROOT.glob("docs/**/*.md"),
    )
)
FOLDERS = (
    "cloudedge",
    "flows",
    "tasks",
    "infra",
    "data_catalog",
    "tests",
    "docs",
    "deployments",
    "requirements",
    "benchmarks",
)
PATH = re.compile(rf"(?<![\w./<-])((?:{'|'.join(FOLDERS)})/[\w./-]*)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
# Named, and made by whoever follows the text.
MADE = {"docs/examples/own-data/my-digits.npy", "cloudedge/runs/"}


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_there_are_documents():
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/report.md", "docs/planner.md"} <= set(DOCUMENTS)
    assert len(list((ROOT / "docs" / "adr").glob("0*.md"))) >= 6


def anchors_of(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_somewhere(name):
    for link in LINK.findall(text_of(name)):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), f"{name} links {link}"
        if anchor:
            assert anchor in anchors_of(target), f"{name} links {link}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_path_exists(name):
    for path in PATH.findall(text_of(name)):
        trimmed = path.rstrip(".-")
        assert trimmed in MADE or (ROOT / trimmed).exists(), f"{name} names {path}"


def nouns_in(annotation: object) -> set[type[nouns.Noun]]:
    """All nouns that a type is made of."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return {annotation} if issubclass(annotation, nouns.Noun) else set()
    return {noun for part in typing.get_args(annotation) for noun in nouns_in(part)}


def reported() -> set[type[nouns.Noun]]:
    """`Report` and every noun inside it."""
    found, new = set(), {nouns.Report}
    while new:
        found |= new
        new = {
            inner for noun in new for field in noun.model_fields.values() for inner in nouns_in(field.annotation)
        } - found
    return found


@pytest.mark.parametrize("noun", sorted(reported(), key=lambda noun: noun.__name__), ids=lambda noun: noun.__name__)
def test_the_report_page_names_every_key(noun):
    section = re.search(rf"^## {noun.__name__}\n(.*?)(?=^## |\Z)", text_of("docs/report.md"), re.MULTILINE | re.DOTALL)
    assert section, f"docs/report.md has no section {noun.__name__}"
    assert re.findall(r"^\| `(\w+)` \|", section.group(1), re.MULTILINE) == list(noun.model_fields)


def test_the_report_page_names_the_schema_version():
    assert f"`schema_version` is {nouns.REPORT_SCHEMA_VERSION}." in text_of("docs/report.md")


def test_the_settings_table_is_that_of_the_module():
    tree = ast.parse(text_of("infra/settings.py"))
    rows = [line for line in (ast.get_docstring(tree) or "").splitlines() if line.startswith("|")]
    assert "\n".join(rows) in text_of("docs/architecture.md")
    read = {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get"
        and node.args and isinstance(node.args[0], ast.Constant)
    }  # fmt: skip
    assert len(read) >= 6
    table = "\n".join(rows)
    assert {name for name in read if f"`{name}`" not in table} == set()
    assert set(re.findall(r"`(CLOUDEDGE_\w+)`", table)) <= read


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_variable_of_ours_is_one_that_is_read(name):
    known = set(re.findall(r"CLOUDEDGE_[A-Z]+", text_of("infra/settings.py")))
    assert set(re.findall(r"CLOUDEDGE_[A-Z]+", text_of(name))) <= known


def test_contributing_names_every_marker():
    markers = tomllib.loads(text_of("pyproject.toml"))["tool"]["pytest"]["ini_options"]["markers"]
    for marker in markers:
        name, _, what = marker.partition(": ")
        assert f"| `{name}` | {what} |" in text_of("CONTRIBUTING.md")


def test_the_store_layout_is_that_of_the_module():
    layout = (ast.get_docstring(ast.parse(text_of("infra/keys.py"))) or "").partition("::\n")[2]
    for line in filter(None, map(str.strip, layout.splitlines())):
        assert line in text_of("docs/architecture.md")


def code_of(name: str) -> list[str]:
    """The lines of a document's shell blocks, and what stands in the text as code."""
    text = text_of(name)
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [*"".join(blocks).splitlines(), *re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_command_and_option_exists(name):
    targets = {word for line in re.findall(r"^([\w -]+):", text_of("Makefile"), re.MULTILINE) for word in line.split()}
    for line in code_of(name):
        words = line.partition("#")[0].removeprefix(".venv/bin/").split()
        if words[:1] == ["make"]:
            assert {word for word in words[1:] if "=" not in word} <= targets, f"{name}: {line}"
        if words[:1] == ["cloudedge"] and len(words) > 1:
            arguments = " ".join(words[2:])
            assert words[1] in {*cli.commands, "--help"}, f"{name}: {line}"
            command = cli.commands.get(words[1])
            if isinstance(command, click.Group) and len(words) > 2:
                assert words[2] in command.commands, f"{name}: {line}"
                command = command.commands[words[2]]
            known = {option for p in getattr(command, "params", ()) for option in (*p.opts, *p.secondary_opts)}
            assert set(re.findall(r"--[a-z-]+", arguments)) <= known, f"{name}: {line}"


def test_the_readme_names_every_key_of_a_dataset():
    keys = {key for key in nouns.Dataset.model_fields if key != "name"}
    keys |= {f"sources[].{key}" for key in nouns.Source.model_fields}
    section = text_of("README.md").partition("## Point it at your own data")[2].partition("\n## ")[0]
    named = set(re.findall(r"^\| `([\w.\[\]]+)` \|", section, re.MULTILINE))
    assert keys <= named <= keys | {f"record.{key}" for key in nouns.Schema.model_fields}
    for key in nouns.Schema.model_fields:
        assert f"`{key}`" in section


def test_the_picture_is_whole():
    picture = ElementTree.fromstring(text_of("docs/pipeline.svg"))
    words = " ".join(picture.itertext())
    stages = ("data_catalog", "preprocess", "partition", "plan", "compress", "infer", "escalate", "aggregate", "report")
    assert all(stage in words for stage in stages)
    assert "docs/pipeline.svg" in LINK.findall(text_of("README.md"))


@pytest.mark.parametrize("name", [*DOCUMENTS, "pyproject.toml", "Makefile"])
def test_no_address_of_a_package_index(name):
    assert not re.search(r"index-url[ =]+\S*://|/simple/?\b", text_of(name))
