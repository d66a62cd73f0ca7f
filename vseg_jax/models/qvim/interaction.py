"""The query-vision interaction module of one scale (Section 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vseg_jax.backbones.hooks import Change, unchanged
from vseg_jax.layers.attention import attention
from vseg_jax.layers.convolution import Conv1x1
from vseg_jax.layers.coordinates import append_coordinates
from vseg_jax.layers.resize import area
from vseg_jax.models.qvim.config import QvimConfig
from vseg_jax.models.qvim.qfa import peak, relative


class Query(NamedTuple):
    """An encoded referring expression.

    Attributes:
      words: the word features Q.
      valid: which words exist.
      vector: the feature q of the whole expression.
    """

    words: Float[Array, "B L C"]
    valid: Bool[Array, "B L"]
    vector: Float[Array, "B C"]


class Perturbations(NamedTuple):
    """The changes that training makes to the features of scale k (1 ... 5); the identity each.

    Attributes:
      features: (k, Y [B H W C], its pooling weights [B H W], q [B C]) -> Y.
      attention: (k, the attention over the words [B HW L], which words exist [B L]) -> attention.
      visual: (k, V^k [B H W D]) -> V^k, before the interaction reads it.
      words: (k, Q [B L C], which words exist [B L]) -> Q, as scale k reads it.
      backbone: (place, features [B S H W D]) -> the features with which the backbone continues; see
        `encoders.method_places`.
    """

    features: Callable[[int, jax.Array, jax.Array, jax.Array], jax.Array] = lambda k, y, a, q: y
    attention: Callable[[int, jax.Array, jax.Array], jax.Array] = lambda k, c, words: c
    visual: Callable[[int, jax.Array], jax.Array] = lambda k, v: v
    words: Callable[[int, jax.Array, jax.Array], jax.Array] = lambda k, words, valid: words
    backbone: Change = unchanged


class Interaction(nn.Module):
    """Query-vision interaction module (QVIM) of scale k.

    Y = self-attention over pixels with position features; Z = Y highlighted where the query points
    (QGAP); U = the words that each pixel attends to (Eq. 7); out = Z + ReLU(Conv1x1([Z; U])). How
    Z and U are combined is inferred.
    """

    config: QvimConfig
    scale: int

    def setup(self):
        c = self.config
        dtype = jnp.dtype(c.dtype)
        self.place = Place(c)
        if c.qgap:
            self.share = nn.Dense(c.channels, dtype=dtype)
        if c.cross_attention:
            self.words = WordAttention(c)
        self.merge = Conv1x1(c.channels, dtype=dtype)

    def __call__(
        self, visual: Float[Array, "B H W D"], query: Query, perturb: Perturbations | None
    ) -> tuple[
        Float[Array, "B H W C"], Float[Array, "B C"], Float[Array, "B H W"],
        Float[Array, "B P L"] | None,
    ]:
        """Returns the scale's features, p^k, a^k and C_k (see `network.Output`)."""
        c = self.config
        y, pooling = self.attend(visual, query.vector)
        if perturb is not None:
            y = perturb.features(self.scale, y, pooling, query.vector)
        pooled = pool(y, pooling if c.qgap else None)
        z = y
        if c.qgap:
            z = y * (1 + highlight(pooling.astype(y.dtype), c.highlight)[..., None])
            z += self.share(pooled)[:, None, None]
        if not c.cross_attention:
            return z + nn.relu(self.merge(z)), pooled, pooling, None
        weights = self.words(y, query)
        if perturb is not None:
            weights = perturb.attention(self.scale, weights, query.valid)
        attended = (weights.astype(y.dtype) @ query.words).reshape(z.shape)
        out = z + nn.relu(self.merge(jnp.concatenate([z, attended], axis=-1)))
        return out, pooled, pooling, weights

    def attend(
        self, visual: Float[Array, "B H W D"], query: Float[Array, "B C"]
    ) -> tuple[Float[Array, "B H W C"], Float[Array, "B H W"]]:
        """Returns Y, and the weights a that the query gives its pixels."""
        y = self.place(visual)
        return y, pooling_weights(query_scores(y, query), self.config.att_norm)


