import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vseg_jax.layers.normalization import BatchNorm

X = jnp.asarray([[0.0, 1], [2, 1], [4, 1], [6, 5]])


def variables(scale=(2.0, 1), bias=(1.0, 0), mean=(1.0, 0), var=(4.0, 1)):
    params = {"scale": jnp.asarray(scale), "bias": jnp.asarray(bias)}
    stats = {"mean": jnp.asarray(mean), "var": jnp.asarray(var)}
    return {"params": params, "batch_stats": stats}


def test_batch_statistics_and_running_ones_by_hand():
    layer = BatchNorm("batch", eps=0.0, momentum=0.1)
    out, new = layer.apply(variables(), X, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(out[:, 0], 1 + 2 * (X[:, 0] - 3) / np.sqrt(5), rtol=1e-5)
    # Torch: 0.9 old + 0.1 new, the variance being the unbiased 20/3.
    np.testing.assert_allclose(new["batch_stats"]["mean"], [0.9 + 0.3, 0.2], rtol=1e-5)
    np.testing.assert_allclose(new["batch_stats"]["var"], [3.6 + 2 / 3, 0.9 + 0.4], rtol=1e-5)


def test_evaluation_uses_running_statistics():
    out = BatchNorm("batch", eps=0.0).apply(variables(), X, train=False)
    np.testing.assert_allclose(out[:, 0], 1 + 2 * (X[:, 0] - 1) / 2, rtol=1e-5)


def test_frozen_ignores_train_and_stops_the_gradient_of_its_parameters():
    layer = BatchNorm("frozen")

    def total(v, x):
        return (layer.apply(v, x, train=True) ** 2).sum()

    np.testing.assert_array_equal(
        layer.apply(variables(), X, train=True), layer.apply(variables(), X, train=False)
    )
    to_variables, to_input = jax.grad(total, (0, 1))(variables(), X)
    assert not any(np.any(g) for g in jax.tree.leaves(to_variables))
    assert np.any(to_input)


def test_unknown_norm_is_named():
    with pytest.raises(ValueError, match="group"):
        BatchNorm("group").init(jax.random.key(0), X, train=False)
