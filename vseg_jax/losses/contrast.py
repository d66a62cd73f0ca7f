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
    """Computes InfoNCE: -log softmax of the positive among the positive and the negatives.

    Args:
      queries: unit vectors.
      positives: unit vectors.
      negatives: unit vectors.
      negatives_valid: which of the N shared negatives count for which query; the others are left
        out of the denominator.
      temperature: tau.

    Source: van den Oord et al., 2018; with a shared queue of negatives, MoCo (He et al., 2020).
    """
    positive = (queries * positives).sum(-1, keepdims=True) / temperature
    negative = queries @ negatives.T / temperature
    negative = jnp.where(negatives_valid, negative, -jnp.inf)
    logits = jnp.concatenate([positive, negative], axis=-1).astype(jnp.float32)
    return jax.nn.logsumexp(logits, axis=-1) - logits[:, 0]


def info_nce_each(
    queries: Float[Array, "B D"],
    positives: Float[Array, "B P D"],
    positives_valid: Bool[Array, "B P"],
    negatives: Float[Array, "B N D"],
    negatives_valid: Bool[Array, "B N"],
    temperature: float,
) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
    """Computes the mean InfoNCE over several positives per query, against the query's negatives.

    The denominator of a positive holds the positive itself and the negatives, no other positive.

    Args:
      queries: unit vectors.
      positives: unit vectors.
      negatives: unit vectors.
      positives_valid: which of the positives exist; the others have no influence.
      negatives_valid: the same for the negatives.
      temperature: tau.

    Returns:
      loss: 0 for a query without a positive.
      counted: 1 for queries that have one, else 0.

    Source: the form of SupCon (Khosla et al., 2020) with the sum over positives outside the
    logarithm and denominators without other positives. CVLS contrasts a sentence with the instances
    of a clip in this way (inferred: its Eq. 2 is lost).
    """
    positive = jnp.einsum("bd,bpd->bp", queries, positives) / temperature
    negative = jnp.einsum("bd,bnd->bn", queries, negatives) / temperature
    negative = jnp.where(negatives_valid, negative, -jnp.inf)
    negative = jnp.broadcast_to(negative[:, None], (*positive.shape, negative.shape[-1]))
    logits = jnp.concatenate([positive[..., None], negative], axis=-1).astype(jnp.float32)
    each = jax.nn.logsumexp(logits, axis=-1) - logits[..., 0]
    count = positives_valid.sum(-1)
    loss = jnp.where(positives_valid, each, 0).sum(-1) / jnp.maximum(count, 1)
    return loss, (count > 0).astype(jnp.float32)
