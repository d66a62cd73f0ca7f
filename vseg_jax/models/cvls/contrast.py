"""Instance-level cross-modal contrast (Section 3.1, Eq. 1 and 2; Section 3.2, Eq. 6 and 7)."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vseg_jax.losses.contrast import info_nce_each
from vseg_jax.models.cvls.config import CvlsConfig
from vseg_jax.models.cvls.network import Output
from vseg_jax.models.cvls.regions import hard_regions, pool, regions
from vseg_jax.tasks.rvos import Batch


class Projections(nn.Module):
    """The heads g of vision and of language: one hidden layer, ends on the unit sphere.

    Sizes, and that each modality has its own, are inferred.
    """

    config: CvlsConfig

    def setup(self):
        self.visual = Projection(self.config)
        self.language = self.visual if self.config.shared_projection else Projection(self.config)

    def __call__(
        self, objects: Float[Array, "*B C"], sentence: Float[Array, "*A C"]
    ) -> tuple[Float[Array, "*B D"], Float[Array, "*A D"]]:
        return self.visual(objects), self.language(sentence)


class Projection(nn.Module):
    """Linear, ReLU, linear, length 1; in float32."""

    config: CvlsConfig

    @nn.compact
    def __call__(self, x: Float[Array, "*B C"]) -> Float[Array, "*B D"]:
        c = self.config
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        x = nn.relu(nn.Dense(c.projection_hidden, name="hidden")(x))
        x = nn.Dense(c.projection_dim, name="out")(x)
        # An empty region may come out as zero, where a norm has no gradient.
        return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-12))


def init(config: CvlsConfig, key: jax.Array) -> Any:
    """Random parameters of the heads."""
    one = jnp.zeros((1, config.channels))
    return Projections(config).init(key, one, one)["params"]


def loss(
    config: CvlsConfig, params: Any, batch: Batch, output: Output
) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
    """L_ccl of each sample: the sentence against all instances of its clip.

    The referent in each annotated frame is a positive; every other instance of every annotated
    frame, and every frame's background, is a negative.

    Args:
      params: what `init` gave.
      output: of all T frames of the clips.

    Returns:
      (loss, counted), both 0 for samples whose referent is nowhere to be seen.
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
    there = cover.sum((-2, -1)) > 0
    samples, width = sentence.shape
    return info_nce_each(
        sentence, objects[:, :, 0], there[:, :, 0],
        objects[:, :, 1:].reshape(samples, -1, width), there[:, :, 1:].reshape(samples, -1),
        config.tau,
    )
