"""Adaptive instance normalization of the attention map, AM-AdaIN (Section 3.4); training only."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def statistics(
    attention: Float[Array, "B P L"], eps: float
) -> tuple[Float[Array, "B L"], Float[Array, "B L"]]:
    """Eq. 8: each word's mean and (biased) standard deviation over the pixels."""
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
    """The map with its statistics moved by `alpha` towards the given ones (Section 3.4).

    Args:
      attention: C_k.
      mean, deviation: statistics of another sample's map C'_k.
      alpha: in [0, 1]; 0 leaves a word as it is.
      eps: of Eq. 8.
    """
    own_mean, own_deviation = statistics(attention, eps)
    new_mean = (1 - alpha) * own_mean + alpha * mean
    new_deviation = (1 - alpha) * own_deviation + alpha * deviation
    normal = (attention - own_mean[:, None]) / own_deviation[:, None]
    return new_deviation[:, None] * normal + new_mean[:, None]


def renormalize(attention: Float[Array, "B P L"]) -> Float[Array, "B P L"]:
    """The map without its negative values, each pixel's words summing to 1 again."""
    positive = jnp.maximum(attention, 0)
    return positive / jnp.maximum(positive.sum(-1, keepdims=True), 1e-6)


def word_alpha(
    alpha: Float[Array, " B"],
    words: Bool[Array, "B L"],
    other_words: Bool[Array, "B L"],
) -> Float[Array, "B L"]:
    """Each sample's alpha for the word positions that both sentences have, else 0.

    The two sentences' words meet by their positions; without this, attention would come to lie on
    padding (inferred).
    """
    return alpha[:, None] * (words & other_words)
