"""Query-guided feature augmentation, QFA (Section 3.3); training only.

The background of a video's features, where the query does not point, is replaced by another
video's features, of which the query-like parts are faded out.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vseg_jax.models.qvim.config import QvimConfig


def schedule(
    step: Int[Array, ""], config: QvimConfig
) -> tuple[Bool[Array, ""], Float[Array, ""]]:
    """Whether QFA acts at `step`, and its threshold beta.

    Nothing for the first `qfa_start` of the training, then beta grows linearly to `qfa_beta_max` at
    the last step ("gradually shift beta from small to large"; the numbers are inferred).
    """
    if not config.qfa_progressive:
        return jnp.asarray(True), jnp.asarray(config.qfa_beta_max, jnp.float32)
    done = jnp.asarray(step, jnp.float32) / max(config.total_steps - 1, 1)
    since = (done - config.qfa_start) / (1 - config.qfa_start)
    span = config.qfa_beta_max - config.qfa_beta_min
    return since >= 0, config.qfa_beta_min + span * jnp.clip(since, 0, 1)


def peak(weights: Float[Array, "B H W"]) -> Float[Array, "B H W"]:
    """Pooling weights with the largest at 1 (inferred: the paper's threshold needs a scale)."""
    return weights / weights.max(axis=(1, 2), keepdims=True)


def augment(
    y: Float[Array, "B H W C"],
    other: Float[Array, "B H W C"],
    weights: Float[Array, "B H W"],
    other_weights: Float[Array, "B H W"],
    beta: Float[Array, ""],
    *,
    foreground: bool = True,
    augment_matrix: bool = True,
) -> Float[Array, "B H W C"]:
    """V~ = B * M_aug * V_au + R_f * V, with R_f = [A > beta], B = 1 - R_f, M_aug = 1 - A_au.

    Args:
      y: features V, kept where the query points.
      other: another video's features V_au.
      weights: A, the query's weights on `y`, largest 1.
      other_weights: A_au, the same query's weights on `other`, largest 1.
      beta: threshold in [0, 1].
      foreground: False is Table 3's "w/o B": the other video is added everywhere.
      augment_matrix: False is Table 3's "w/o M_aug": nothing of the other video is faded out.

    The paper prints M_aug = A_au - 1, which would turn the features' sign; its text, "subtract the
    attention matrix from the all-one matrix", is followed.
    """
    kept = (weights > beta)[..., None].astype(y.dtype)
    share = 1 - kept if foreground else jnp.ones_like(kept)
    if augment_matrix:
        share *= (1 - other_weights)[..., None].astype(y.dtype)
    return share * other + kept * y


def replaced(
    weights: Float[Array, "B H W"], beta: Float[Array, ""], mask: Float[Array, "B H W"],
    counts: Float[Array, "B H W"],
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """How much of the rest and of the named object falls below the threshold; a look at training.

    Args:
      weights: A, largest 1.
      beta: the threshold; negative: nothing is replaced.
      mask: 1 in cells of the named object, else 0.
      counts: weight of each cell; 0 where it is not known what it shows.

    Returns:
      (sum, count) of the replaced cells that are not the object's, and of those that are. The
      second should stay near 0: an object that is gone has a mask of nothing.
    """
    gone = weights <= beta
    return tuple(((gone * of).sum(), of.sum()) for of in ((1 - mask) * counts, mask * counts))


def other_sample(
    key: jax.Array, video: Int[Array, " B"], valid: Bool[Array, " B"]
) -> tuple[Int[Array, ""], Bool[Array, " B"]]:
    """A draw of another sample for each one of the global batch: (shift, is another video).

    `jnp.roll(x, shift, 0)` brings it; the shift is from 1 to B - 1, so nobody meets itself, and
    every device of a data-parallel training draws the same.

    Raises:
      ValueError: a batch of one.
    """
    count = video.shape[0]
    if count < 2:
        raise ValueError(
            "QFA and AM-AdaIN take features from another sample, but the batch has one; use a "
            "batch size of 2 or more, or set qfa_scales=() and am_adain_scales=()"
        )
    shift = jax.random.randint(key, (), 1, count)
    another = jnp.roll(video, shift) != video
    return shift, another & jnp.roll(valid, shift) & valid
