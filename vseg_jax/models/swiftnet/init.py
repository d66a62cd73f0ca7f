"""Weight initialization for short trainings on frozen features: both key convolutions start equal.

All of it is inferred; the public recipe, of 800,000 steps, does without.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

Params = dict[str, Any]

# From PyTorch's default to He's variance, which is six times as large.
HE_GAIN = 6**0.5


def tie_keys(params: Params, gain: float) -> Params:
    """Returns the parameters with which frames match by their features before any training.

    Two random key convolutions have nothing in common, so what a query reads is meaningless until
    both have been trained together. Equal ones read where the features are similar.

    Args:
      params: as flax initialized them.
      gain: scale of both key convolutions.
    """
    params = _tied_key_convolutions(params, gain)
    params = _stronger_readout(params)
    if "memory_encoder" in params:
        params = _copied_encoder(params)
    if "aggregation" in params:
        params = _transparent_aggregation(params)
    return params


def _tied_key_convolutions(params: Params, gain: float) -> Params:
    """Makes both key convolutions equal, and `gain` times as large.

    On EfficientNet, whose r4 is a few hundred channels in pairs of opposite sign, the key is `gain`
    times r4 itself: as many of its signed channels as there are key channels.
    """
    key = dict(params["query_kv"]["key"])
    if "lite" in params["encoder"]:
        inputs, channels = key["kernel"].shape[2:]
        signed = jnp.eye(inputs // 2, channels, dtype=key["kernel"].dtype)
        key["kernel"] = _pointwise(key["kernel"], jnp.concatenate([signed, -signed]))
    key = {name: gain * value for name, value in key.items()}
    return params | {kv: {**params[kv], "key": key} for kv in ("query_kv", "memory_kv")}


def _stronger_readout(params: Params) -> Params:
    """Gives everything behind the memory He's variance, and the last layer a kernel near zero.

    With PyTorch's default, the readout fades at every convolution relative to the frame's own maps.
    The last layer starts near zero, undecided.
    """
    params = dict(params)
    for part in params.keys() & {"aspp", "decoder"}:
        params[part] = jax.tree_util.tree_map_with_path(
            lambda path, x: x * HE_GAIN if path[-1].key == "kernel" else x, params[part]
        )
    last = params["decoder"]["predict"]
    params["decoder"] = {**params["decoder"], "predict": {**last, "kernel": 0.01 * last["kernel"]}}
    return params


def _copied_encoder(params: Params) -> Params:
    """Starts STM's memory encoder as a copy of the query encoder."""
    return params | {"memory_encoder": {**params["memory_encoder"], "resnet": params["encoder"]}}


def _transparent_aggregation(params: Params) -> Params:
    """Lets SwiftNet's aggregation pass r4 through, so that the memory's keys see it.

    What the finer maps add to r4 starts at a tenth, and the two convolutions behind as identities.
    """
    layers = dict(params["aggregation"])
    layers["fuse3"] = {"kernel": 0.1 * layers["fuse3"]["kernel"]}
    for name in ("fuse4", "fuse5"):
        kernel = layers[name]["kernel"]
        layers[name] = {"kernel": _pointwise(kernel, jnp.eye(*kernel.shape[2:]))}
    return params | {"aggregation": layers}


def _pointwise(kernel: jax.Array, center: jax.Array) -> jax.Array:
    """Returns a 3x3 kernel that is zero everywhere but at its center."""
    return jnp.zeros_like(kernel).at[1, 1].set(center)
