"""Losses of segmentation masks, from logits and pixel weights."""

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
    """Computes the mean binary cross-entropy of each map over its pixels.

    Args:
      logits: before the sigmoid.
      targets: in [0, 1].
      weights: of each pixel in the mean, not negative; a pixel of weight 0 has no gradient.
      pos_weight: factor of the foreground term.

    Returns:
      loss: 0 for a map whose weights are all 0.
      counted: 0 for these maps, else 1; the mean over maps is sum(loss) / sum(counted).
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


def dice_coefficients(
    logits: Float[Array, "*B N H W"],
    targets: Float[Array, "*B M H W"],
    weights: Float[Array, "*B H W"],
) -> Float[Array, "*B N M"]:
    """Computes the dice coefficient, in (0, 1], of each of N maps with each of M masks.

    It is (2 sum p m + 1) / (sum p + sum m + 1) with p = sigmoid(logits) and sums over pixels; the
    dice loss is 1 minus it.

    Args:
      logits: before the sigmoid.
      targets: in [0, 1].
      weights: of each pixel, not negative; a pixel of weight 0 has no influence.

    Source: Milletari et al., 2016, with the smoothing of MaskFormer.
    """
    probability = jax.nn.sigmoid(logits.astype(jnp.float32)) * weights[..., None, :, :]
    counted = targets * weights[..., None, :, :]
    both = jnp.einsum("...nhw,...mhw->...nm", probability, targets)
    sizes = probability.sum((-2, -1))[..., :, None] + counted.sum((-2, -1))[..., None, :]
    return (2 * both + 1) / (sizes + 1)
