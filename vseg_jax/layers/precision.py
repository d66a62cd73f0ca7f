"""Computation in at least single precision."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def at_least_float32(x: jax.Array) -> jax.Array:
    """Returns `x` as float32, or unchanged if it is wider (float64)."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
