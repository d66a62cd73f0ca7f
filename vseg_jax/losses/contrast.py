"""Contrastive losses between embeddings."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def info_nce(
    queries: Float[Array, "B D"],
    positives: Float[Array, "B D"],
    negatives: Float[Array, "N D"],
    negatives_valid: Bool[Array, "B N"],
    temperature: float,
) -> Float[Array, " B"]:
    """InfoNCE of each query: -log softmax of its positive among the positive and its negatives.

    Args:
      queries, positives, negatives: unit vectors.
      negatives_valid: which of the N shared negatives count for which query; one that does not
        count leaves the denominator as if it were not there.
      temperature: tau.

    Source: van den Oord et al., 2018; with a shared queue of negatives, MoCo (He et al., 2020).
    """
    positive = (queries * positives).sum(-1, keepdims=True) / temperature
    negative = queries @ negatives.T / temperature
    negative = jnp.where(negatives_valid, negative, -jnp.inf)
    logits = jnp.concatenate([positive, negative], axis=-1).astype(jnp.float32)
    return jax.nn.logsumexp(logits, axis=-1) - logits[:, 0]
