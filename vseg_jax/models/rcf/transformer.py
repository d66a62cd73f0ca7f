"""Transformer layers of DETR (Carion et al., ECCV 2020), post-norm, as MaskFormer has them.

Position codes are added to queries and keys, never to values. The attention's own weights are not
dropped in training, which the public layers do too.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from vseg_jax.layers.attention import MultiHeadAttention


class _Layer(nn.Module):
    """What both kinds of layers are built of.

    Attributes:
      heads: of the attention.
      hidden: width of the perceptron.
      dropout: of what each part adds.
      dtype: of the computation.
    """

    heads: int
    hidden: int
    dropout: float
    dtype: DTypeLike = jnp.float32

    def attend(
        self, name: str, query: Array, key: Array, value: Array, mask: Array | None = None
    ) -> Array:
        """Attention over as many channels as the tokens have."""
        module = MultiHeadAttention(self.heads, query.shape[-1], dtype=self.dtype, name=name)
        return module(query, key, value, mask=mask)

    def join(self, x: Array, more: Array, name: str, train: bool) -> Array:
        """The sum, normalized."""
        more = nn.Dropout(self.dropout)(more, deterministic=not train)
        return _norm(self.dtype, name)(x + more)

    def perceptron(self, x: Array, train: bool) -> Array:
        """Two layers at each token."""
        init = nn.initializers.xavier_uniform()
        y = nn.relu(nn.Dense(self.hidden, kernel_init=init, dtype=self.dtype, name="dense1")(x))
        y = nn.Dropout(self.dropout)(y, deterministic=not train)
        return nn.Dense(x.shape[-1], kernel_init=init, dtype=self.dtype, name="dense2")(y)


class EncoderLayer(_Layer):
    """Tokens look at one another."""

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B L C"],
        positions: Float[Array, "#B L C"],
        mask: Bool[Array, "B 1 L"] | None,
        *,
        train: bool,
    ) -> Float[Array, "B L C"]:
        """`mask` is False where nobody may look."""
        placed = x + positions
        x = self.join(x, self.attend("attention", placed, placed, x, mask), "norm1", train)
        return self.join(x, self.perceptron(x, train), "norm2", train)


class DecoderLayer(_Layer):
    """Queries look at one another, then at the tokens."""

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B N C"],
        queries: Float[Array, "#B N C"],
        tokens: Float[Array, "B L C"],
        positions: Float[Array, "#B L C"],
        mask: Bool[Array, "B 1 L"] | None,
        *,
        train: bool,
    ) -> Float[Array, "B N C"]:
        """`queries` are the position code of `x`."""
        placed = x + queries
        x = self.join(x, self.attend("self_attention", placed, placed, x), "norm1", train)
        seen = self.attend("cross_attention", x + queries, tokens + positions, tokens, mask)
        x = self.join(x, seen, "norm2", train)
        return self.join(x, self.perceptron(x, train), "norm3", train)


class Encoder(nn.Module):
    """Several encoder layers."""

    layers: int
    heads: int
    hidden: int
    dropout: float
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B L C"],
        positions: Float[Array, "#B L C"],
        mask: Bool[Array, "B 1 L"] | None,
        *,
        train: bool,
    ) -> Float[Array, "B L C"]:
        """The tokens after the last layer."""
        for number in range(self.layers):
            layer = EncoderLayer(
                self.heads, self.hidden, self.dropout, self.dtype, name=f"layer{number}"
            )
            x = layer(x, positions, mask, train=train)
        return x


class Decoder(nn.Module):
    """Several decoder layers over learned queries."""

    queries: int
    layers: int
    heads: int
    hidden: int
    dropout: float
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        tokens: Float[Array, "B L C"],
        positions: Float[Array, "#B L C"],
        mask: Bool[Array, "B 1 L"] | None,
        *,
        train: bool,
    ) -> Float[Array, "D B N C"]:
        """What each layer says of the queries, all through the same last norm."""
        channels = tokens.shape[-1]
        queries = self.param(
            "queries", nn.initializers.normal(1.0), (self.queries, channels)
        ).astype(self.dtype)[None]
        norm = _norm(self.dtype, "norm")
        x = jnp.zeros((tokens.shape[0], self.queries, channels), self.dtype)
        said = []
        for number in range(self.layers):
            layer = DecoderLayer(
                self.heads, self.hidden, self.dropout, self.dtype, name=f"layer{number}"
            )
            x = layer(x, queries, tokens, positions, mask, train=train)
            said.append(norm(x))
        return jnp.stack(said)


def _norm(dtype: DTypeLike, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(1e-5, use_fast_variance=False, dtype=dtype, name=name)
