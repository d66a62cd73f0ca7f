"""Lipschitz constants of the network (Section VI): upper bounds, and constants of real frames.

docs/papers/rcf.md lists the equation of each function, and where the paper's misprints are
corrected.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def linear_bound(weight: Float[np.ndarray, "O I"], p: float) -> float:
    """Returns the Lipschitz constant of x -> weight x in the p-norm (Section VI-A).

    For p = inf the paper prints max_ij sum_j |W_ij|; the norm is the largest row sum.

    Raises:
      ValueError: p is not 1, 2 or inf.
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
    """Returns the Lipschitz constant of a convolution with stride 1 and zero padding.

    For p = 2 it is that on maps of `size`; for 1 and inf that of a map without edges, which is an
    upper bound.
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
    """Estimates the largest singular value of x -> linear(weight, x) by power iteration."""

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
    """Returns a bound of one self-attention head in the 2-norm, for tokens of norm up to `radius`.

    On unbounded inputs there is no bound (Section VI-B, Kim et al. 2021). This one is ours: with
    A = K^T Q and attention P, the differential of row i is sum_j P_ij V dx_j + V sum_j dP_ij x_j.
    The first part is at most sqrt(L) |V| |dx| over all rows. As dP_ij = P_ij (ds_ij - mean_i ds),
    the second is at most 2 R |V| sum_j P_ij |ds_ij|, with |ds_ij| <= |A| R (|dx_i| + |dx_j|) /
    sqrt(D).
    """
    scores = np.linalg.norm(key.T @ query, 2) / math.sqrt(query.shape[0])
    root = math.sqrt(tokens)
    return float(np.linalg.norm(value, 2) * (root + 2 * radius**2 * scores * (1 + root)))


def product_bound(params: Mapping[str, Any], p: float = 2) -> float:
    """Returns log10 of Corollary 1: the product of the Lipschitz constants of all kernels.

    Norms, softmax and residual connections are assumed to be 1-Lipschitz, as in the paper, so this
    is the paper's quantity and not a bound of the actual network. It has hundreds of digits, hence
    the logarithm.

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
    """Returns |Theta(I_t) - Theta(I_t-1)|_p / |I_t - I_t-1|_p of two frames (Eq. 5, 8)."""
    change, step = (
        np.linalg.norm((np.asarray(a, np.float64) - b).ravel(), p) for a, b in (outputs, inputs)
    )
    if not step:
        raise ValueError("both frames are the same, so the constant is undefined")
    return float(change / step)


def order_constant(
    before: Float[np.ndarray, "N D"], after: Float[np.ndarray, "N D"],
    inputs: tuple[np.ndarray, np.ndarray], p: float, fired: Iterable[int],
) -> float:
    """Returns Delta_c / epsilon_c: the least local constant at which the slots' order could change.

    The paper does not define the change; here two fired slots swap (inferred).

    Args:
      before: each slot's output for a frame: its class probabilities and mask in one row.
      after: the same for the next frame.
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
        raise ValueError("at least two slots must have an object for their order to change")
    return min(constants)
