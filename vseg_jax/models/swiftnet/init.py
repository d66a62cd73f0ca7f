"""A start from which frozen features already match; for trainings that are short."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def matched(params: dict[str, Any], gain: float) -> dict[str, Any]:
    """Both key convolutions equal and `gain` times as large; SwiftNet's aggregation passes r4 on.

    Two random key convolutions have nothing in common, so what a query reads says nothing until
    both have been trained together. Equal ones read where the features are alike. On EfficientNet,
    whose r4 is a few hundred channels that come in pairs of opposite sign, the key is `gain` times
    r4 itself, as many of its signed channels as there are key channels. In SwiftNet what
    the finer maps add to r4 begins at a tenth, and the two convolutions behind it as identity, so
    that the memory's keys see r4; STM's second encoder begins as a copy of the first.

    What follows the memory begins with He's variance in place of PyTorch's default, a sixth of it,
    with which what was read fades at every convolution beside the frame's own maps; the last layer
    begins near zero, undecided.

    Inferred, all of it: the public recipe, of 800,000 steps, does without.
    """
    key = dict(params["query_kv"]["key"])
    if "lite" in params["encoder"]:
        inputs, channels = key["kernel"].shape[2:]
        signed = jnp.eye(inputs // 2, channels, dtype=key["kernel"].dtype)
        key["kernel"] = _center(key["kernel"], jnp.concatenate([signed, -signed]))
    key = {name: gain * value for name, value in key.items()}
    params = {**params, **{
        kv: {**params[kv], "key": key} for kv in ("query_kv", "memory_kv")
    }}
    for part in params.keys() & {"aspp", "decoder"}:
        params[part] = jax.tree_util.tree_map_with_path(
            lambda path, x: x * 6**0.5 if path[-1].key == "kernel" else x, params[part]
        )
    prediction = params["decoder"]["predict"]
    params["decoder"] = {
        **params["decoder"], "predict": {**prediction, "kernel": 0.01 * prediction["kernel"]}
    }
    if "memory_encoder" in params:
        encoder = {**params["memory_encoder"], "resnet": params["encoder"]}
        params["memory_encoder"] = encoder
    if "aggregation" in params:
        layers = dict(params["aggregation"])
        layers["fuse3"] = {"kernel": 0.1 * layers["fuse3"]["kernel"]}
        for name in ("fuse4", "fuse5"):
            kernel = layers[name]["kernel"]
            layers[name] = {"kernel": _center(kernel, jnp.eye(*kernel.shape[2:]))}
        params["aggregation"] = layers
    return params


def _center(kernel: jax.Array, middle: jax.Array) -> jax.Array:
    """A 3x3 kernel that looks at the middle alone."""
    return jnp.zeros_like(kernel).at[1, 1].set(middle)
