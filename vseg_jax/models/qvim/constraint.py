"""The loss L_const, "constraint on augmented data" (Section 3.3, Eq. 6): heads and InfoNCE.

It keeps a query close to the augmented features that it points to. The query vector q is compared
with p^k, the pooled features of the scale where QFA acts (the positive key), and with keys of other
videos (the negatives). Where the negatives are kept between steps: moco.py.

The positive key and the negatives of one InfoNCE must come from the same encoder and be of about
the same age. Otherwise the loss can be lowered by telling the encoders apart, which says nothing
about videos. Two terms satisfy this: MoCo's (momentum key, queue), which has no gradient into the
visual features, and one within the batch (online keys of this step), which has.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vseg_jax.layers.projection import Projection
from vseg_jax.losses.contrast import info_nce
from vseg_jax.models.base import Batch
from vseg_jax.models.qvim import moco, qfa
from vseg_jax.models.qvim.config import QvimConfig
from vseg_jax.models.qvim.network import Output


def init(config: QvimConfig, key: jax.Array) -> tuple[Any, moco.Moco]:
    """Returns the parameters of the two heads, and the queue with its momentum encoder."""
    keys = jax.random.split(key, 3)
    vector = jnp.zeros((1, config.channels))
    heads = {
        "query": _head(config).init(keys[0], vector)["params"],
        "visual": _head(config).init(keys[1], vector)["params"],
    }
    encoder = {"visual": heads["visual"]}
    return heads, moco.init(keys[2], config.queue, config.contrast_dim, encoder)


def loss(
    config: QvimConfig,
    heads: Any,
    state: moco.Moco,
    batch: Batch,
    output: Output,
    step: Int[Array, ""],
) -> tuple[Float[Array, " B"], Float[Array, " B"], moco.Moco]:
    """Computes Eq. 6 for each sample, with the keys that `pos_key` names.

    The momentum encoder is updated first and then computes the momentum keys of this batch. They
    enter the queue after the loss.

    Args:
      heads: parameters of the heads, from `init`.
      state: the queue before this step.
      output: of the network in training.

    Returns:
      The loss of each sample, which of them count (1 or 0), and the next state of the queue.
    """
    state = jax.lax.stop_gradient(state)
    head = _head(config)
    query = head.apply({"params": heads["query"]}, output.query)
    pooled = output.pooled[config.contrast_scale - 1]
    encoder = moco.follow(state["momentum"], {"visual": heads["visual"]}, config.momentum)
    keys = jax.lax.stop_gradient(head.apply({"params": encoder["visual"]}, pooled))
    online = head.apply({"params": heads["visual"]}, pooled)
    queued = moco.negatives(state, batch["video"], config.mask_same_video)
    others = (batch["video"][:, None] != batch["video"]) & batch["valid"]

    def term(positive: jax.Array, negatives: jax.Array, allowed: jax.Array) -> jax.Array:
        return info_nce(query, positive, negatives, allowed, config.contrast_temperature)

    each = {
        "both": lambda: (term(keys, state["queue"], queued) + term(online, online, others)) / 2,
        "momentum": lambda: term(keys, state["queue"], queued),
        "batch": lambda: term(online, online, others),
        "online": lambda: term(online, state["queue"], queued),
    }[config.pos_key]()
    on = batch["valid"] & (config.const_from_start | qfa.warmed_up(step, config))
    state = moco.enqueue({**state, "momentum": encoder}, keys, batch["video"], batch["valid"])
    return jnp.where(on, each, 0), on.astype(jnp.float32), state


def _head(config: QvimConfig) -> Projection:
    return Projection(config.channels, config.contrast_dim)
