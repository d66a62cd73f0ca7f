"""The network of Section 3.2: encoders, one query-vision interaction a scale, decoder.

The domain generalization of Sections 3.3 and 3.4 is no part of it: training hands in functions
(`Perturbations`) that are called where QFA, AM-AdaIN and the compared methods stand, and inference
hands in none, so nothing of them is in its trace. Only RobustNet's instance normalization stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from vseg_jax.layers.attention import attention
from vseg_jax.layers.convolution import Conv1x1, he_normal
from vseg_jax.layers.coordinates import append_coordinates
from vseg_jax.layers.normalization import BatchNorm
from vseg_jax.layers.resize import area, bilinear
from vseg_jax.models.qvim.config import SCALES, ComparedConfig, QvimConfig
from vseg_jax.models.qvim.encoders import TextEncoder, VisualEncoder, pool_time
from vseg_jax.models.qvim.whitening import instance_norm


class Perturbations(NamedTuple):
    """What training does to the features of scale k (1 ... 5), and what makes pure inference None.

    Attributes:
      features: (k, Y [B H W C], its pooling weights [B H W], q [B C]) -> Y.
      attention: (k, the words' attention map [B HW L], which words there are [B L]) -> the map.
      visual: (k, V^k [B H W D]) -> V^k, before anything is made of it.
      words: (k, Q [B L C], which words there are [B L]) -> Q, as scale k is given it.
    """

    features: Callable[[int, jax.Array, jax.Array, jax.Array], jax.Array] = lambda k, y, a, q: y
    attention: Callable[[int, jax.Array, jax.Array], jax.Array] = lambda k, c, words: c
    visual: Callable[[int, jax.Array], jax.Array] = lambda k, v: v
    words: Callable[[int, jax.Array, jax.Array], jax.Array] = lambda k, words, valid: words


class Output(NamedTuple):
    """Named results of one forward pass; what nobody reads, jit prunes.

    Attributes:
      logits: answer at the input's size.
      responses: maps s^1 ... s^K before the sigmoid, and the fused one last where `fuse` is "conv".
      pooled: p^k, the query-weighted mean of each scale's (perturbed) features; the plain mean
        without QGAP.
      pooling: a^k, each scale's weights over its pixels; they sum to 1.
      words: each scale's attention C_k over the words, as the network uses it; None without.
      visual: the backbone's maps V^k, as each scale is given them (a compared method may have
        changed them).
      query: q.
      sentences: the word features Q, as each scale is given them.
    """

    logits: Float[Array, "B H W"]
    responses: tuple[Float[Array, "B _ _"], ...]
    pooled: tuple[Float[Array, "B C"], ...]
    pooling: tuple[Float[Array, "B _ _"], ...]
    words: tuple[Float[Array, "B _ L"] | None, ...]
    visual: tuple[Float[Array, "B _ _ _"], ...]
    query: Float[Array, "B C"]
    sentences: tuple[Float[Array, "B L C"], ...] = ()


class Query(NamedTuple):
    """A sentence, encoded: word features, which of them exist, and the vector of the whole."""

    words: Float[Array, "B L C"]
    valid: Bool[Array, "B L"]
    vector: Float[Array, "B C"]


class Network(nn.Module):
    """Clip and sentence to the target frame's mask."""

    config: QvimConfig

    def setup(self):
        self.visual = VisualEncoder(self.config)
        self.text = TextEncoder(self.config)
        self.scales = [Interaction(self.config, k, name=f"qvim_{k}") for k in range(1, SCALES + 1)]
        self.decoder = Decoder(self.config)
        if self.config.qvim_feedback:
            self.feedback = [Feedback(name=f"feedback_{k}") for k in range(1, SCALES)]

    def encode_query(
        self, tokens: Int[Array, "B L"], valid: Bool[Array, "B L"], *, train: bool = False
    ) -> Query:
        """The sentence's part of the work, which a stream does once."""
        words, vector = self.text(tokens, valid, train=train)
        return Query(words, valid, vector)

    def __call__(
        self,
        frames: UInt8[Array, "B T H W 3"],
        target: Int[Array, " B"],
        query: Query,
        *,
        train: bool,
        perturb: Perturbations | None = None,
    ) -> Output:
        """Segments the frame at position `target` of each clip."""
        maps, sentences, seen = [], [], []

        def interact(k: int, visual: jax.Array) -> jax.Array:
            visual, asked = given(self.config.compared, k, visual, query, perturb)
            maps.append(visual)
            sentences.append(asked.words)
            seen.append(self.scales[k - 1](visual, asked, perturb))
            return seen[-1][0]

        def feed(k: int, stage: jax.Array) -> jax.Array:
            visual = pool_time(stage, target, frames.shape[1], self.config.temporal_pool)
            features = interact(k, visual)
            return stage if k == SCALES else self.feedback[k - 1](stage, features)

        if self.config.qvim_feedback:
            self.visual(frames, target, train=train, feedback=feed)
        else:
            for k, visual in enumerate(self.visual(frames, target, train=train), start=1):
                interact(k, visual)
        features, pooled, pooling, words = zip(*seen, strict=True)
        logits, responses = self.decoder(features, frames.shape[2:4], train=train)
        return Output(
            logits, responses, pooled, pooling, words, tuple(maps), query.vector, tuple(sentences)
        )

    def encode_frames(
        self, frames: UInt8[Array, "B T H W 3"], target: Int[Array, " B"]
    ) -> tuple[Float[Array, "B _ _ _"], ...]:
        """The maps V^k as inference sees them, before any compared method."""
        return self.visual(frames, target, train=False)

    def full(
        self,
        frames: UInt8[Array, "B T H W 3"],
        target: Int[Array, " B"],
        tokens: Int[Array, "B L"],
        valid: Bool[Array, "B L"],
        *,
        train: bool,
        perturb: Perturbations | None = None,
    ) -> Output:
        """Both parts in one call."""
        query = self.encode_query(tokens, valid, train=train)
        return self(frames, target, query, train=train, perturb=perturb)


