"""How probabilities become masks, in each protocol of referring segmentation; numpy only."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float


def foreground(
    probability: Float[np.ndarray, "*N H W"], protocol: str = "legacy"
) -> Bool[np.ndarray, "*N H W"]:
    """Returns the pixels that a protocol counts as the object, map by map.

    Args:
      probability: in [0, 1], one map per object.
      protocol: "legacy" takes the pixels above half of the map's maximum, every other protocol
        those above one half (see `vseg_jax.metrics.a2d`).
    """
    if protocol == "legacy":
        return probability > 0.5 * probability.max(axis=(-2, -1), keepdims=True)
    return probability > 0.5
