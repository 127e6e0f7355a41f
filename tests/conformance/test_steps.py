"""Every compression step of the registry through its published suite, new files included."""

from __future__ import annotations

import numpy as np
import pytest

from data_catalog.errors import CatalogError, ModelRefused
from infra.recipes import import_tensorflow
from infra.steps import STEPS, Candidate, settings_of
from infra.testing import step_suite

pytestmark = [pytest.mark.conformance, pytest.mark.filterwarnings("ignore")]  # third parties' own, on building nets


@pytest.mark.parametrize("name", STEPS.names())
@pytest.mark.parametrize("check", step_suite.CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_step(name, check):
    check(name)


def apply(name, candidate, **settings):
    _, data = step_suite.example()
    wanted = step_suite.fast_settings(STEPS.get(name)) | settings
    return STEPS.get(name).apply(candidate, data, wanted, 5, None)


def kernels(net):
    return {weight.name: weight.numpy() for weight in net.weights if "kernel" in weight.name and weight.shape.rank > 1}


def test_folding_changes_no_answer_and_leaves_no_normalisation():
    candidate, data = step_suite.example()
    folded = step_suite.result("fold")
    x = data.train.x.astype(np.float32)
    np.testing.assert_allclose(folded.keras(x), candidate.keras(x, training=False), atol=1e-4)
    assert not [layer for layer in folded.keras.layers if "BatchNorm" in type(layer).__name__]


def test_every_layer_is_pruned_as_its_pattern_says_and_its_zeros_survive_clustering():
    pruned = apply("prune", step_suite.result("fold"), sparsity=0.5, layers="logits=0 conv*=0.75")
    zeros = {name: (value == 0).mean() for name, value in kernels(pruned.keras).items()}
    assert [round(share, 2) for name, share in zeros.items() if "logits" in name] == [0.0]
    assert [round(share, 2) for name, share in zeros.items() if "conv" in name] == [0.75]
    assert [round(share, 2) for name, share in zeros.items() if "dense" in name] == [0.5]
    assert 0.4 < pruned.notes["sparsity"] < 0.6
    clustered = apply("cluster", pruned, clusters=6)
    after_by_name = kernels(clustered.keras)
    for name, before in kernels(pruned.keras).items():
        after = after_by_name[name]
        assert len(np.unique(after)) <= 6
        assert (after[before == 0] == 0).all()


def test_a_wrong_sparsity_is_named():
    with pytest.raises(CatalogError, match=r"step prune: the sparsity '1\.5' of layer logits is no share"):
        apply("prune", step_suite.example()[0], layers="logits=1.5")
    with pytest.raises(CatalogError, match="step int8: `scales` is 'row'; write one of channel, tensor"):
        settings_of("int8", {"scales": "row"})


def test_a_net_without_layers_to_change_is_refused():
    keras = import_tensorflow().keras
    entry = keras.Input((4,))
    plain = keras.Model(entry, keras.layers.Rescaling(2.0)(entry))
    for name in ("prune", "cluster", "quantise_aware", "fold"):
        with pytest.raises(ModelRefused, match=f"step {name} finds no convolution"):
            apply(name, Candidate(plain))