def given(
    compared: ComparedConfig,
    k: int,
    visual: Float[Array, "B H W D"],
    query: Query,
    perturb: Perturbations | None,
) -> tuple[Float[Array, "B H W D"], Query]:
    """What the interaction of scale k is given: the encoders' features, or what a compared method
    leaves of them. q, a single vector without statistics of its own, stays as it is (inferred)."""
    if compared.normalizes and k in compared.scales:
        if compared.visual:
            visual = instance_norm(visual)
        if compared.text:
            query = query._replace(words=instance_norm(query.words, query.valid))
    if perturb is not None:
        visual = perturb.visual(k, visual)
        query = query._replace(words=perturb.words(k, query.words, query.valid))
    return visual, query


class Interaction(nn.Module):
    """Query-vision interaction module (QVIM) of scale k.

    Y = self-attention over pixels that know where they are; Z = Y highlighted where the query
    points (QGAP); U = the words each pixel attends to (Eq. 7); out = Z + ReLU(Conv1x1([Z; U])).
    How Z and U are put together is inferred.
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
        """Returns the scale's features, p^k, a^k and C_k (`Output`)."""
        c = self.config
        y, pooling = self.attend(visual, query.vector)
        if perturb is not None:
            y = perturb.features(self.scale, y, pooling, query.vector)
        pooled = pool(y, pooling if c.qgap else None)
        z = y
        if c.qgap:
            pixels = pooling.shape[1] * pooling.shape[2]
            z = y * (1 + pixels * pooling.astype(y.dtype)[..., None])
            z += self.share(pooled)[:, None, None]
        if not c.cross_attention:
            return z + nn.relu(self.merge(z)), pooled, pooling, None
        weights = self.words(y, query)
        if perturb is not None:
            weights = perturb.attention(self.scale, weights, query.valid)
        spoken = (weights.astype(y.dtype) @ query.words).reshape(z.shape)
        out = z + nn.relu(self.merge(jnp.concatenate([z, spoken], axis=-1)))
        return out, pooled, pooling, weights

    def attend(
        self, visual: Float[Array, "B H W D"], query: Float[Array, "B C"]
    ) -> tuple[Float[Array, "B H W C"], Float[Array, "B H W"]]:
        """Y, and the weights a that the query gives its pixels."""
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

        def project(x, name):
            x = Conv1x1(c.channels, use_bias=False, dtype=dtype, name=name)(x)
            return x.reshape(x.shape[0], -1, 1, c.channels)

        few, chunk = x, c.sa_chunk
        if c.sa_kv_max is not None:
            size = min(x.shape[1], c.sa_kv_max), min(x.shape[2], c.sa_kv_max)
            few, chunk = area(x, size), None
        seen = attention(
            project(x, "query"), project(few, "key"), project(few, "value"), chunk=chunk
        )
        return x + seen.reshape(x.shape)


