"""The paper's analyses: fired slots, attention, latency, the value of audio.

Functions of a model's variables, predictions or evaluations; docs/papers/rcf.md lists the figure or
table of each one.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy import stats

from vseg_jax.models.base import Batch, Variables
from vseg_jax.models.rcf.model import Rcf


def fired_slots(
    slots: Int[np.ndarray, " E"], categories: Int[np.ndarray, " E"], queries: int, count: int
) -> Float[np.ndarray, "K N"]:
    """Returns how often each slot fires for each category, normalized by category (Figure 9).

    Args:
      slots: of E events; in each of them a slot of a frame fired.
      categories: of the same events.
      queries: N.
      count: K, categories.

    Returns:
      Rows that sum to 1, or are 0 for categories that never occur.
    """
    table = np.zeros((count, queries))
    np.add.at(table, (categories, slots), 1)
    return table / np.maximum(table.sum(1, keepdims=True), 1)


def reference_attention(
    model: Rcf, variables: Variables, batch: Batch, layer: int = -1
) -> Float[Array, "B heads h w"]:
    """Returns how reference tokens attend to the target in an encoder layer (Figures 8 and 12).

    The maps are means over the tokens of all references. Each head's attention sums to 1 over all
    tokens, including those of the references, so a map of the target sums to less.

    Raises:
      ValueError: the model has no reference tokens in its encoder.
    """
    c = model.config
    if not c.references or c.fusion == "full_dec":
        raise ValueError(
            "this model's encoder does not fuse references with the target: references is "
            f"{c.references} and fusion is {c.fusion!r}"
        )
    name = f"layer{layer % c.encoder_layers}"
    network = model.network

    def is_query_or_key(module: Any, _: str) -> bool:
        return module.name in ("query", "key")

    pyramids = [
        network.apply(variables, batch["frames"][:, t], train=False, method="encode")
        for t in range(batch["frames"].shape[1])
    ]
    references = jnp.stack([p[-1] for p in pyramids[-2::-1]], axis=1)
    audio = valid = None
    if c.audio:
        audio = jnp.stack([
            network.apply(variables, batch["audio"][:, t], method="encode_audio")
            for t in range(len(pyramids))
        ], axis=1)
        valid = batch["audio_valid"]
    _, state = network.apply(
        variables, pyramids[-1], references, audio, valid, train=False,
        capture_intermediates=is_query_or_key,
    )
    heads = state["intermediates"]["fusion"]["encoder"][name]["attention"]
    query, key = (heads[part]["__call__"][0] for part in ("query", "key"))
    _, height, width, _ = pyramids[-1][-1].shape
    cells, count = height * width, c.token_size
    if c.fusion == "full_enc":
        count = c.references * height * width
    split = (*query.shape[:2], c.heads, -1)
    query, key = query.reshape(split)[:, cells : cells + count], key.reshape(split)
    scores = jnp.einsum("brhc,blhc->bhrl", query, key) / math.sqrt(query.shape[-1])
    if valid is not None:
        there = jnp.ones((valid.shape[0], cells + count), bool)
        scores = jnp.where(
            jnp.concatenate([there, valid], axis=1)[:, None, None], scores, -jnp.inf
        )
    weights = jax.nn.softmax(scores)[..., :cells].mean(2)
    return weights.reshape(*weights.shape[:2], height, width)


def online_latency(stream_fps: float, model_fps: float) -> float:
    """Returns the seconds from a frame's capture to its prediction: t_stream + t_model.

    Section IV-B1. For 6 and 23.9 frames/s the text gives 0.171 s, its formula and Table I 0.21 s.
    """
    return 1 / stream_fps + 1 / model_fps


def offline_latency(stream_fps: float, model_fps: float, frames: int) -> float:
    """Returns the latency of a model that waits for a clip: N_f (t_stream + t_model)."""
    return frames * online_latency(stream_fps, model_fps)


def audio_p_value(
    with_audio: Float[np.ndarray, " S"], without: Float[np.ndarray, " S"], threshold: float
) -> float:
    """Returns the p-value of a paired t-test between two models' IoU on the same S samples.

    Tables X and XII. The test is over the samples for which both models have an IoU above
    `threshold`. The paper does not say which t-test it uses (inferred).
    """
    kept = (with_audio > threshold) & (without > threshold)
    if kept.sum() < 2:
        raise ValueError(
            f"{kept.sum()} samples have an IoU above {threshold} for both models; a t-test needs 2"
        )
    return float(stats.ttest_rel(with_audio[kept], without[kept]).pvalue)
