"""The registry: families are folders, outside packages join by entry point, and what is missing is said."""

from __future__ import annotations

import importlib
import re
import sys

import pytest

from data_catalog.errors import BadInput, UnknownName
from infra.registry import Registry

pytestmark = pytest.mark.unit


@pytest.fixture
def family(tmp_path, monkeypatch):
    """A family with a plug-in, shared code, plug-ins that cannot be imported, and some from outside."""
    folder = tmp_path / "made_up_family"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "plain.py").write_text("WHERE = 'inside'\n")
    (folder / "_shared.py").write_text("")
    (folder / "lacking.py").write_text("import no_such_package.part\n")
    (folder / "cloudy.py").write_text("raise ModuleNotFoundError('x', name='tensorflow')\n")
    (folder / "broken.py").write_text("1 / 0\n")
    (tmp_path / "outside_plain.py").write_text("WHERE = 'outside'\n")
    (tmp_path / "outside_lacking.py").write_text("import another_missing_package\n")
    info = tmp_path / "outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[cloudedge.made_up_family]\nguest = outside_plain\nplain = outside_plain\nguest_lacking = outside_lacking\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield Registry("made_up_family", "thing")
    for name in [name for name in sys.modules if name.startswith(("made_up_family", "outside_"))]:
        del sys.modules[name]


def test_names_are_files_and_entry_points_and_nothing_is_imported(family):
    assert family.names() == ["broken", "cloudy", "guest", "guest_lacking", "lacking", "plain"]
    assert not [name for name in sys.modules if name.startswith(("made_up_family.", "outside_"))]


def test_a_file_wins_over_an_entry_point_of_its_name(family):
    assert family.get("plain").WHERE == "inside"
    assert family.get("guest").WHERE == "outside"


@pytest.mark.parametrize(
    ("name", "package", "remedy"),
    [
        ("lacking", "no_such_package", "pip install no_such_package"),
        ("guest_lacking", "another_missing_package", "pip install another_missing_package"),
        ("cloudy", "tensorflow", "pip install 'cloudedge[cloud]'"),
    ],
)
def test_a_missing_package_is_named_with_its_remedy(family, name, package, remedy):
    with pytest.raises(BadInput, match=re.escape(f"the thing {name!r} needs the package {package!r}; {remedy}")):
        family.get(name)


def test_a_bug_in_a_plug_in_is_not_hidden(family):
    with pytest.raises(ZeroDivisionError):
        family.get("broken")


def test_an_unknown_name_comes_with_the_nearest_and_where_it_was_named(family):
    with pytest.raises(UnknownName, match=r"no thing is called 'plane' \(named in x.yaml\); did you mean 'plain'\?"):
        family.get("plane", "x.yaml")
    with pytest.raises(UnknownName, match="no thing is called '_shared'"):
        family.get("_shared")
