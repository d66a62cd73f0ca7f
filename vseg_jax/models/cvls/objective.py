"""The training loss: segmentation and contrast, weighted (Section 3.1, Eq. 3 and 4)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from vseg_jax.losses.masks import binary_cross_entropy
from vseg_jax.models.cvls import contrast
from vseg_jax.models.cvls.config import CvlsConfig
from vseg_jax.models.cvls.network import Output
from vseg_jax.models.cvls.regions import frame_masks
from vseg_jax.tasks import Means
from vseg_jax.tasks.rvos import Batch, overlap


def objective(
    config: CvlsConfig, heads: Any, batch: Batch, output: Output
) -> tuple[jax.Array, Means]:
    """Returns the loss L of a batch, and {name: (sum, count)} of its terms.

    L_seg is the mean binary cross-entropy over the pixels of a frame, then over all annotated
    frames of the clips, including those without the referent (inferred). L_ccl is the mean over
    clips that show the referent.

    Args:
      heads: parameters of `contrast.Projections`; unused if the contrast is off.
      output: of all T frames of the clips.
    """
    mask, weight = frame_masks(batch)
    each, counted = binary_cross_entropy(
        output.logits, mask, weight, pos_weight=config.pos_weight
    )
    share, share_ccl = weights(config)
    total = share * each.sum() / jnp.maximum(counted.sum(), 1)
    place = batch["target"].astype(jnp.int32)[:, None, None, None]
    iou, has_union = overlap(*(
        jnp.take_along_axis(x, place, axis=1)[:, 0] for x in (output.logits, mask, weight)
    ))
    means = {
        "segmentation": (each.sum(), counted.sum()),
        "iou": ((iou * has_union).sum(), has_union.sum()),
    }
    if config.ccl:
        each, counted = contrast.loss(config, heads, batch, output)
        total += share_ccl * each.sum() / jnp.maximum(counted.sum(), 1)
        means["contrast"] = (each.sum(), counted.sum())
    samples = batch["valid"].sum(dtype=jnp.float32)
    return total, means | {"loss": (total * samples, samples)}


def weights(config: CvlsConfig) -> tuple[float, float]:
    """Returns the factors of L_seg and L_ccl in L (Eq. 4); L is L_seg if the contrast is off."""
    share = config.lambda_ccl if config.ccl else 0.0
    return 1 - share, share
