"""Initialization for short trainings: a frame's keys and its memory's are similar from step 0."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_swiftnet import build

from vseg_jax.models.swiftnet.aggregation import others
from vseg_jax.models.swiftnet.streaming import prepare


@pytest.mark.parametrize("settings", [
    {"network": "stm"}, {"network": "swiftnet"}, {"backbone": "efficientnet_lite0"},
])
def test_a_frame_finds_itself_in_a_memory_without_training(settings):
    """With key convolutions that have nothing in common the best match is anywhere."""
    frame = jax.random.randint(jax.random.key(3), (1, 96, 96, 3), 0, 256).astype(jnp.uint8)
    model = build(**settings, tied_key_gain=1.5, key_channels=32)
    variables = jax.jit(model.init)(jax.random.key(0), {})
    if "lite" in variables["params"]["encoder"]:   # random weights leave its last map tiny
        lite = variables["params"]["encoder"]["lite"]
        for block in (8, 9, 10):
            lite[f"block{block}_norm2"]["scale"] *= 100

    @jax.jit
    def keys_of(variables):
        run = functools.partial(model.network.apply, variables)
        image, masks = prepare(frame), jnp.zeros((1, 1, 96, 96))
        features = run(image, method="encode")
        fused = run(features, image, masks, others(masks), method="fuse")
        return run(features, method="query")[0], run(fused, method="memorize")[0]

    def found():
        query, keys = (np.asarray(x).reshape(36, -1) for x in keys_of(variables))
        query, keys = (x - x.mean(0) for x in (query, keys))
        query, keys = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, keys))
        return ((query @ keys.T).argmax(1) == np.arange(36)).mean()

    assert found() > 0.6
    key = variables["params"]["query_kv"]["key"]
    key["kernel"] = key["kernel"][..., ::-1, :]
    assert found() < 0.3
