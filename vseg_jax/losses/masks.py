"""Losses of segmentation masks, from logits; weights say how much each pixel counts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def binary_cross_entropy(
    logits: Float[Array, "*N H W"],
    targets: Float[Array, "*N H W"],
    weights: Float[Array, "*N H W"],
    *,
    pos_weight: float = 1.0,
) -> tuple[Float[Array, "*N"], Float[Array, "*N"]]:
    """Mean binary cross-entropy of each map over its pixels.

    Args:
      logits: before the sigmoid.
      targets: in [0, 1].
      weights: >= 0, each pixel's share in the mean; a pixel of weight 0 has no gradient.
      pos_weight: factor of the foreground term.

    Returns:
      loss: 0 for a map without a pixel that counts.
      counted: 1 for maps that have one, else 0; the mean over maps is sum(loss) / sum(counted).
    """
    logits = logits.astype(jnp.float32)
    each = -(
        pos_weight * targets * jax.nn.log_sigmoid(logits)
        + (1 - targets) * jax.nn.log_sigmoid(-logits)
    )
    total = weights.sum((-2, -1))
    counted = total > 0
    loss = (each * weights).sum((-2, -1)) / jnp.where(counted, total, 1)
    return loss, counted.astype(jnp.float32)
