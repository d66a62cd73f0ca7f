"""A run of qvim is initialized from one with other parts: the baseline, the full model, ISW."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_qvim

from vseg_jax.models.qvim.config import ComparedConfig
from vseg_jax.training.initial import merge

BASELINE = {"qfa_scales": (), "am_adain_scales": (), "contrast": False}
ISW = {**BASELINE, "compared": ComparedConfig("isw")}


def variables_of(seed=0, **changes):
    """Returns a model, a batch and random variables of the shapes that `init` returns."""
    model, batch = tiny_qvim.build(**changes), tiny_qvim.make_batch()
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
    random = np.random.default_rng(seed)
    return model, batch, jax.tree.map(
        lambda s: random.normal(size=s.shape).astype(s.dtype), shapes)


def initialized(changes, start):
    """Returns the model, a batch, its variables from `start`, and its own ones."""
    model, batch, own = variables_of(seed=1, **changes)
    return model, batch, merge(start, jax.eval_shape(lambda: own), lambda: own), own


def same(a, b):
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), a, b)))


def test_the_full_model_starts_from_the_baseline(capsys):
    start = variables_of(**BASELINE)[2]
    model, batch, merged, own = initialized({}, start)
    assert capsys.readouterr().out == "init_from: initialized afresh: moco, params/contrast\n"
    assert merged.keys() == own.keys() and same(merged["moco"], own["moco"])
    params = dict(merged["params"])
    assert same(params.pop("contrast"), own["params"]["contrast"])
    assert same(params, start["params"]) and same(merged["batch_stats"], start["batch_stats"])
    loss, _, _ = jax.eval_shape(model.loss, merged, batch, jax.random.key(0), jnp.int32(9))
    assert loss.shape == ()


@pytest.mark.parametrize(("changes", "note"), [
    (BASELINE, "init_from: not used: moco, params/contrast\n"),
    ({**BASELINE, "qgap": False}, None),
    (ISW, "init_from: initialized afresh: whitening; not used: moco, params/contrast\n"),
])
def test_a_model_with_fewer_parts_starts_from_the_full_one(changes, note, capsys):
    start = variables_of()[2]
    _, _, merged, own = initialized(changes, start)
    out = capsys.readouterr().out
    assert out == note if note else "params/qvim_1/" in out and "afresh" not in out
    assert jax.tree.structure(merged) == jax.tree.structure(own)
    for name, leaf in jax.tree_util.tree_leaves_with_path(merged["params"]):
        found = start["params"]
        for key in name:
            found = found[key.key]
        assert (leaf == found).all()


@pytest.mark.parametrize(("changes", "message"), [
    ({"queue": 16}, r"moco/queue is \[\[16, 4\].*wants \[\[12, 4\]"),
    ({"cross_attention": False}, r"qvim_1/merge/kernel is \[\[8, 8\].*wants \[\[16, 8\]"),
])
def test_arrays_of_another_shape_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        initialized({}, variables_of(**changes)[2])
