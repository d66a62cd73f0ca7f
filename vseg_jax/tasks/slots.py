"""Masks of objects in numbered slots, as VOS and VIS store them."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8


def slot_masks(masks: UInt8[Array, "*B H W"], slots: int) -> Float[Array, "*B {slots} H W"]:
    """Returns the masks of slots 1 to `slots`, 0 or 1; void pixels are 0 in all of them."""
    numbers = jnp.arange(1, slots + 1, dtype=masks.dtype)
    return (masks[..., None, :, :] == numbers[:, None, None]).astype(jnp.float32)
