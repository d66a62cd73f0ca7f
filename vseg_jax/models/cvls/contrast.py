"""Instance-level cross-modal contrast (Section 3.1, Eq. 1 and 2; Section 3.2, Eq. 6 and 7)."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vseg_jax.layers.projection import Projection
from vseg_jax.losses.contrast import info_nce_each
from vseg_jax.models.cvls.config import CvlsConfig
from vseg_jax.models.cvls.network import Output
from vseg_jax.models.cvls.regions import hard_regions, pool, regions
from vseg_jax.tasks.rvos import Batch


class Projections(nn.Module):
    """The projection heads g of vision and of language, onto the unit sphere.

    Their sizes, and that each modality has its own, are inferred.
    """

    config: CvlsConfig

    def setup(self):
        sizes = self.config.projection_hidden, self.config.projection_dim
        self.visual = Projection(*sizes)
        self.language = Projection(*sizes)

    def __call__(
        self, objects: Float[Array, "*B C"], sentence: Float[Array, "*A C"]
    ) -> tuple[Float[Array, "*B D"], Float[Array, "*A D"]]:
        return self.visual(objects), self.language(sentence)


def init(config: CvlsConfig, key: jax.Array) -> Any:
    """Returns random parameters of the heads."""
    one = jnp.zeros((1, config.channels))
    return Projections(config).init(key, one, one)["params"]


def loss(
    config: CvlsConfig, params: Any, batch: Batch, output: Output
) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
    """Computes L_ccl of each sample: the expression against all instances of its clip.

    The referent (the named object) in each annotated frame is a positive. The negatives are every
    other instance of every annotated frame, and the background of each frame.

    Args:
      params: parameters of `Projections`.
      output: of all T frames of the clips.

    Returns:
      (loss, counted), both 0 for samples whose referent is not visible in any frame.
    """
    found = regions(batch, output.features.shape[2:4], config.max_objects)
    cover = found.cover
    if config.rhic:
        cover = hard_regions(
            found, output.coarse, config.hard_share, wrong_only=config.rhic_wrong_only
        )
    objects, sentence = Projections(config).apply(
        {"params": params}, pool(output.features, cover), output.sentence
    )
    present = cover.sum((-2, -1)) > 0
    samples, width = sentence.shape
    return info_nce_each(
        sentence, objects[:, :, 0], present[:, :, 0],
        objects[:, :, 1:].reshape(samples, -1, width), present[:, :, 1:].reshape(samples, -1),
        config.tau,
    )
