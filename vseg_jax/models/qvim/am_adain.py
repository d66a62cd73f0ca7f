"""Adaptive instance normalization of the attention map, AM-AdaIN (Section 3.4); training only."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def statistics(
    attention: Float[Array, "B P L"], eps: float
) -> tuple[Float[Array, "B L"], Float[Array, "B L"]]:
    """Returns each word's mean and (biased) standard deviation over the pixels (Eq. 8)."""
    mean = attention.mean(axis=1)
    variance = jnp.square(attention - mean[:, None]).mean(axis=1)
    return mean, jnp.sqrt(variance + eps)


def restyle(
    attention: Float[Array, "B P L"],
    mean: Float[Array, "B L"],
    deviation: Float[Array, "B L"],
    alpha: Float[Array, "B L"],
    eps: float,
) -> Float[Array, "B P L"]:
    """Moves the statistics of the map by `alpha` towards the given ones (Section 3.4).

    As printed, this acts after the softmax: the words of a pixel no longer sum to 1 and a value may
    be slightly negative.

    Args:
      attention: C_k.
      mean, deviation: statistics of another sample's map C'_k.
      alpha: in [0, 1]; 0 leaves a word unchanged.
      eps: of Eq. 8.
    """
    own_mean, own_deviation = statistics(attention, eps)
    new_mean = (1 - alpha) * own_mean + alpha * mean
    new_deviation = (1 - alpha) * own_deviation + alpha * deviation
    normal = (attention - own_mean[:, None]) / own_deviation[:, None]
    return new_deviation[:, None] * normal + new_mean[:, None]


def word_alpha(
    alpha: Float[Array, " B"],
    words: Bool[Array, "B L"],
    other_words: Bool[Array, "B L"],
) -> Float[Array, "B L"]:
    """Returns each sample's alpha at the word positions that both expressions have, else 0.

    Words of the two expressions are paired by position. Without this, padding would get attention
    (inferred).
    """
    return alpha[:, None] * (words & other_words)
