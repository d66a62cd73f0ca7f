"""The constraint on augmented data (Section 3.3, Eq. 6): a queue of negatives as in MoCo.

Sizes, momentum and the heads follow MoCo (He et al., CVPR 2020) and are inferred. The state is the
collection `moco` of the variables, of fixed shape:
  queue [N, D] float32 unit vectors, random at the start (as in MoCo, they count as negatives);
  videos [N] int32, the video each entry came from, -1 for a random one;
  pointer [] int32, where the next key goes;
  momentum: the momentum encoder's parameters.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Moco = dict[str, Any]


class Projection(nn.Module):
    """One hidden layer, then a unit vector of `features`."""

    hidden: int
    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "B C"]) -> Float[Array, "B D"]:
        x = nn.relu(nn.Dense(self.hidden, name="hidden")(x.astype(jnp.float32)))
        x = nn.Dense(self.features, name="out")(x)
        return unit(x)


def unit(x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
    """`x` with length 1 along the last axis; a zero vector stays one, with a finite gradient."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-12))


def init(key: jax.Array, size: int, features: int, encoder: Any) -> Moco:
    """The state at the start; the momentum encoder is a copy of `encoder`."""
    return {
        "queue": unit(jax.random.normal(key, (size, features))),
        "videos": jnp.full((size,), -1, jnp.int32),
        "pointer": jnp.zeros((), jnp.int32),
        "momentum": jax.tree.map(jnp.copy, encoder),
    }


def follow(momentum: Any, encoder: Any, rate: float) -> Any:
    """The momentum encoder after one step: rate * momentum + (1 - rate) * encoder."""
    return jax.tree.map(
        lambda old, new: rate * old + (1 - rate) * new, momentum, jax.lax.stop_gradient(encoder)
    )


def enqueue(
    state: Moco, keys: Float[Array, "B D"], videos: Int[Array, " B"], valid: Bool[Array, " B"]
) -> Moco:
    """Puts the valid keys in place of the oldest entries, first in, first out.

    Raises:
      ValueError: more keys than the queue holds.
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
    """Which queue entries are negatives of which sample: those of other videos, or all."""
    if not mask_same_video:
        return jnp.ones((videos.shape[0], state["videos"].shape[0]), bool)
    return videos[:, None] != state["videos"]
