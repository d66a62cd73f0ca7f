"""Vectors of length 1, and the projection head of the contrastive losses."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vseg_jax.layers.precision import at_least_float32


class Projection(nn.Module):
    """An MLP with one hidden layer whose output has length 1; computed in float32.

    Attributes:
      hidden: width of the hidden layer.
      features: width of the output.
    """

    hidden: int
    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "*B C"]) -> Float[Array, "*B D"]:
        x = nn.relu(nn.Dense(self.hidden, name="hidden")(at_least_float32(x)))
        return unit(nn.Dense(self.features, name="out")(x))


def unit(x: Float[Array, "*B D"], floor: float = 1e-12) -> Float[Array, "*B D"]:
    """Returns `x` with length 1 along the last axis.

    A zero vector stays zero and has a finite gradient: the squared length is at least `floor`.
    """
    wide = at_least_float32(x)
    square = jnp.square(wide).sum(-1, keepdims=True)
    return (x * jax.lax.rsqrt(jnp.maximum(square, floor))).astype(x.dtype)
