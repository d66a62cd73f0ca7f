"""Turns each object's own probability into probabilities that sum to 1 with the background.

Soft aggregation of STM (Oh et al., ICCV 2019). The last three axes of a map are N, H, W.
"""

from __future__ import annotations

import functools
import operator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

EPS = 1e-7
ABSENT = -1e9  # logit of a slot without an object: its probability is 0 exactly


def aggregate(
    probability: Float[Array, "*B N H W"], present: Bool[Array, "*B N"]
) -> Float[Array, "*B M H W"]:
    """Returns the logits of the background (slot 0) and of the N slots, M = N + 1.

    The background's probability is that of no object, prod(1 - p); a logit is the logarithm of the
    odds. Slots that are not `present` do not affect the background and get the logit `ABSENT`.
    """
    there = present[..., None, None]
    probability = jnp.where(there, probability, 0).astype(jnp.float32)
    # Successive products: the gradient of jnp.prod is slow, and undefined where a factor is 0.
    slots = [1 - probability[..., n, :, :] for n in range(probability.shape[-3])]
    background = functools.reduce(operator.mul, slots)[..., None, :, :]
    p = jnp.clip(jnp.concatenate([background, probability], axis=-3), EPS, 1 - EPS)
    logits = jnp.log(p) - jnp.log1p(-p)
    there = jnp.concatenate([jnp.ones_like(there[..., :1, :, :]), there], axis=-3)
    return jnp.where(there, logits, ABSENT)


def probabilities(logits: Float[Array, "*B M H W"]) -> Float[Array, "*B N H W"]:
    """Returns the N slots' probabilities from the logits of `aggregate`."""
    return jax.nn.softmax(logits, axis=-3)[..., 1:, :, :]


def others(masks: Float[Array, "*B N H W"]) -> Float[Array, "*B N H W"]:
    """Returns the union of all other objects for each object: the sum of their masks, at most 1."""
    return jnp.clip(masks.sum(axis=-3, keepdims=True) - masks, 0, 1)
