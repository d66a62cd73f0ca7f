"""Four of the compared methods (Section 4.2): their changes of a batch of features in training.

All random numbers are arguments. Features are maps [B, H, W, C] or words [B, L, C]; `present` says
which words exist, and no statistic counts the others. Each function follows its public code
(docs/papers/qvim.md names repositories and commits).
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def sfa(
    x: Float[Array, "B *N C"], scale: Float[Array, "B *N C"], shift: Float[Array, "B *N C"]
) -> Float[Array, "B *N C"]:
    """Scales and shifts every number by its own noise: SFA-S (Li et al., ICCV 2021).

    Args:
      x: features.
      scale: normally distributed around 1.
      shift: normally distributed around 0.
    """
    return scale * x + shift


def adain(
    x: Float[Array, "B *N C"],
    other: Int[Array, " B"],
    present: Bool[Array, "B *N"] | None = None,
    eps: float = 1e-5,
) -> Float[Array, "B *N C"]:
    """Gives each channel another sample's statistics: AdaIN (Huang and Belongie, ICCV 2017).

    Args:
      x: features.
      other: the sample whose style each one takes; gradients flow into it.
      present: which places exist; None for all.
      eps: added to variances.
    """
    mean, deviation = statistics(x, present, eps)
    return (x - mean) / deviation * deviation[other] + mean[other]


def mixstyle(
    x: Float[Array, "B *N C"],
    other: Int[Array, " B"],
    share: Float[Array, " B"],
    present: Bool[Array, "B *N"] | None = None,
    eps: float = 1e-6,
) -> Float[Array, "B *N C"]:
    """Mixes the styles of two samples in each channel: MixStyle (Zhou et al., ICLR 2021).

    Args:
      x: features.
      other: the sample whose style is mixed in.
      share: of the sample's own style, Beta(0.1, 0.1) in the paper.
      present: which places exist; None for all.
      eps: added to variances.
    """
    mean, deviation = jax.lax.stop_gradient(statistics(x, present, eps))
    share = share.reshape(-1, *[1] * (x.ndim - 1))
    new_mean = share * mean + (1 - share) * mean[other]
    new_deviation = share * deviation + (1 - share) * deviation[other]
    return (x - mean) / deviation * new_deviation + new_mean


def dsu(
    x: Float[Array, "B *N C"],
    mean_noise: Float[Array, "B C"],
    deviation_noise: Float[Array, "B C"],
    valid: Bool[Array, " B"],
    present: Bool[Array, "B *N"] | None = None,
    eps: float = 1e-6,
) -> Float[Array, "B *N C"]:
    """Draws styles around the samples' own, as far as these vary: DSU (Li et al., ICLR 2022).

    Args:
      x: features.
      mean_noise, deviation_noise: standard normal.
      valid: samples from which the variation of the styles is estimated.
      present: which places exist; None for all.
      eps: added to variances, including those of the styles.
    """
    mean, deviation = statistics(x, present, eps)
    noises = (n.reshape(mean.shape) for n in (mean_noise, deviation_noise))
    new_mean, new_deviation = (
        style + noise * _spread(style, valid, eps)
        for style, noise in zip((mean, deviation), noises, strict=True)
    )
    return (x - mean) / deviation * new_deviation + new_mean


def statistics(
    x: Float[Array, "B *N C"], present: Bool[Array, "B *N"] | None, eps: float
) -> tuple[Float[Array, "B *M C"], Float[Array, "B *M C"]]:
    """Returns each sample's mean and deviation by channel: sqrt(unbiased variance + eps)."""
    mean, squares, count = moments(x, present)
    return mean, jnp.sqrt(squares / jnp.maximum(count - 1, 1) + eps)


def moments(
    x: Float[Array, "B *N C"], present: Bool[Array, "B *N"] | None
) -> tuple[Float[Array, "B *M C"], Float[Array, "B *M C"], Float[Array, "..."]]:
    """Returns each channel's mean, the sum of squares about it, and the number of places."""
    axes = tuple(range(1, x.ndim - 1))
    if present is None:
        count = jnp.asarray(math.prod(x.shape[1:-1]), x.dtype)
        mean = x.mean(axes, keepdims=True)
        return mean, jnp.square(x - mean).sum(axes, keepdims=True), count
    weight = present[..., None].astype(x.dtype)
    count = weight.sum(axes, keepdims=True)
    mean = (weight * x).sum(axes, keepdims=True) / jnp.maximum(count, 1)
    return mean, (weight * jnp.square(x - mean)).sum(axes, keepdims=True), count


def _spread(style: Array, valid: Array, eps: float) -> Array:
    """Returns the deviation of a statistic over the batch, from its unbiased variance."""
    weight = valid.astype(style.dtype).reshape(-1, *[1] * (style.ndim - 1))
    count = weight.sum()
    mean = (weight * style).sum(0) / jnp.maximum(count, 1)
    variance = (weight * jnp.square(style - mean)).sum(0) / jnp.maximum(count - 1, 1)
    return jnp.sqrt(variance + eps)
