"""The segmentation loss over all scales (Section 3.5)."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from vseg_jax.layers.resize import area
from vseg_jax.losses.masks import binary_cross_entropy
from vseg_jax.models.qvim.config import QvimConfig


def segmentation_loss(
    responses: tuple[Float[Array, "B _ _"], ...],
    mask: Float[Array, "B H W"],
    weight: Float[Array, "B H W"],
    config: QvimConfig,
) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
    """Computes L_seg of each sample: binary cross-entropy, the mean over pixels, then over scales.

    The printed formula has 1/K but no sum over k; the sum is meant. The fused map of
    `fuse="conv"`, which is none of the K scales, is one more term with the factor 1/K (inferred):
    the terms of the scales stay as they are, and nothing else trains the fusion.

    Returns:
      (loss, counted); `counted` is 0 for samples without a pixel that counts, else 1.
    """
    total, counted = 0.0, jnp.zeros(mask.shape[0])
    for response in responses:
        target, share = shrink(mask, weight, response.shape[1:], soft=config.gt_soft)
        loss, counted = binary_cross_entropy(
            response, target, share, pos_weight=config.pos_weight
        )
        total += loss
    scales = len(responses) - (config.fuse == "conv")
    return total / scales, counted


def shrink(
    mask: Float[Array, "B H W"],
    weight: Float[Array, "B H W"],
    size: tuple[int, int],
    *,
    soft: bool,
) -> tuple[Float[Array, "B h w"], Float[Array, "B h w"]]:
    """Returns a mask and the weights of its cells at the size of a scale, by average pooling.

    Pixels of weight 0 do not count in the average of their cell. Unless `soft`, a cell is
    foreground where more than half of it is (the paper's y is 0 or 1; inferred).
    """
    share = area(weight[..., None], size)[..., 0]
    mean = area((mask * weight)[..., None], size)[..., 0] / jnp.where(share > 0, share, 1)
    return (mean if soft else (mean > 0.5).astype(mean.dtype)), share


def pointing_loss(
    pooling: tuple[Float[Array, "B _ _"], ...],
    mask: Float[Array, "B H W"],
    weight: Float[Array, "B H W"],
) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
    """Computes -log of the share of a^k that lies on the named object, the mean over the scales.

    The paper has no such loss. Nothing in its losses determines whether a^k is large on the object
    or off it, but QFA takes the former for granted.

    Args:
      pooling: a^k of each scale, which sum to 1.
      mask: 1 on the object.
      weight: 0 where the content of a pixel is not annotated.

    Returns:
      (loss, counted); `counted` is 0 for samples without a pixel of the object, else 1.
    """
    counted = ((mask * weight).sum((1, 2)) > 0).astype(mask.dtype)
    total = 0.0
    for weights in pooling:
        share, counts = shrink(mask, weight, weights.shape[1:], soft=True)
        on, everywhere = ((weights * cells).sum((1, 2)) for cells in (share * counts, counts))
        on = jnp.where(counted > 0, on / jnp.maximum(everywhere, 1e-6), 1)
        total -= jnp.log(jnp.maximum(on, 1e-6))
    return total / len(pooling), counted
