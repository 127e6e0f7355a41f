"""Which variant a site answers with: pinned, its tier's, or the fastest of those that its runtime can load."""

from __future__ import annotations

import pytest

from data_catalog.errors import PlanError
from data_catalog.nouns import Profile, Site, VariantCard, VariantSpeed
from infra import choice

pytestmark = pytest.mark.unit

VERSIONS = {"litert": "2.3.0", "tensorflow": "2.21.0", "tflite_runtime": "2.14.0"}


def card(name: str, **changes) -> VariantCard:
    plain = {
        "model": "m", "version": "v1", "tier": "edge", "recipe": "", "runtime": "litert", "runtime_version": "2.3.0",
        "key": "", "digest": f"digest-of-{name}", "bytes": 1, "classes": ("a", "b"), "shape": (4,), "dtype": "uint8",
        "temperature": 1, "validation_rows": 1, "accuracy": 1, "accuracy_interval": (0, 1), "class_accuracy": (1, 1),
        "agreement": 1, "made_seconds": 1, "name": name,
    }  # fmt: skip
    return VariantCard.model_validate(plain | changes)


EDGE, CLOUD = card("edge"), card("cloud", tier="cloud", runtime="tensorflow")
TWIN = card("cloud-litert", tier="cloud", same_net_as=CLOUD.digest)
FLOAT16 = card("float16")
DYNAMIC = card("dynamic-range", lowest_runtime="2.17.0")
BASE = {"edge": EDGE, "cloud": CLOUD}
PUBLISHED = [CLOUD, TWIN, DYNAMIC, EDGE, FLOAT16]


def site(tier: str = "edge", runtime: str = "") -> Site:
    return Site(name="ward-3", tier=tier, runtime=runtime)


def names(where: Site, told: VariantCard | None = None, published=PUBLISHED) -> list[str]:
    offered = choice.candidates(where, told or BASE[where.tier], BASE, published, VERSIONS.__getitem__)
    assert all(c.runtime == (where.runtime or c.runtime) for c in offered)
    assert all(c.runtime_version == VERSIONS[c.runtime] for c in offered)
    return [c.name for c in offered]


def profile(rates: dict[tuple[str, str], float] | None = None, **changes) -> Profile:
    """What was measured of the site, by a variant's digest and a runtime."""
    speeds = {
        digest: VariantSpeed(rows_per_second=rate, batch=8, startup_seconds=0, runtime=runtime)
        for (digest, runtime), rate in (rates or {}).items()
    }
    return Profile(
        site="ward-3", host="h", cores=1, memory_bytes=1, disk_free_bytes=1, up_bytes_per_second=1,
        down_bytes_per_second=1, latency_seconds=0, dispatch_seconds=0, variants=speeds, **changes,
    )  # fmt: skip


def chosen(where: Site, rates: dict[str, float], **changes) -> str:
    offered = choice.candidates(where, BASE[where.tier], BASE, PUBLISHED, VERSIONS.__getitem__)
    known = profile({(c.digest, c.runtime): rates[c.name] for c in offered if c.name in rates}, **changes)
    return choice.choose(where, offered, known, BASE[where.tier]).name


def test_who_is_offered_what():
    assert names(site()) == ["edge"]
    assert names(site(runtime="litert")) == ["edge"]
    assert names(site("cloud")) == ["cloud", "cloud-litert"]
    assert names(site(runtime="tflite_runtime")) == ["edge", "float16"], "what 2.14 cannot load is not offered"
    assert names(site(), told=DYNAMIC) == ["dynamic-range"]
    assert names(site("cloud", runtime="litert")) == ["cloud-litert"], "a SavedModel is nothing for LiteRT"
    assert names(site("cloud"), told=TWIN) == ["cloud-litert"]


def test_what_was_proven_counts_more_than_what_the_file_says():
    proven = DYNAMIC.model_copy(update={"runs_on": {"tflite_runtime": "2.14.0"}})
    assert names(site(runtime="tflite_runtime"), told=proven) == ["dynamic-range"]


def test_what_a_runtime_was_judged_unfit_for_is_not_offered_to_it():
    unfit = FLOAT16.model_copy(update={"refused_by": {"tflite_runtime": "there it answers 40.00 % otherwise"}})
    assert names(site(runtime="tflite_runtime"), published=[EDGE, unfit]) == ["edge"]
    assert names(site(), told=unfit) == ["float16"]


@pytest.mark.parametrize("said", ["2.14.0", "2.9.0", "2.14", ""])
def test_versions_are_compared_as_numbers(said):
    old = DYNAMIC.model_copy(update={"lowest_runtime": said})
    assert names(site(runtime="tflite_runtime"), told=old) == ["dynamic-range"]


