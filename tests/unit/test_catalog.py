"""The catalog's errors: one line with file, key and remedy, for every way in which YAML goes wrong."""

from __future__ import annotations

import pytest
import yaml

from data_catalog.catalog import Catalog
from data_catalog.errors import BadInput, CatalogError, CloudEdgeError, UnknownName
from data_catalog.nouns import Site

pytestmark = pytest.mark.unit

DATASET = {
    "description": "made up",
    "license": "CC0",
    "format": "csv",
    "sources": [{"site": "edge-1", "uri": "x.csv"}],
    "record": {"shape": [3], "dtype": "uint8"},
}


@pytest.fixture
def write(tmp_path):
    """Write an entry of the user's own catalog and return that catalog."""

    def write(kind, name, content):
        (tmp_path / kind).mkdir(exist_ok=True)
        text = content if isinstance(content, str) else yaml.safe_dump(content)
        (tmp_path / kind / f"{name}.yaml").write_text(text, encoding="utf-8")
        return Catalog([tmp_path])

    return write


def message_of(error: type[CloudEdgeError], call, *args) -> str:
    with pytest.raises(error) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_broken_yaml_says_at_which_line(write):
    catalog = write("sites", "a", "tier: edge\nthreads: [1\ndescription: x\n")
    message = message_of(CatalogError, catalog.site, "a")
    assert "a.yaml: broken YAML at line 3" in message
    assert "correct that line" in message


@pytest.mark.parametrize("content", ["", "- tier: edge\n", "edge\n", "3\n"])
def test_a_file_without_keys_says_so(write, content):
    message = message_of(CatalogError, write("sites", "a", content).site, "a")
    assert "a.yaml: holds no keys; a site is a YAML mapping" in message


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "a.yaml").write_bytes(b"tier: \xff\xfe\n")
    assert "a.yaml: cannot be read" in message_of(CatalogError, Catalog([tmp_path]).site, "a")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"lisence": "CC0"}, "key `lisence`: unknown; remove it or correct its spelling"),
        ({"license": None}, "key `license`: input should be a valid string; correct it"),
        ({"sources": []}, "key `sources`: "),
        ({"record": {"shape": [3]}}, "key `record.dtype`: missing; add it"),
        ({"record": {"shape": [3], "dtype": "uint7"}}, "key `record.dtype`: input should be 'uint8'"),
        ({"record": {"shape": [3], "dtype": "uint8", "lo": 0}}, "key `record.lo`: unknown"),
        ({"sources": [{"site": "edge-1", "uri": "x", "row": 1}]}, "key `sources.0.row`: unknown"),
        ({"sources": [{"site": "Edge 1", "uri": "x"}]}, "key `sources.0.site`: "),
        ({"sources": [{"site": "a", "uri": "x"}, {"site": "a", "uri": "y"}]}, "two sources have one name"),
        ({"splits": {"train": 0.5, "test": 0.4}}, "shares add up to 0.9, not to 1"),
        ({"splits": {"trian": 1.0}}, "key `splits.trian"),
        ({"batch": ["test"]}, "`batch` names 'test', which `splits` does not have"),
        ({"shard_rows": 0}, "key `shard_rows`: "),
        ({"name": "other"}, "key `name`: must be 'd', the stem of the file"),
        (
            {"sources": [{"site": "a", "uri": "x", "rows": {"modulo": 2, "remainders": [2]}}]},
            "remainders must lie between 0 and 1",
        ),
    ],
)
def test_what_is_wrong_with_a_dataset_is_said_with_its_key(write, change, problem):
    message = message_of(CatalogError, write("datasets", "d", DATASET | change).dataset, "d")
    assert "d.yaml: " in message
    assert problem in message


def test_a_missing_key_is_named(write):
    content = {key: value for key, value in DATASET.items() if key != "license"}
    assert "d.yaml: key `license`: missing; add it" in message_of(
        CatalogError, write("datasets", "d", content).dataset, "d"
    )


