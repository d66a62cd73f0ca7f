"""A run of rcf starts from one with other categories; the head of the classes is its own."""

import jax
import numpy as np
import pytest
import tiny_rcf

from vseg_jax import experiment
from vseg_jax.training.initial import merge, without


def variables_of(categories, value):
    """Variables of a model with so many categories, all of one value."""
    model, batch = tiny_rcf.build(categories=categories), tiny_rcf.make_batch()
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
    return jax.tree.map(lambda s: np.full(s.shape, value, s.dtype), shapes)


def test_the_head_for_other_categories_is_initialized_afresh(capsys):
    [pattern] = experiment.read("rcf:finetune", {}).init_fresh
    before, own = variables_of(5, 1), variables_of(2, 2)
    with pytest.raises(ValueError, match="head/classes"):
        merge(before, own, lambda: own)
    merged = merge(without(before, (pattern,)), own, lambda: own)
    assert capsys.readouterr().out == "init_from: initialized afresh: params/head/classes\n"
    assert jax.tree.map(np.shape, merged) == jax.tree.map(np.shape, own)
    head = merged["params"]["head"].pop("classes")
    assert all((leaf == 2).all() for leaf in jax.tree.leaves(head))
    assert all((leaf == 1).all() for leaf in jax.tree.leaves(merged))
    assert without(before, ()).keys() == before.keys()
    with pytest.raises(ValueError, match=r"init_fresh has the pattern '\^heads/', which no param"):
        without(before, ("^heads/",))
