"""The network: two streams and a sentence, transformer, decoder."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from vseg_jax.layers.normalization import BatchNorm
from vseg_jax.layers.resize import bilinear
from vseg_jax.models.mmvt.alignment import Align, Embeddings
from vseg_jax.models.mmvt.config import LEVELS, STRIDE, MmvtConfig
from vseg_jax.models.mmvt.encoders import Aspp, Place, Stream, TextEncoder, pointwise
from vseg_jax.models.mmvt.fusion import CoarseMask, Head, Level
from vseg_jax.models.mmvt.transformer import Transformer


class Sentence(NamedTuple):
    """An encoded sentence; the first word is the sentence as a whole.

    Attributes:
      words: in the width of the text encoder.
      valid: which words there are.
    """

    words: Float[Array, "B L C"]
    valid: Bool[Array, "B L"]


class Output(NamedTuple):
    """Named results of one forward pass; what nobody reads, jit prunes.

    Attributes:
      logits: the answer at the input's size.
      coarse: the first stage's logits at stride 16, where there is one.
      embeddings: for the alignment losses of the public code, where they are on.
      vision, flow, words: tokens as the transformer leaves them; without it, as it would get them.
      valid: which words there are.
    """

    logits: Float[Array, "B H W"]
    coarse: Float[Array, "B h w"] | None
    embeddings: Embeddings | None
    vision: Float[Array, "B T h w C"]
    flow: Float[Array, "B T h w C"] | None
    words: Float[Array, "B T L C"]
    valid: Bool[Array, "B L"]


class Network(nn.Module):
    """Frames, flow pictures and a sentence to the target frame's mask."""

    config: MmvtConfig

    def setup(self):
        c = self.config
        dtype = jnp.dtype(c.dtype)
        self.text = TextEncoder(c)
        self.vision = Stream(c.depth, c.width, c.backbone_norm, dtype)
        self.vision_aspp = Aspp(c.channels, c.aspp_rates, c.aspp_dropout, dtype)
        self.vision_place = Place(c.channels, dtype)
        if c.motion:
            self.flow = Stream(c.flow_depth, c.width, c.backbone_norm, dtype)
            self.flow_aspp = Aspp(c.channels, c.aspp_rates, c.aspp_dropout, dtype)
            self.flow_place = Place(c.channels, dtype)
        self.words = Words(c.channels, dtype)
        if c.transformer:
            self.mix = Transformer(
                c.layers, c.heads, c.head_width, c.hidden, c.dropout, c.bug_compat_mask, dtype
            )
        else:
            self.merge = Merge(c.channels, dtype)
        if c.coarse_mask:
            self.coarse = CoarseMask(dtype)
        self.levels = [Level(c) for _ in LEVELS]  # levels_0 at stride 16, levels_2 at 4
        self.head = Head(dtype)
        if c.align == "official":
            self.align = Align(c.align_channels, dtype)

    def full(
        self,
        frames: UInt8[Array, "B T H W 3"],
        flow: UInt8[Array, "B T H W 3"] | None,
        target: Int[Array, " B"],
        tokens: Int[Array, "B L"],
        tokens_valid: Bool[Array, "B L"],
        *,
        train: bool,
    ) -> Output:
        """The whole way; `flow` is None where the config has no motion stream."""
        sentence = self.encode_sentence(tokens, tokens_valid, train=train)
        return self(frames, flow, target, sentence, train=train)

    def encode_sentence(
        self, tokens: Int[Array, "B L"], valid: Bool[Array, "B L"], *, train: bool = False
    ) -> Sentence:
        """What does not depend on the frames."""
        return Sentence(*self.text(tokens, valid, train=train))

    def __call__(
        self,
        frames: UInt8[Array, "B T H W 3"],
        flow: UInt8[Array, "B T H W 3"] | None,
        target: Int[Array, " B"],
        sentence: Sentence,
        *,
        train: bool,
    ) -> Output:
        """The answer for the frame at position `target` of each clip.

        Raises:
          ValueError: pictures whose sides are no multiples of 16.
        """
        if any(side % STRIDE for side in frames.shape[2:4]):
            raise ValueError(
                f"mmvt got pictures of {frames.shape[2]} x {frames.shape[3]}; take a height and a "
                f"width that {STRIDE} divides"
            )
        if not self.config.transformer:  # nothing looks at the other frames
            frames = at(frames, target)[:, None]
            flow = None if flow is None else at(flow, target)[:, None]
            target = jnp.zeros_like(target)
        vision_maps = self.each(self.vision, frames, train=train)
        flow_maps = None if flow is None else self.each(self.flow, flow, train=train)
        return self.prediction(vision_maps, flow_maps, target, sentence, frames.shape[2:4],
                               train=train)

    def each(self, stream, pictures, *, train):
        """A stream's maps [B, T, ...] of all pictures."""
        maps = stream(pictures.reshape(-1, *pictures.shape[2:]), train=train)
        return tuple(x.reshape(*pictures.shape[:2], *x.shape[1:]) for x in maps)

    def prediction(
        self,
        vision_maps: tuple[Float[Array, "B T _ _ _"], ...],
        flow_maps: tuple[Float[Array, "B T _ _ _"], ...] | None,
        target: Int[Array, " B"],
        sentence: Sentence,
        size: tuple[int, int],
        *,
        train: bool,
    ) -> Output:
        """What follows the two streams: their four maps and the sentence to the mask of `size`."""
        c = self.config
        words = self.words(sentence.words, train=train)

        def tokens(x, aspp, place):
            flat = place(aspp(x.reshape(-1, *x.shape[2:]), train=train))
            return flat.reshape(*x.shape[:2], *flat.shape[1:])

        vision = tokens(vision_maps[-1], self.vision_aspp, self.vision_place)
        flow = None
        if flow_maps is not None:
            flow = tokens(flow_maps[-1], self.flow_aspp, self.flow_place)
        coarse = None
        if c.coarse_mask:
            coarse = self.coarse(at(vision, target), words, sentence.valid)
        if c.transformer:
            mixed, vision, flow = self.mix(words, sentence.valid, vision, flow, train=train)
            below = at(vision, target)
        else:
            mixed = jnp.broadcast_to(words[:, None], (*vision.shape[:2], *words.shape[1:]))
            below = self.merge(
                at(vision, target), None if flow is None else at(flow, target), words[:, 0]
            )
        fused = []
        for number, level in enumerate(self.levels):
            of_flow = None if flow_maps is None else at(flow_maps[2 - number], target)
            fused.append(level(
                at(vision_maps[2 - number], target), of_flow, words, sentence.valid, below
            ))
            below = fused[-1].out
        logits = self.head(below, train=train)
        logits = bilinear(_precise(logits)[..., None], size, align_corners=False)[..., 0]
        if coarse is not None:
            coarse = _precise(coarse)
            logits += bilinear(coarse[..., None], size, align_corners=False)[..., 0]
        embeddings = None
        if c.align == "official":
            embeddings = self.align(
                tuple(f.vision for f in fused),
                None if flow is None else tuple(f.flow for f in fused),
                sentence.words[:, 0],
            )
        return Output(logits, coarse, embeddings, vision, flow, mixed, sentence.valid)


class Words(nn.Module):
    """Words to the width of all tokens, normalized."""

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "B L C"], *, train: bool) -> Float[Array, "B L D"]:
        x = pointwise(x, self.features, self.dtype, "project")
        return BatchNorm(dtype=self.dtype, name="norm")(x, train=train)


class Merge(nn.Module):
    """The sentence at every pixel of the coarsest maps, in place of the transformer (inferred)."""

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        vision: Float[Array, "B H W C"],
        flow: Float[Array, "B H W C"] | None,
        sentence: Float[Array, "B C"],
    ) -> Float[Array, "B H W C"]:
        everywhere = jnp.broadcast_to(sentence[:, None, None], vision.shape)
        parts = [x for x in (vision, flow, everywhere) if x is not None]
        joined = jnp.concatenate(parts, axis=-1)
        return nn.relu(pointwise(joined, self.features, self.dtype, "join"))


def at(x: jax.Array, target: jax.Array) -> jax.Array:
    """[B, T, ...] at each sample's `target`."""
    return jnp.take_along_axis(x, target.reshape(-1, *(1,) * (x.ndim - 1)), axis=1)[:, 0]


def _precise(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
