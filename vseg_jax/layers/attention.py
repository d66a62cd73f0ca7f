"""Multi-head attention that never holds large score maps of all heads at once on a CPU.

Accelerators use `jax.nn.dot_product_attention`. On a CPU, unless the maps are small, samples and
heads are mapped over, one score map at a time, which is four times faster there
(benchmarks/README.md).
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

# Scores up to which a CPU holds all maps at once: mapping over samples would cost more.
_SMALL = 1 << 21


def attention(
    query: Float[Array, "B Q N D"],
    key: Float[Array, "B K N D"],
    value: Float[Array, "B K N E"],
    *,
    mask: Bool[Array, "B #Q K"] | None = None,
    chunk: int | None = None,
) -> Float[Array, "B Q N E"]:
    """Computes softmax(query key^T / sqrt(D)) value for N heads.

    Args:
      query: Q query positions; D is the width of a head.
      key: K key positions.
      value: the keys' values.
      mask: True where a query may attend to a key. A query that may attend to no key gets the plain
        mean of all values (finite; the caller has to mask it).
      chunk: largest number of queries at a time; the result is exact, with memory for only
        `chunk` x K scores, forward and backward (the backward pass computes them again).
    """
    if chunk is not None and chunk < query.shape[1]:
        return _chunked(query, key, value, mask, chunk)
    if jax.default_backend() != "cpu" and key.shape[-1] == value.shape[-1]:
        heads = None if mask is None else jnp.broadcast_to(
            mask[:, None], (mask.shape[0], 1, query.shape[1], key.shape[1])
        )
        return jax.nn.dot_product_attention(query, key, value, mask=heads)
    if query.shape[0] * query.shape[2] * query.shape[1] * key.shape[1] <= _SMALL:
        return _at_once(query, key, value, mask)
    return _head_by_head(query, key, value, mask)


def _at_once(query: Array, key: Array, value: Array, mask: Array | None) -> Array:
    """Computes all score maps at once."""
    q, k, v = (jnp.moveaxis(x, 2, 1) for x in (query, key, value))
    scores = (q * q.shape[-1] ** -0.5) @ jnp.swapaxes(k, -1, -2)
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    if mask is not None:
        scores = jnp.where(mask[:, None], scores, jnp.finfo(scores.dtype).min)
    return jnp.moveaxis(jax.nn.softmax(scores).astype(v.dtype) @ v, 1, 2)


def _head_by_head(query: Array, key: Array, value: Array, mask: Array | None) -> Array:
    """Computes one sample and head at a time, in products of plain matrices."""
    batch, _, heads, _ = query.shape

    @jax.checkpoint  # otherwise the backward pass would keep every score map
    def one(inputs: tuple[Array, ...]) -> Array:
        i, q, k, v = inputs
        # Scaling the queries costs Q x D, scaling the scores would cost Q x K.
        scores = (q * q.shape[-1] ** -0.5) @ k.T
        scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
        if mask is not None:
            scores = jnp.where(mask[i // heads], scores, jnp.finfo(scores.dtype).min)
        return jax.nn.softmax(scores).astype(v.dtype) @ v

    def flat(x: Array) -> Array:
        return jnp.moveaxis(x, 2, 1).reshape(batch * heads, x.shape[1], x.shape[3])

    inputs = jnp.arange(batch * heads), flat(query), flat(key), flat(value)
    out = one(tuple(x[0] for x in inputs))[None] if batch * heads == 1 else jax.lax.map(one, inputs)
    return jnp.moveaxis(out.reshape(batch, heads, *out.shape[1:]), 1, 2)


def _chunked(query: Array, key: Array, value: Array, mask: Array | None, chunk: int) -> Array:
    """Computes attention for `chunk` queries at a time."""
    batch, count, heads, _ = query.shape
    pieces = -(-count // chunk)
    padding = pieces * chunk - count

    def split(x: Array) -> Array:
        x = jnp.pad(x, [(0, 0), (0, padding)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(x.shape[0], pieces, chunk, *x.shape[2:]), 1, 0)

    if mask is None or mask.shape[1] == 1:
        def piece(q: Array) -> Array:
            return attention(q, key, value, mask=mask)
        out = jax.lax.map(jax.checkpoint(piece), split(query))
    else:
        def masked_piece(q_and_mask: tuple[Array, Array]) -> Array:
            return attention(q_and_mask[0], key, value, mask=q_and_mask[1])
        out = jax.lax.map(jax.checkpoint(masked_piece), (split(query), split(mask)))
    out = jnp.moveaxis(out, 0, 1).reshape(batch, pieces * chunk, heads, value.shape[-1])
    return out[:, :count]


class MultiHeadAttention(nn.Module):
    """Attention with its four projections: `query`, `key`, `value`, `out`.

    Attributes:
      heads: number of heads; must divide `features`.
      features: width of the projections and of the result.
      chunk: see `attention`.
      dtype: of the computation; parameters stay float32.
    """

    heads: int
    features: int
    chunk: int | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        query: Float[Array, "B Q C"],
        key: Float[Array, "B K D"],
        value: Float[Array, "B K E"] | None = None,
        *,
        mask: Bool[Array, "B #Q K"] | None = None,
    ) -> Float[Array, "B Q F"]:
        """Attends; `value` defaults to `key` (position codes are often added to the keys alone)."""
        if self.features % self.heads:
            raise ValueError(f"heads is {self.heads}; it must divide features, {self.features}")

        def project(x: Array, name: str) -> Array:
            x = nn.Dense(self.features, dtype=self.dtype, name=name)(x)
            return x.reshape(*x.shape[:-1], self.heads, self.features // self.heads)

        out = attention(
            project(query, "query"),
            project(key, "key"),
            project(key if value is None else value, "value"),
            mask=mask,
            chunk=self.chunk,
        )
        out = out.reshape(*out.shape[:-2], self.features)
        return nn.Dense(self.features, dtype=self.dtype, name="out")(out)
