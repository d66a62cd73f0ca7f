"""RobustNet (Choi et al., CVPR 2021): instance normalization, and losses on covariances.

Features are also normalized at inference. In training the covariances between their channels are
pushed towards 0: all of them down to a margin (IRW, instance-relaxed whitening), or only those that
depend on color and sharpness (ISW, instance-selective whitening).

Source: github.com/shachoi/RobustNet, network/instance_whitening.py and cov_settings.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from vseg_jax.layers.precision import at_least_float32
from vseg_jax.models.qvim.styles import moments


def instance_norm(
    x: Float[Array, "B *N C"], present: Bool[Array, "B *N"] | None = None, eps: float = 1e-5
) -> Float[Array, "B *N C"]:
    """Normalizes each sample's channels to mean 0 and (biased) variance 1; absent places are 0."""
    wide = at_least_float32(x)
    mean, squares, count = moments(wide, present)
    out = (wide - mean) * jax.lax.rsqrt(squares / jnp.maximum(count, 1) + eps)
    return (out if present is None else jnp.where(present[..., None], out, 0)).astype(x.dtype)


def covariance(
    x: Float[Array, "B *N C"], present: Bool[Array, "B *N"] | None = None
) -> Float[Array, "B C C"]:
    """Computes sum x x^T / (N - 1) of normalized features, plus 1e-5 on the diagonal."""
    x = at_least_float32(x)
    count = x.size // (x.shape[0] * x.shape[-1])
    if present is not None:
        count = present.sum(tuple(range(1, present.ndim)))[:, None, None]
    x = x.reshape(x.shape[0], -1, x.shape[-1])
    products = jnp.einsum("bnc,bnd->bcd", x, x)
    return products / jnp.maximum(count - 1, 1) + 1e-5 * jnp.eye(x.shape[-1], dtype=x.dtype)


def whitening_loss(
    covariances: Float[Array, "B C C"], mask: Bool[Array, "C C"], margin: float = 0.0
) -> Float[Array, " B"]:
    """Returns the sum of the masked covariances' sizes beyond `margin`, per masked covariance."""
    total = (jnp.abs(covariances) * mask).sum((1, 2)) - margin
    return jnp.maximum(total / jnp.maximum(mask.sum(), 1), 0)


def upper(channels: int) -> Bool[np.ndarray, "C C"]:
    """Returns the mask of the covariances of two different channels, each once."""
    return np.triu(np.ones((channels, channels), bool), 1)


def relaxed_margin(channels: int, relax: float) -> float:
    """Returns IRW's margin: the number of covariances divided by `relax`, rounded down; 0: none."""
    return float(channels * (channels - 1) // 2 // relax) if relax else 0.0


def sensitivity(
    changed: Float[Array, "B *N C"], original: Float[Array, "B *N C"]
) -> Float[Array, "B C C"]:
    """Returns how much each covariance depends on the change of a picture.

    It is the (unbiased) variance of the covariances before and after; 0 on and below the diagonal.
    """
    apart = covariance(changed) - covariance(original)
    return jnp.square(apart) / 2 * upper(apart.shape[-1])


def sensitive(variance: Float[Array, "C C"], clusters: int) -> Bool[Array, "C C"]:
    """Returns ISW's mask: all but the lowest of `clusters` clusters of the variances.

    The clusters are those of exact one-dimensional k-means. The zeros on and below the diagonal are
    clustered too, as in the public code. Runs on the host.
    """

    def on_host(values: Any) -> np.ndarray:
        values = np.asarray(values)
        return (kmeans(values.ravel(), clusters) > 0).reshape(values.shape)

    shape = jax.ShapeDtypeStruct(variance.shape, bool)
    return jax.pure_callback(on_host, shape, variance)


def kmeans(values: Float[np.ndarray, " n"], clusters: int) -> Int[np.ndarray, " n"]:
    """Clusters values so that the sum of squared distances to the clusters' means is minimal.

    Exact, by dynamic programming over the sorted values: the last cluster of the first m values
    starts no earlier than that of fewer values, so each row takes O(n log n).

    Returns:
      The cluster of each value; 0 has the lowest mean.
    """
    order = np.argsort(values, kind="stable")
    x = np.asarray(values, np.float64)[order]
    x -= x.mean()
    sums = np.concatenate([[0.0], np.cumsum(x)]), np.concatenate([[0.0], np.cumsum(x**2)])

    def cost(first: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Returns the sum of squared distances of x[first:end] to their mean."""
        total = sums[0][end] - sums[0][first]
        return sums[1][end] - sums[1][first] - total**2 / (end - first)

    best = np.concatenate([[0.0], cost(np.zeros(len(x), int), np.arange(1, len(x) + 1))])
    firsts = []
    for _ in range(1, min(clusters, len(x))):
        best, first = _next_row(best, cost)
        firsts.append(first)
    labels, end = np.zeros(len(x), int), len(x)
    for cluster in range(len(firsts), 0, -1):
        first = firsts[cluster - 1][end - 1] if end else 0
        labels[first:end] = cluster
        end = first
    out = np.empty(len(x), int)
    out[order] = labels - labels.min(initial=len(x))
    return out


def _next_row(
    best: np.ndarray, cost: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Adds a cluster: the least cost of the first m values, and the start of the last cluster.

    Coarse values of m come first, then those between. Each searches only between the results of its
    two neighbors. NumPy computes a whole level at once.
    """
    n = len(best) - 1
    first, least = np.zeros(n, int), np.zeros(n + 1)
    step = 1 << (n.bit_length() - 1)
    while step:
        ends = np.arange(step - 1, n, 2 * step)  # index of the last value
        low = np.where(ends >= step, first[ends - step], 0)
        high = np.where(ends + step < n, first[np.minimum(ends + step, n - 1)], ends)
        high = np.minimum(high, ends)
        counts = high - low + 1
        starts = np.cumsum(counts) - counts
        tried = np.arange(counts.sum()) - np.repeat(starts - low, counts)
        costs = best[tried] + cost(tried, np.repeat(ends + 1, counts))
        least[ends + 1] = np.minimum.reduceat(costs, starts)
        hits = np.flatnonzero(costs == np.repeat(least[ends + 1], counts))
        owners = np.searchsorted(starts, hits, side="right") - 1
        _, one_each = np.unique(owners, return_index=True)
        first[ends] = tried[hits[one_each]]
        step //= 2
    return least, first