class Feedback(nn.Module):
    """Adds a scale's features to every frame of its backbone stage, as CSTM does; inferred."""

    @nn.compact
    def __call__(
        self, stage: Float[Array, "B T H W D"], features: Float[Array, "B H W C"]
    ) -> Float[Array, "B T H W D"]:
        back = Conv1x1(stage.shape[-1], dtype=stage.dtype, name="project")(features)
        return stage + back[:, None]


class WordAttention(nn.Module):
    """Eq. 7: C_k = softmax over the words of ReLU(W (V_k Q^T)); words that are not there get 0.

    Where W stands is inferred (`ca_w`). Eq. 7 does not divide by sqrt(C), so the attention starts
    sharp: each pixel hears one word, and learning begins much sooner than from a soft mean.
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


class Decoder(nn.Module):
    """Coarse to fine, with a response map at every scale (Section 3.2; the layers are CSTM's).

    F_5 = V_5; F_k = ConvBNReLU3x3([up(F_{k+1}); V_k]); s_k = conv3x3, conv3x3, conv1x1 of F_k.
    """

    config: QvimConfig

    @nn.compact
    def __call__(
        self,
        features: tuple[Float[Array, "B _ _ C"], ...],
        size: tuple[int, int],
        *,
        train: bool,
    ) -> tuple[Float[Array, "B H W"], tuple[Float[Array, "B _ _"], ...]]:
        """Returns the answer's logits at `size`, and the maps of all scales, largest first."""
        c = self.config
        dtype = jnp.dtype(c.dtype)

        def conv(width, name, bias=True):
            return nn.Conv(
                width, (3, 3), use_bias=bias, dtype=dtype, kernel_init=he_normal, name=name
            )

        responses: list[jax.Array] = []
        x = None
        for k in range(SCALES, 0, -1):
            width, here = c.decoder_channels[k - 1], features[k - 1]
            if x is None:
                x = here
            else:
                above = bilinear(x, here.shape[1:3], align_corners=c.align_corners)
                x = conv(width, f"conv_{k}", bias=False)(jnp.concatenate([above, here], axis=-1))
                x = nn.relu(BatchNorm("batch", dtype=dtype, name=f"norm_{k}")(x, train=train))
            head = nn.relu(conv(width, f"head_{k}_a")(x))
            head = nn.relu(conv(width, f"head_{k}_b")(head))
            response = nn.Dense(1, dtype=dtype, name=f"head_{k}_c")(head)
            responses.insert(0, response.astype(jnp.float32))
        finest = responses[0].shape[1:3]
        if c.fuse == "conv":
            stack = [bilinear(r, finest, align_corners=c.align_corners) for r in responses]
            fused = conv(1, "fuse")(jnp.concatenate(stack, axis=-1)).astype(jnp.float32)
            responses.append(fused)
        prediction = responses[-1] if c.fuse == "conv" else responses[0]
        logits = bilinear(prediction, size, align_corners=False)[..., 0]
        return logits, tuple(r[..., 0] for r in responses)


def query_scores(y: Float[Array, "B H W C"], query: Float[Array, "B C"]) -> Float[Array, "B H W"]:
    """<v_ij, q> / sqrt(C) of Section 3.2, in float32; the division is inferred."""
    scores = jnp.einsum("bhwc,bc->bhw", y.astype(jnp.float32), query.astype(jnp.float32))
    return scores * y.shape[-1] ** -0.5


def pooling_weights(scores: Float[Array, "B H W"], how: str) -> Float[Array, "B H W"]:
    """a_ij of Section 3.2, which sum to 1 over the map.

    As printed, a_ij = <v_ij, q> / sum <v_i'j', q> divides by a sum that can vanish. "softmax" reads
    an exp into it that was lost; "linear" keeps the fraction over relu(<v, q>). Both inferred.
    """
    if how == "softmax":
        return jax.nn.softmax(scores, axis=(1, 2))
    positive = nn.relu(scores) + 1e-6
    return positive / positive.sum((1, 2), keepdims=True)


def pool(
    y: Float[Array, "B H W C"], weights: Float[Array, "B H W"] | None
) -> Float[Array, "B C"]:
    """The weighted sum over pixels, in float32; the plain mean without weights (no QGAP)."""
    if weights is None:
        return y.astype(jnp.float32).mean((1, 2))
    return jnp.einsum("bhwc,bhw->bc", y.astype(jnp.float32), weights)
