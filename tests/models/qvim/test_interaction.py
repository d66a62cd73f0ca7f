"""The interaction module against its equations, written in NumPy over the module's parameters."""

import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import random_params
from tiny_qvim import SMALL

from vseg_jax.models.qvim.config import QvimConfig
from vseg_jax.models.qvim.interaction import Interaction, Place, Query, WordAttention

CHANNELS = SMALL["channels"]
RANDOM = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RANDOM.normal(size=shape), jnp.float32)


MAP = normal(2, 2, 3, 4)
VALID = jnp.asarray([[True] * 5, [True, True, False, False, False]])
QUERY = Query(normal(2, 5, CHANNELS) * VALID[..., None], VALID, normal(2, CHANNELS))


def config(**changes):
    return QvimConfig(**{**SMALL, **changes})


def linear(params, x):
    return x @ params["kernel"] + params.get("bias", 0)


def softmax(x, axis=-1):
    weights = np.exp(x - x.max(axis, keepdims=True))
    return weights / weights.sum(axis, keepdims=True)


def relu(x):
    return np.maximum(x, 0)


@pytest.mark.parametrize(
    "changes",
    [{}, {"att_norm": "linear"}, {"highlight": "peak"}, {"qgap": False},
     {"cross_attention": False}],
)
def test_output_by_hand(changes):
    c = config(**changes)
    module = Interaction(c, 1)
    params = random_params(module, MAP, QUERY, None)
    out, pooled, pooling, attention = module.apply({"params": params}, MAP, QUERY, None)

    y = Place(c).apply({"params": params["place"]}, MAP)
    scores = np.einsum("bhwc,bc->bhw", y, QUERY.vector) / np.sqrt(CHANNELS)
    if c.att_norm == "softmax":
        a = softmax(scores.reshape(2, 6)).reshape(2, 2, 3)
    else:
        a = (relu(scores) + 1e-6) / (relu(scores) + 1e-6).sum((1, 2), keepdims=True)
    p, z = y.mean((1, 2)), y
    if c.qgap:   # highlight: 1 + HW a is 2 everywhere if the query points nowhere in particular
        p = (a[..., None] * y).sum((1, 2))
        strength = 6 * a if c.highlight == "mean" else a / a.max((1, 2), keepdims=True)
        z = y * (1 + strength[..., None]) + linear(params["share"], p)[:, None, None]
    merged = z
    if c.cross_attention:
        weights = WordAttention(c).apply({"params": params["words"]}, y, QUERY)
        np.testing.assert_allclose(attention, weights, rtol=1e-4, atol=1e-5)
        u = (weights @ QUERY.words).reshape(z.shape)
        merged = np.concatenate([z, u], -1)
    else:
        assert attention is None
    np.testing.assert_allclose(pooling, a, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(pooled, p, rtol=1e-4, atol=1e-5)
    wanted = z + relu(linear(params["merge"], merged))
    np.testing.assert_allclose(out, wanted, rtol=1e-4, atol=1e-4)


def position(params, visual, coordinates):
    return relu(linear(params["position"], np.concatenate([visual, coordinates], -1)))


# The two cells of a map of 1x2: left, top, right, bottom, center x and y, 1/width, 1/height.
CELLS = np.float32([[[[-1, -1, 0, 1, -0.5, 0, 0.5, 1], [0, -1, 1, 1, 0.5, 0, 0.5, 1]]]])


def test_position_and_self_attention_by_hand():
    visual = MAP[:1, :1, :2]
    module = Place(config())
    params = random_params(module, visual)
    x = position(params, visual, CELLS)
    query, key, value = (linear(params[name], x[0, 0]) for name in ("query", "key", "value"))
    wanted = x + softmax(query @ key.T / np.sqrt(CHANNELS)) @ value
    np.testing.assert_allclose(module.apply({"params": params}, visual), wanted, rtol=1e-4)


def test_pooled_keys_are_means_of_cells():
    visual = MAP[:1, :1, :2]
    module = Place(config(sa_kv_max=1))   # one key: every pixel attends to the mean
    params = random_params(module, visual)
    x = position(params, visual, CELLS)
    wanted = x + linear(params["value"], x.mean((1, 2), keepdims=True))
    np.testing.assert_allclose(module.apply({"params": params}, visual), wanted, rtol=1e-4)


def test_word_attention_with_w_on_the_scores():
    module = WordAttention(config(ca_w="words"))
    y = normal(2, 2, 3, CHANNELS)
    params = random_params(module, y, QUERY)
    scores = relu(y[0].reshape(6, CHANNELS) @ QUERY.words[0].T @ params["w"]["kernel"])
    weights = module.apply({"params": params}, y, QUERY)
    np.testing.assert_allclose(weights[0], softmax(scores), rtol=1e-4, atol=1e-6)
