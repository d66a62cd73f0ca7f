"""The memory of L_const between steps, as in MoCo: a queue of keys and a momentum encoder.

It knows nothing of the network or the loss (constraint.py). Its sizes and the momentum follow MoCo
(He et al., CVPR 2020) and are inferred. The state is the collection `moco` of the variables, of
fixed shape:
  queue [N, D] float32: unit vectors, random at first (as in MoCo, these count as negatives);
  videos [N] int32: the video that each entry came from, -1 for a random one;
  pointer [] int32: the place of the next key;
  momentum: the parameters of the momentum encoder.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vseg_jax.layers.projection import unit

Moco = dict[str, Any]


def init(key: jax.Array, size: int, features: int, encoder: Any) -> Moco:
    """Returns the first state; the momentum encoder is a copy of `encoder`."""
    return {
        "queue": unit(jax.random.normal(key, (size, features))),
        "videos": jnp.full((size,), -1, jnp.int32),
        "pointer": jnp.zeros((), jnp.int32),
        "momentum": jax.tree.map(jnp.copy, encoder),
    }


def follow(momentum: Any, encoder: Any, rate: float) -> Any:
    """Returns the next momentum encoder: rate * momentum + (1 - rate) * encoder."""
    return jax.tree.map(
        lambda old, new: rate * old + (1 - rate) * new, momentum, jax.lax.stop_gradient(encoder)
    )


def enqueue(
    state: Moco, keys: Float[Array, "B D"], videos: Int[Array, " B"], valid: Bool[Array, " B"]
) -> Moco:
    """Replaces the oldest entries by the valid keys: first in, first out.

    Raises:
      ValueError: there are more keys than places in the queue.
    """
    size = state["queue"].shape[0]
    if keys.shape[0] > size:
        raise ValueError(
            f"a batch of {keys.shape[0]} does not fit a queue of {size}; set `queue` to the batch "
            "size or more"
        )
    place = (state["pointer"] + jnp.cumsum(valid) - 1) % size
    place = jnp.where(valid, place, size)  # out of range: dropped
    return {
        **state,
        "queue": state["queue"].at[place].set(jax.lax.stop_gradient(keys), mode="drop"),
        "videos": state["videos"].at[place].set(videos, mode="drop"),
        "pointer": (state["pointer"] + valid.sum(dtype=jnp.int32)) % size,
    }


def negatives(state: Moco, videos: Int[Array, " B"], mask_same_video: bool) -> Bool[Array, "B N"]:
    """Returns which queue entries are negatives of which sample: those of other videos, or all."""
    if not mask_same_video:
        return jnp.ones((videos.shape[0], state["videos"].shape[0]), bool)
    return videos[:, None] != state["videos"]
