"""Transformer layers of DETR (Carion et al., ECCV 2020), post-norm, as in MaskFormer.

Position codes are added to queries and keys, never to values. Unlike in the public layers, there is
no dropout on attention weights.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from vseg_jax.layers.attention import MultiHeadAttention


class _Layer(nn.Module):
    """The common parts of encoder and decoder layers.

    Attributes:
      heads: of the attention.
      hidden: width of the MLP.
      dropout: rate on each residual branch.
      dtype: of the computation.
    """

    heads: int
    hidden: int
    dropout: float
    dtype: DTypeLike = jnp.float32

    def attend(
        self, name: str, query: Array, key: Array, value: Array, mask: Array | None = None
    ) -> Array:
        """Computes multi-head attention with as many channels as the queries have."""
        module = MultiHeadAttention(self.heads, query.shape[-1], dtype=self.dtype, name=name)
        return module(query, key, value, mask=mask)

    def add_and_norm(self, x: Array, branch: Array, name: str, train: bool) -> Array:
        """Adds a residual branch, after dropout, and normalizes."""
        branch = nn.Dropout(self.dropout)(branch, deterministic=not train)
        return _norm(self.dtype, name)(x + branch)

    def mlp(self, x: Array, train: bool) -> Array:
        """Applies the two-layer MLP to each token."""
        init = nn.initializers.xavier_uniform()
        y = nn.relu(nn.Dense(self.hidden, kernel_init=init, dtype=self.dtype, name="dense1")(x))
        y = nn.Dropout(self.dropout)(y, deterministic=not train)
        return nn.Dense(x.shape[-1], kernel_init=init, dtype=self.dtype, name="dense2")(y)


class EncoderLayer(_Layer):
    """Self-attention and an MLP."""

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B L C"],
        positions: Float[Array, "#B L C"],
        mask: Bool[Array, "B 1 L"] | None,
        *,
        train: bool,
    ) -> Float[Array, "B L C"]:
        """Returns the new tokens; `mask` is False for tokens that must not be attended to."""
        positioned = x + positions
        attended = self.attend("attention", positioned, positioned, x, mask)
        x = self.add_and_norm(x, attended, "norm1", train)
        return self.add_and_norm(x, self.mlp(x, train), "norm2", train)


class DecoderLayer(_Layer):
    """Self-attention of the queries, cross-attention to the tokens, and an MLP."""

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
        """Returns the new `x`; `queries` are its position codes."""
        positioned = x + queries
        attended = self.attend("self_attention", positioned, positioned, x)
        x = self.add_and_norm(x, attended, "norm1", train)
        attended = self.attend("cross_attention", x + queries, tokens + positions, tokens, mask)
        x = self.add_and_norm(x, attended, "norm2", train)
        return self.add_and_norm(x, self.mlp(x, train), "norm3", train)


class Encoder(nn.Module):
    """A stack of encoder layers."""

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
        """Returns the tokens after the last layer."""
        for number in range(self.layers):
            layer = EncoderLayer(
                self.heads, self.hidden, self.dropout, self.dtype, name=f"layer{number}"
            )
            x = layer(x, positions, mask, train=train)
        return x


class Decoder(nn.Module):
    """A stack of decoder layers over learned queries."""

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
        """Returns each layer's output for the queries, after the same final norm."""
        channels = tokens.shape[-1]
        queries = self.param(
            "queries", nn.initializers.normal(1.0), (self.queries, channels)
        ).astype(self.dtype)[None]
        norm = _norm(self.dtype, "norm")
        x = jnp.zeros((tokens.shape[0], self.queries, channels), self.dtype)
        outputs = []
        for number in range(self.layers):
            layer = DecoderLayer(
                self.heads, self.hidden, self.dropout, self.dtype, name=f"layer{number}"
            )
            x = layer(x, queries, tokens, positions, mask, train=train)
            outputs.append(norm(x))
        return jnp.stack(outputs)


def _norm(dtype: DTypeLike, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(1e-5, use_fast_variance=False, dtype=dtype, name=name)
