"""Recipes as data: their order, their names, and what they share; nothing is trained."""

from __future__ import annotations

import pytest

from data_catalog.catalog import Catalog
from data_catalog.errors import CatalogError, UnknownName
from data_catalog.nouns import CompressionJob, CompressionRecipe, Gate
from infra import compression
from infra.steps import STEPS
from tests.unit.test_gate import card

pytestmark = pytest.mark.unit


def recipe(*steps, name="mine", **more):
    return CompressionRecipe.model_validate({
        "name": name, "description": "d", "steps": [{"step": s} if isinstance(s, str) else s for s in steps], **more
    })  # fmt: skip


def job(**more):
    return CompressionJob.model_validate({
        "bucket": "b", "model": "m", "version": "v", "dataset": Catalog().dataset("mnist-5k"), "classes": ("a", "b"),
        "seed": 1, "gate": Gate(max_drop=0.1, max_class_drop=0.1), "original": card("cloud", (1.0,) * 4), "keras": "",
        **more,
    })  # fmt: skip


@pytest.mark.parametrize("name", Catalog().names("recipes"))
def test_every_shipped_recipe_can_work(name):
    steps = compression.checked(Catalog().recipe(name))
    assert all(settings.keys() == STEPS.get(step).SETTINGS.keys() for step, settings in steps)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (("prune",), "recipe mine: the last step is prune; end with one that converts"),
        (("int8", "float16"), "recipe mine: step int8 converts, and nothing can follow that"),
        (("cluster", "prune", "int8"), "step prune after cluster would undo it; put prune before cluster"),
        (("prune", "distil", "int8"), "step distil after prune would undo it"),
        (("quantise_aware", "float16"), "after quantise_aware the model rounds as int8; end with int8"),
        (({"step": "prune", "sparsity": "much"}, "int8"), "step prune: `sparsity` is 'much', not a number"),
        (({"step": "prune", "epochs": True}, "int8"), "step prune: `epochs` is True, not a whole number"),
    ],
)
def test_an_order_that_cannot_work_is_told(steps, message):
    with pytest.raises(CatalogError, match=message):
        compression.checked(recipe(*steps))


def test_unknown_steps_and_settings_are_told():
    with pytest.raises(UnknownName, match=r"no compression step is called 'prun' .*recipe mine.* mean 'prune'"):
        compression.checked(recipe("prun", "int8"))
    with pytest.raises(UnknownName, match=r"setting of step prune is called 'sparsety'.* mean 'sparsity'"):
        compression.checked(recipe({"step": "prune", "sparsety": 1}, "int8"))


def test_recipes_share_what_they_begin_with_and_nothing_else():
    first, second = recipe("fold", "prune", "int8", name="one"), recipe("fold", "prune", "float16", name="two")
    levels, ways = compression.levels(job(), [first, second], 0.0)
    assert [len(level) for level in levels] == [1, 1, 2]
    assert ways["one"][:2] == ways["two"][:2]
    assert ways["one"][2] != ways["two"][2]
    pieces = compression.levels(job(), [recipe("fold", "quantise_aware", "int8")], 0.0)[0]
    assert [[name for name, _ in level[0].steps] for level in pieces] == [["fold"], ["quantise_aware", "int8"]]


def test_a_trials_name_depends_on_all_that_goes_into_it():
    def name(of, **settings):
        return compression.levels(of, [recipe({"step": "prune", **settings}, "int8")], 0.0)[1]["mine"][-1]

    names = {
        name(job()), name(job(seed=2)), name(job(version="w")), name(job(), sparsity=0.5),
        name(job(original=card("cloud", (1.0,) * 4).model_copy(update={"digest": "other"}))),
        compression.levels(job(), [recipe("prune", "int8", teacher="none")], 0.0)[1]["mine"][-1],
    }  # fmt: skip
    assert len(names) == 6
    assert name(job(gate=Gate(max_drop=0.5, max_class_drop=0.5))) == name(job()), "bounds judge, they make nothing"