class Place(nn.Module):
    """Position and self-attention: X = ReLU(Conv1x1([V; S])), Y = X + attention(X) over pixels."""

    config: QvimConfig

    @nn.compact
    def __call__(self, visual: Float[Array, "B H W D"]) -> Float[Array, "B H W C"]:
        c = self.config
        dtype = jnp.dtype(c.dtype)
        x = append_coordinates(visual)
        x = nn.relu(Conv1x1(c.channels, dtype=dtype, name="position")(x))

        def project(x: jax.Array, name: str) -> jax.Array:
            x = Conv1x1(c.channels, use_bias=False, dtype=dtype, name=name)(x)
            return x.reshape(x.shape[0], -1, 1, c.channels)

        keys, chunk = x, c.sa_chunk
        if c.sa_kv_max is not None:
            size = min(x.shape[1], c.sa_kv_max), min(x.shape[2], c.sa_kv_max)
            keys, chunk = area(x, size), None
        attended = attention(
            project(x, "query"), project(keys, "key"), project(keys, "value"), chunk=chunk
        )
        return x + attended.reshape(x.shape)


class WordAttention(nn.Module):
    """Eq. 7: C_k = softmax over the words of ReLU(W (V_k Q^T)); missing words get 0.

    Where W stands is inferred (`ca_w`). Eq. 7 does not divide by sqrt(C), so the attention is sharp
    at the start: each pixel attends to one word, and learning starts much sooner than from a soft
    mean.
    """

    config: QvimConfig

    @nn.compact
    def __call__(self, y: Float[Array, "B H W C"], query: Query) -> Float[Array, "B P L"]:
        c = self.config
        words = query.words
        pixels = y.reshape(y.shape[0], -1, c.channels)
        if c.ca_w == "bilinear":
            words = nn.Dense(c.channels, use_bias=False, dtype=y.dtype, name="w")(words)
        scores = jnp.einsum("bpc,blc->bpl", pixels, words)
        if c.ca_w == "words":
            if words.shape[1] != c.max_words:
                raise ValueError(
                    f"ca_w 'words' was built for {c.max_words} words, got {words.shape[1]}; set "
                    "max_words to the length of the text"
                )
            scores = nn.Dense(c.max_words, use_bias=False, dtype=y.dtype, name="w")(scores)
        valid = query.valid[:, None]
        scores = nn.relu(scores).astype(jnp.float32)
        weights = jax.nn.softmax(jnp.where(valid, scores, jnp.finfo(jnp.float32).min))
        return jnp.where(valid, weights, 0)


def query_scores(y: Float[Array, "B H W C"], query: Float[Array, "B C"]) -> Float[Array, "B H W"]:
    """Computes <v_ij, q> / sqrt(C) of Section 3.2 in float32; the division is inferred."""
    scores = jnp.einsum("bhwc,bc->bhw", y.astype(jnp.float32), query.astype(jnp.float32))
    return scores * y.shape[-1] ** -0.5


def pooling_weights(scores: Float[Array, "B H W"], how: str) -> Float[Array, "B H W"]:
    """Computes a_ij of Section 3.2, which sum to 1 over the map.

    As printed, a_ij = <v_ij, q> / sum <v_i'j', q> divides by a sum that can vanish. "softmax"
    assumes that an exp was lost; "linear" keeps the fraction, over relu(<v, q>). Both are inferred.
    """
    if how == "softmax":
        return jax.nn.softmax(scores, axis=(1, 2))
    positive = nn.relu(scores) + 1e-6
    return positive / positive.sum((1, 2), keepdims=True)


def highlight(weights: Float[Array, "B H W"], how: str) -> Float[Array, "B H W"]:
    """Scales pooling weights to the A of QGAP's factor 1 + A; both scales are inferred.

    "mean": their mean is 1, so maps of every size keep the same mean factor, but the peak grows up
    to the number of pixels. "peak": their peak is 1, so the factor is at most 2.
    """
    return peak(weights) if how == "peak" else relative(weights)


def pool(
    y: Float[Array, "B H W C"], weights: Float[Array, "B H W"] | None
) -> Float[Array, "B C"]:
    """Returns the weighted sum over pixels in float32; without weights (no QGAP) the plain mean."""
    if weights is None:
        return y.astype(jnp.float32).mean((1, 2))
    return jnp.einsum("bhwc,bhw->bc", y.astype(jnp.float32), weights)