def test_a_model_needs_both_variants_in_their_places(write):
    variant = {"recipe": "r", "runtime": "litert", "tier": "edge"}
    model = {
        "description": "",
        "trained_on": "d",
        "classes": ["a", "b"],
        "gate": {"max_drop": 0.1, "max_class_drop": 0.1},
        "variants": {"edge": variant},
    }
    assert "`variants` has no cloud variant" in message_of(CatalogError, write("models", "m", model).model, "m")
    model["variants"]["cloud"] = variant
    assert "variants.cloud says `tier: edge`" in message_of(CatalogError, write("models", "m", model).model, "m")
    model["variants"]["cloud"] = variant | {"tier": "cloud"}
    assert write("models", "m", model).model("m").variants["cloud"].tier == "cloud"


def test_a_source_is_called_after_its_site_unless_it_has_a_name(write):
    sources = [{"site": "a", "uri": "x"}, {"site": "a", "uri": "y", "name": "second"}]
    dataset = write("datasets", "d", DATASET | {"sources": sources}).dataset("d")
    assert [source.name for source in dataset.sources] == ["a", "second"]
    assert dataset.source("second").uri == "y"


def test_a_users_folder_wins_and_adds(write, tmp_path):
    catalog = write("datasets", "mnist-5k", DATASET)
    assert catalog.dataset("mnist-5k").license == "CC0"
    assert catalog.model("digits").name == "digits"
    other = tmp_path / "other"
    (other / "datasets").mkdir(parents=True)
    (other / "datasets" / "mnist-5k.yaml").write_text(yaml.safe_dump(DATASET | {"license": "first"}))
    assert Catalog([other, tmp_path]).dataset("mnist-5k").license == "first"
    assert Catalog([tmp_path, other]).dataset("mnist-5k").license == "CC0"


def test_a_catalog_folder_that_does_not_exist_is_named(tmp_path):
    assert f"{tmp_path / 'no'} does not exist" in message_of(CatalogError, Catalog, [tmp_path / "no"])


@pytest.mark.parametrize(
    ("kind", "wrong", "hint"),
    [
        ("site", "edge1", "did you mean 'edge-1'?"),
        ("model", "digit", "did you mean 'digits'?"),
        ("dataset", "xyzzy", "known: mnist-5k"),
    ],
)
def test_an_unknown_name_comes_with_the_nearest(kind, wrong, hint):
    catalog = Catalog()
    message = message_of(UnknownName, getattr(catalog, kind), wrong, "flag --site")
    assert message.startswith(f"no {kind} is called {wrong!r} (named in flag --site); ")
    assert hint in message


def test_with_nothing_known_the_message_says_none():
    assert str(UnknownName.among("site", "a", [])) == "no site is called 'a'; known: none"


def test_every_error_of_ours_is_bad_input_or_not_by_its_exit_code():
    def family(kind):
        return {kind, *(grandchild for child in kind.__subclasses__() for grandchild in family(child))}

    for kind in family(CloudEdgeError):
        assert kind.exit_code == (2 if issubclass(kind, BadInput) else 1)
        assert kind.__doc__


def test_a_site_that_joined_wins_over_a_file_and_one_that_drains_is_refused():
    joined = Site(name="edge-1", tier="edge", threads=7, dispatch="mailbox")
    born = Catalog().dataset("mnist-5k")
    catalog = Catalog((), {"edge-1": joined, "ward-1": joined.model_copy(update={"name": "ward-1"})})
    assert catalog.site("edge-1").threads == 7
    assert {"ward-1", "edge-1", "edge-2", "cloud"} <= {*catalog.names("sites")}
    assert joined in catalog.sites((), born)
    leaving = Catalog((), {"edge-1": joined.model_copy(update={"draining": True})})
    assert "cloudedge site drain edge-1 --undo" in message_of(CatalogError, leaving.sites, (), born)
    assert [site.name for site in leaving.sites(["edge-2", "cloud"], born)] == ["edge-2", "cloud"]
