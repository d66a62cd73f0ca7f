"""Query-guided feature augmentation, QFA (Section 3.3); training only.

Where the query does not point, the features of a video (its background) are replaced by those of
another video, in which the parts that match the query are faded out.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vseg_jax.models.qvim.config import QvimConfig


def schedule(
    step: Int[Array, ""], config: QvimConfig
) -> tuple[Bool[Array, ""], Float[Array, ""]]:
    """Returns whether QFA acts at `step`, and its threshold beta.

    QFA is off for the first `qfa_start` of the training. Then beta grows linearly to `qfa_beta_max`
    at the last step ("gradually shift beta from small to large"; the numbers are inferred). The
    other two schedules have `qfa_beta_max` all the time: "constant" keeps the start without QFA,
    "from_start" does not.
    """
    since = _since_warm_up(step, config)
    if config.qfa_schedule != "progressive":
        active = since >= 0 if config.qfa_schedule == "constant" else jnp.asarray(True)
        return active, jnp.asarray(config.qfa_beta_max, jnp.float32)
    span = config.qfa_beta_max - config.qfa_beta_min
    return since >= 0, config.qfa_beta_min + span * jnp.clip(since, 0, 1)


def warmed_up(step: Int[Array, ""], config: QvimConfig) -> Bool[Array, ""]:
    """Returns whether the first `qfa_start` of the training is over, whatever QFA's schedule."""
    return _since_warm_up(step, config) >= 0


def _since_warm_up(step: Int[Array, ""], config: QvimConfig) -> Float[Array, ""]:
    """Returns the position after the warm-up: 0 at `qfa_start`, 1 at the last step."""
    done = jnp.asarray(step, jnp.float32) / max(config.total_steps - 1, 1)
    return (done - config.qfa_start) / (1 - config.qfa_start)


def peak(weights: Float[Array, "B H W"]) -> Float[Array, "B H W"]:
    """Scales pooling weights so that the largest is 1 (inferred: 1 - A must lie in [0, 1])."""
    return weights / weights.max(axis=(1, 2), keepdims=True)


def relative(weights: Float[Array, "B H W"]) -> Float[Array, "B H W"]:
    """Scales pooling weights so that their mean is 1.

    Inferred: beta needs a scale. A cell is replaced if it has less than beta times the weight that
    it would have in a uniform map, whatever the size of the map and of the object.
    """
    return weights * (weights.shape[1] * weights.shape[2])


def augment(
    y: Float[Array, "B H W C"],
    other: Float[Array, "B H W C"],
    weights: Float[Array, "B H W"],
    other_weights: Float[Array, "B H W"],
    beta: Float[Array, ""],
    *,
    foreground: bool = True,
    augment_matrix: bool = True,
    keep_scores: bool = False,
) -> Float[Array, "B H W C"]:
    """Computes V~ = B * M_aug * V_au + R_f * V.

    R_f = [A > beta], B = 1 - R_f, M_aug = 1 - A_au.

    Args:
      y: the features V, kept where the query points.
      other: the features V_au of another video.
      weights: A, the weights of the query on `y`, see `relative`.
      other_weights: A_au, the weights of the same query on `other`, see `peak`.
      beta: threshold.
      foreground: False is "w/o B" of Table 3: the other video is added everywhere.
      augment_matrix: False is "w/o M_aug" of Table 3: nothing of the other video is faded out.
      keep_scores: R_f holds the scores, as printed: [A > beta] A, here with the peak 1 (inferred).
        The paper converts only R_b into a bool matrix, but it also says that the augmented data
        retains the key regions.

    The paper prints M_aug = A_au - 1, which would flip the sign of the features. This follows its
    text instead: "subtract the attention matrix from the all-one matrix".
    """
    kept = (weights > beta)[..., None].astype(y.dtype)
    share = 1 - kept if foreground else jnp.ones_like(kept)
    if augment_matrix:
        share *= (1 - other_weights)[..., None].astype(y.dtype)
    if keep_scores:
        kept *= peak(weights)[..., None].astype(y.dtype)
    return share * other + kept * y


def replaced(
    weights: Float[Array, "B H W"], beta: Float[Array, ""], mask: Float[Array, "B H W"],
    counts: Float[Array, "B H W"],
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """Counts the cells of the background and of the named object that QFA replaces; a metric.

    Args:
      weights: A, see `relative`.
      beta: the threshold; with a negative one nothing is replaced.
      mask: 1 in cells of the named object, else 0.
      counts: weight of each cell; 0 where its content is not annotated.

    Returns:
      (sum, count) of the background's replaced cells, and of the object's. The second should stay
      near 0: if the object is replaced, its mask no longer matches the features.
    """
    replaced = weights <= beta
    background, named = (1 - mask) * counts, mask * counts
    return tuple(((replaced * cells).sum(), cells.sum()) for cells in (background, named))


def other_sample(
    key: jax.Array, video: Int[Array, " B"], valid: Bool[Array, " B"]
) -> tuple[Int[Array, ""], Bool[Array, " B"]]:
    """Draws another sample for each sample of the global batch.

    `jnp.roll(x, shift, 0)` moves it into place. The shift is between 1 and B - 1, so no sample
    gets itself, and every device of a data-parallel training draws the same one.

    Returns:
      The shift, and for which samples the other one is usable: both are valid, of two videos.

    Raises:
      ValueError: the batch has only one sample.
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
