"""The paper's analyses: fired slots, attention, Lipschitz constants, latency, the value of sound.

Pure functions over what a model, its variables or an evaluation give; docs/papers/rcf.md says which
figure, table or equation each one is, and where a misprint is mended.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
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
    """Figure 9: how often each slot fires for each category, normalized by category.

    Args:
      slots: of E events, in which a slot of a frame fired.
      categories: of the same events.
      queries: N.
      count: K, categories.

    Returns:
      rows that add up to 1, or are 0 for categories that were never seen.
    """
    table = np.zeros((count, queries))
    np.add.at(table, (categories, slots), 1)
    return table / np.maximum(table.sum(1, keepdims=True), 1)


def reference_attention(
    model: Rcf, variables: Variables, batch: Batch, layer: int = -1
) -> Float[Array, "B heads h w"]:
    """Figures 8 and 12: how reference tokens look at the target, in an encoder layer.

    The mean over the tokens of all references; each head's map adds up to 1 over all tokens, those
    of the references included.

    Raises:
      ValueError: the model has no reference tokens in its encoder.
    """
    c = model.config
    if not c.references or c.fusion == "full_dec":
        raise ValueError(
            "no references meet the target in this model's encoder; references is "
            f"{c.references}, fusion {c.fusion!r}"
        )
    name = f"layer{layer % c.encoder_layers}"
    network = model.network

    def kept(module: Any, _: str) -> bool:
        return module.name in ("query", "key")

    pyramids = [
        network.apply(variables, batch["frames"][:, t], train=False, method="encode")
        for t in range(batch["frames"].shape[1])
    ]
    references = jnp.stack([p[-1] for p in pyramids[-2::-1]], axis=1)
    audio = valid = None
    if c.audio:
        audio = jnp.stack([
            network.apply(variables, batch["audio"][:, t], method="hear")
            for t in range(len(pyramids))
        ], axis=1)
        valid = batch["audio_valid"]
    _, state = network.apply(
        variables, pyramids[-1], references, audio, valid, train=False,
        capture_intermediates=kept,
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


def linear_bound(weight: Float[np.ndarray, "O I"], p: float) -> float:
    """The Lipschitz constant of x -> weight x in the p-norm, p in {1, 2, inf} (Section VI-A).

    For p = inf the paper prints max_ij sum_j |W_ij|; the norm is the largest sum of a row.
    """
    weight = np.abs(weight) if p != 2 else weight
    if p == 1:
        return float(weight.sum(0).max())
    if p == math.inf:
        return float(weight.sum(1).max())
    if p != 2:
        raise ValueError(f"p is {p}; the norm is known for 1, 2 and inf")
    return float(_spectral_norm(jnp.matmul, weight, weight.shape[1:]))


def convolution_bound(
    kernel: Float[np.ndarray, "kh kw I O"], p: float, size: tuple[int, int] = (16, 16)
) -> float:
    """The same of a convolution of stride 1 with zero padding, for p = 2 on maps of `size`.

    For 1 and inf it is that of a map without edges, which is never less.
    """
    if p == 1:
        return float(np.abs(kernel).sum((0, 1, 3)).max())
    if p == math.inf:
        return float(np.abs(kernel).sum((0, 1, 2)).max())
    if p != 2:
        raise ValueError(f"p is {p}; the norm is known for 1, 2 and inf")

    return float(_spectral_norm(_convolve, kernel, (*size, kernel.shape[2])))


def _convolve(kernel: Array, x: Array) -> Array:
    return jax.lax.conv_general_dilated(
        x[None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )[0]


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def _spectral_norm(
    linear: Callable[[Array, Array], Array], weight: Array, shape: tuple[int, ...],
    steps: int = 100,
) -> Array:
    """The largest singular value of x -> linear(weight, x), from below: the power iteration."""

    def step(_: Any, x: Array) -> Array:
        y, back = jax.vjp(lambda x: linear(weight, x), x)
        x, = back(y)
        return x / jnp.maximum(jnp.linalg.norm(x), 1e-30)

    start = jax.random.normal(jax.random.key(0), shape)
    x = jax.lax.fori_loop(0, steps, step, start / jnp.linalg.norm(start))
    return jnp.linalg.norm(linear(weight, x))


def attention_bound(
    query: Float[np.ndarray, "D C"], key: Float[np.ndarray, "D C"],
    value: Float[np.ndarray, "D C"], radius: float, tokens: int,
) -> float:
    """A bound of one head of self-attention in the 2-norm, for tokens no longer than `radius`.

    Without a radius there is none (Section VI-B, Kim et al. 2021). Ours: with A = K^T Q and
    attention P, the differential of row i is sum_j P_ij V dx_j + V sum_j dP_ij x_j. The first
    part is at most sqrt(L) |V| |dx| over all rows. As dP_ij = P_ij (ds_ij - mean_i ds), the second
    is at most 2 R |V| sum_j P_ij |ds_ij| with |ds_ij| <= |A| R (|dx_i| + |dx_j|) / sqrt(D).
    """
    scores = np.linalg.norm(key.T @ query, 2) / math.sqrt(query.shape[0])
    root = math.sqrt(tokens)
    return float(np.linalg.norm(value, 2) * (root + 2 * radius**2 * scores * (1 + root)))


def product_bound(params: Mapping[str, Any], p: float = 2) -> float:
    """log10 of Corollary 1: the product of the constants of all kernels, on top of one another.

    Norms, softmax and skip connections are taken for 1-Lipschitz, as in the paper, so this is the
    paper's bound and none of the network as it is. It has some hundred digits, hence the logarithm.

    Args:
      params: a tree whose kernels are [in, out] or [height, width, in, out].
      p: 1, 2 or inf.
    """
    total = 0.0
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if getattr(path[-1], "key", None) != "kernel":
            continue
        leaf = np.asarray(leaf, np.float32)
        bound = linear_bound(leaf.T, p) if leaf.ndim == 2 else convolution_bound(leaf, p)
        total += math.log10(max(bound, 1e-30))
    return total


def local_constant(
    outputs: tuple[np.ndarray, np.ndarray], inputs: tuple[np.ndarray, np.ndarray], p: float
) -> float:
    """|Theta(I_t) - Theta(I_t-1)|_p / |I_t - I_t-1|_p of two frames (Eq. 5, 8)."""
    change, step = (
        np.linalg.norm((np.asarray(a, np.float64) - b).ravel(), p) for a, b in (outputs, inputs)
    )
    if not step:
        raise ValueError("both frames are the same; between them there is no constant")
    return float(change / step)


def order_constant(
    before: Float[np.ndarray, "N D"], after: Float[np.ndarray, "N D"],
    inputs: tuple[np.ndarray, np.ndarray], p: float, fired: Iterable[int],
) -> float:
    """Delta_c / epsilon_c: the least local constant with which the order of slots could change.

    Which change is meant is not said; here two fired slots change places (inferred).

    Args:
      before: what each slot says of a frame, its class probabilities and mask in one row.
      after: of the next frame.
      inputs: the two frames, normalized.
      p: of the norm.
      fired: slots that have an object; at least two.
    """
    fired, constants = list(fired), []
    for place, i in enumerate(fired):
        for j in fired[place + 1 :]:
            swapped = after.copy()
            swapped[[i, j]] = after[[j, i]]
            constants.append(local_constant((before, swapped), inputs, p))
    if not constants:
        raise ValueError("two slots must have an object before they can change places")
    return min(constants)


def online_latency(stream_fps: float, model_fps: float) -> float:
    """Seconds from a frame's capture to its answer: t_stream + t_model (Section IV-B1).

    The text has 0.171 s for 6 and 23.9 frames/s; its own formula and Table I say 0.21.
    """
    return 1 / stream_fps + 1 / model_fps


def offline_latency(stream_fps: float, model_fps: float, frames: int) -> float:
    """The same of a model that waits for a clip of `frames`: N_f (t_stream + t_model)."""
    return frames * online_latency(stream_fps, model_fps)


def audio_p_value(
    with_audio: Float[np.ndarray, " S"], without: Float[np.ndarray, " S"], threshold: float
) -> float:
    """Tables X and XII: the p-value of a t-test between two models' IoU on the same S samples.

    Over the samples that both models answer with an IoU above `threshold`, in pairs; which test
    the paper takes is not said (inferred).
    """
    kept = (with_audio > threshold) & (without > threshold)
    if kept.sum() < 2:
        raise ValueError(
            f"{kept.sum()} samples have an IoU above {threshold} in both; a t-test needs two"
        )
    return float(stats.ttest_rel(with_audio[kept], without[kept]).pvalue)