def test_a_site_that_can_load_nothing_is_named_with_its_runtime_and_the_remedy():
    with pytest.raises(
        PlanError,
        match=r"site ward-3 runs tflite_runtime 2\.14\.0, which can load no variant of m v1 for the edge"
        r" \(dynamic-range \(digest-of-dy\): it needs 2\.17\.0\); publish a float16 one",
    ):
        names(site(runtime="tflite_runtime"), told=DYNAMIC)


def test_what_was_refused_when_it_was_tried_is_never_assigned():
    old = site(runtime="tflite_runtime")
    refused = {f"{EDGE.digest}@tflite_runtime 2.14.0": "tflite-runtime 2.14.0 cannot run this model"}
    assert chosen(old, {"float16": 1.0}, refused=refused) == "float16"
    only = choice.candidates(old, EDGE, BASE, [EDGE], VERSIONS.__getitem__)
    with pytest.raises(PlanError, match=r"ward-3 runs tflite_runtime .* \(edge \(digest-of-ed\): tflite-runtime 2"):
        choice.choose(old, only, profile(refused=refused), EDGE)
    newer = {f"{EDGE.digest}@tflite_runtime 2.13.0": "what another version said"}
    assert chosen(old, {"edge": 9.0, "float16": 1.0}, refused=newer) == "edge"


def test_an_old_runtime_gets_the_fastest():
    old = site(runtime="tflite_runtime")
    assert chosen(old, {"edge": 1.0, "float16": 1.01}) == "float16"
    assert chosen(old, {"edge": 1.01, "float16": 1.0}) == "edge"


def test_the_cloud_changes_its_form_only_for_one_that_is_much_faster():
    cloud = site("cloud")
    assert chosen(cloud, {"cloud": 1.0, "cloud-litert": 1.2}) == "cloud"
    assert chosen(cloud, {"cloud": 1.0, "cloud-litert": 1.3}) == "cloud-litert"
    before = {"v1": TWIN.digest}
    assert chosen(cloud, {"cloud": 1.2, "cloud-litert": 1.0}, chosen=before) == "cloud-litert"
    assert chosen(cloud, {"cloud": 1.3, "cloud-litert": 1.0}, chosen=before) == "cloud"
    assert chosen(cloud, {"cloud": 1.2, "cloud-litert": 1.0}, chosen={"v0": TWIN.digest}) == "cloud", (
        "of another version"
    )


def test_a_variant_is_measured_once_for_a_runtime():
    offered = choice.candidates(site("cloud"), CLOUD, BASE, PUBLISHED, VERSIONS.__getitem__)
    assert choice.unmeasured(None, offered) == offered
    assert choice.unmeasured(profile({(CLOUD.digest, "tensorflow"): 1.0, (TWIN.digest, "litert"): 1.0}), offered) == ()
    assert (
        choice.unmeasured(profile({(CLOUD.digest, "tensorflow"): 1.0, (TWIN.digest, ""): 1.0}), offered) == offered[1:]
    )
    refused = {f"{TWIN.digest}@litert 2.3.0": "no"}
    assert choice.unmeasured(profile({(CLOUD.digest, "tensorflow"): 1.0}, refused=refused), offered) == ()


def test_an_edge_that_nobody_told_measures_others_that_are_better_in_something():
    smaller, slower = card("int8", stored_bytes=1, bytes=1), card("worse", accuracy=0.5, bytes=9)
    big = {**BASE, "edge": EDGE.model_copy(update={"bytes": 5})}

    def offered(**more) -> list[str]:
        found = choice.candidates(
            site(), big["edge"], big, [big["edge"], smaller, slower], VERSIONS.__getitem__, **more
        )
        return [c.name for c in found]

    assert offered() == ["edge", "int8"]
    assert offered(pinned=True) == ["edge"]
    many = [card(f"v{k}", rows_per_second=float(k)) for k in range(1, 9)]
    found = choice.candidates(site(), EDGE, BASE, many, VERSIONS.__getitem__)
    assert [c.name for c in found] == ["edge", "v8", "v7", "v6"], "the fastest, and no more than a probe should measure"


def test_the_rule_leaves_other_nets_to_the_planner():
    other = card("int8", bytes=1)
    own = EDGE.model_copy(update={"bytes": 5})
    base = {**BASE, "edge": own}
    offered = choice.candidates(site(), own, base, [own, other], VERSIONS.__getitem__)
    known = profile({(own.digest, "litert"): 1.0, (other.digest, "litert"): 9.0})
    assert choice.choose(site(), offered, known, own).name == "edge"
    assert [c.name for c in choice.options(site(), own, offered, known)] == ["edge", "int8"]
    unmeasured = profile({(own.digest, "litert"): 1.0})
    assert [c.name for c in choice.options(site(), own, offered, unmeasured)] == ["edge"]
    assert choice.options(site("cloud"), CLOUD, (CLOUD, TWIN), known) == (CLOUD,)
    assert choice.options(site(), FLOAT16, offered, known) == (FLOAT16,), "a site that fell back has no choice"
