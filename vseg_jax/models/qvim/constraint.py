"""L_const, the constraint on augmented data (Section 3.3, Eq. 6).

A sentence and the augmented features that it points to are to stay close: InfoNCE between the
query vector and p^k, the pooled features of the scale where QFA acts, against keys of other videos
from a queue (moco.py).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vseg_jax.losses.contrast import info_nce
from vseg_jax.models.base import Batch
from vseg_jax.models.qvim import moco, qfa
from vseg_jax.models.qvim.config import QvimConfig
from vseg_jax.models.qvim.network import (
    Output,
    Perturbations,
    Place,
    pool,
    pooling_weights,
    query_scores,
)


def init(config: QvimConfig, key: jax.Array, params: Any) -> tuple[Any, moco.Moco]:
    """The parameters of the two heads, and the queue with its momentum encoder."""
    keys = jax.random.split(key, 3)
    vector = jnp.zeros((1, config.channels))
    heads = {
        "query": _head(config).init(keys[0], vector)["params"],
        "visual": _head(config).init(keys[1], vector)["params"],
    }
    encoder = _key_encoder(config, {**params, "contrast": heads})
    return heads, moco.init(keys[2], config.queue, config.contrast_dim, encoder)


def loss(
    config: QvimConfig,
    params: Any,
    state: moco.Moco,
    batch: Batch,
    output: Output,
    perturb: Perturbations | None,
    step: Int[Array, ""],
) -> tuple[Float[Array, " B"], Float[Array, " B"], moco.Moco]:
    """Eq. 6 of each sample, which of them count (1 or 0), and the next state of the queue.

    The momentum encoder follows first, then makes this batch's keys; they enter the queue after
    the loss, so a sample meets its own batch as negatives only where `const_batch_negatives` says.
    """
    state = jax.lax.stop_gradient(state)
    head, heads = _head(config), params["contrast"]
    query = head.apply({"params": heads["query"]}, output.query)
    pooled = output.pooled[config.contrast_scale - 1]
    encoder = moco.follow(state["momentum"], _key_encoder(config, params), config.momentum)
    to_encode = pooled
    if config.moco_scope == "qvim":
        to_encode = _momentum_pooled(config, encoder["place"], output, perturb)
    keys = jax.lax.stop_gradient(head.apply({"params": encoder["visual"]}, to_encode))
    positive = keys
    if config.pos_key == "online":
        positive = head.apply({"params": heads["visual"]}, pooled)
    allowed = moco.negatives(state, batch["video"], config.mask_same_video)
    negatives = state["queue"]
    if config.const_batch_negatives:
        others = (batch["video"][:, None] != batch["video"]) & batch["valid"]
        negatives = jnp.concatenate([negatives, positive])
        allowed = jnp.concatenate([allowed, others], axis=1)
    each = info_nce(query, positive, negatives, allowed, config.contrast_temperature)
    on = batch["valid"] & (config.const_from_start | qfa.schedule(step, config)[0])
    state = moco.enqueue({**state, "momentum": encoder}, keys, batch["video"], batch["valid"])
    return jnp.where(on, each, 0), on.astype(jnp.float32), state


def _head(config: QvimConfig) -> moco.Projection:
    return moco.Projection(config.channels, config.contrast_dim)


def _key_encoder(config: QvimConfig, params: Any) -> Any:
    """What the momentum encoder copies."""
    encoder = {"visual": params["contrast"]["visual"]}
    if config.moco_scope == "qvim":
        encoder["place"] = params[f"qvim_{config.contrast_scale}"]["place"]
    return encoder


def _momentum_pooled(
    config: QvimConfig, place: Any, output: Output, perturb: Perturbations | None
) -> Float[Array, "B C"]:
    """p of L_const's scale through the momentum copy of position and self-attention."""
    k = config.contrast_scale
    visual, query = jax.lax.stop_gradient((output.visual[k - 1], output.query))
    y = Place(config).apply({"params": place}, visual)
    weights = pooling_weights(query_scores(y, query), config.att_norm)
    if perturb is not None:
        y = perturb.features(k, y, weights, query)
    return pool(y, weights if config.qgap else None)
