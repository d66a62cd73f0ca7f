"""The network: encoders of two streams and of the query, transformer, decoder."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from vseg_jax.layers.precision import at_least_float32
from vseg_jax.layers.resize import bilinear
from vseg_jax.models.mmvt.alignment import Align, Embeddings
from vseg_jax.models.mmvt.config import LEVELS, STRIDE, MmvtConfig
from vseg_jax.models.mmvt.encoders import Aspp, Merge, Place, Stream, TextEncoder, Words
from vseg_jax.models.mmvt.fusion import CoarseMask, Fused, Head, Level
from vseg_jax.models.mmvt.transformer import Mixed, StagedTransformer, Transformer, at


class Query(NamedTuple):
    """An encoded referring expression; its first word is the sentence embedding.

    Attributes:
      words: features in the width of the text encoder.
      valid: which words exist.
    """

    words: Float[Array, "B L C"]
    valid: Bool[Array, "B L"]


class Output(NamedTuple):
    """The results of one forward pass; jit removes the unused ones.

    Attributes:
      logits: the predicted logits, at the size of the input.
      coarse: the logits of the first stage at stride 16, if there is one.
      embeddings: for the alignment losses of the public code, if they are on.
      mixed: tokens of the whole clip.
      valid: which words exist.
    """

    logits: Float[Array, "B H W"]
    coarse: Float[Array, "B h w"] | None
    embeddings: Embeddings | None
    mixed: Mixed
    valid: Bool[Array, "B L"]


Maps = tuple[Float[Array, "B T _ _ _"], ...]  # of a stream, at strides 4, 8, 16 and 16


class Network(nn.Module):
    """Frames, flow pictures and a referring expression to the mask of the target frame."""

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
        self.words = Words(c.channels, c.sentence_norm == "own", dtype)
        if c.transformer:
            transformer = StagedTransformer if c.staged else Transformer
            self.mix = transformer(
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
        """Encodes the expression and segments the target frames.

        `flow` is None if the config has no motion stream.
        """
        query = self.encode_query(tokens, tokens_valid, train=train)
        return self(frames, flow, target, query, train=train)

    def encode_query(
        self, tokens: Int[Array, "B L"], valid: Bool[Array, "B L"], *, train: bool = False
    ) -> Query:
        """Encodes the expression; a stream does this once."""
        return Query(*self.text(tokens, valid, train=train))

    def __call__(
        self,
        frames: UInt8[Array, "B T H W 3"],
        flow: UInt8[Array, "B T H W 3"] | None,
        target: Int[Array, " B"],
        query: Query,
        *,
        train: bool,
    ) -> Output:
        """Segments the frame at position `target` of each clip.

        Raises:
          ValueError: the sides of the frames are not multiples of 16.
        """
        if any(side % STRIDE for side in frames.shape[2:4]):
            raise ValueError(
                f"mmvt got pictures of {frames.shape[2]} x {frames.shape[3]}; take a height and a "
                f"width that {STRIDE} divides"
            )
        if not self.config.transformer:  # then nothing reads the other frames
            frames = at(frames, target)[:, None]
            flow = None if flow is None else at(flow, target)[:, None]
            target = jnp.zeros_like(target)
        vision_maps = self._encode(self.vision, frames, train=train)
        flow_maps = None if flow is None else self._encode(self.flow, flow, train=train)
        return self.predict_from_maps(
            vision_maps, flow_maps, target, query, frames.shape[2:4], train=train
        )

    def predict_from_maps(
        self,
        vision_maps: Maps,
        flow_maps: Maps | None,
        target: Int[Array, " B"],
        query: Query,
        size: tuple[int, int],
        *,
        train: bool,
    ) -> Output:
        """Predicts the mask at `size` from the two streams' four maps and the encoded query."""
        words = self.words(query.words, train=train)
        vision = _tokens(vision_maps[-1], self.vision_aspp, self.vision_place, train=train)
        flow = None
        if flow_maps is not None:
            flow = _tokens(flow_maps[-1], self.flow_aspp, self.flow_place, train=train)
        coarse = None
        if self.config.coarse_mask:
            coarse = self.coarse(at(vision, target), words, query.valid)
        mixed = self._mix(words, query.valid, vision, flow, target, train=train)
        fused = self._decode(vision_maps, flow_maps, target, words, query.valid, mixed.out)
        logits = _resize(self.head(fused[-1].out, train=train), size)
        if coarse is not None:
            coarse = at_least_float32(coarse)
            logits += _resize(coarse, size)
        embeddings = None
        if self.config.align == "official":
            embeddings = self.align(
                tuple(f.vision for f in fused),
                None if flow_maps is None else tuple(f.flow for f in fused),
                query.words[:, 0],
            )
        return Output(logits, coarse, embeddings, mixed, query.valid)

    def _encode(self, stream: Stream, pictures: jax.Array, *, train: bool) -> Maps:
        """Returns the maps of a stream for all pictures [B, T, ...]."""
        maps = stream(pictures.reshape(-1, *pictures.shape[2:]), train=train)
        return tuple(x.reshape(*pictures.shape[:2], *x.shape[1:]) for x in maps)

    def _mix(
        self,
        words: Float[Array, "B L C"],
        valid: Bool[Array, "B L"],
        vision: Float[Array, "B T h w C"],
        flow: Float[Array, "B T h w C"] | None,
        target: Int[Array, " B"],
        *,
        train: bool,
    ) -> Mixed:
        """Mixes the tokens of words, frames and flow."""
        if self.config.transformer:
            return self.mix(words, valid, vision, flow, target, train=train)
        out = self.merge(
            at(vision, target), None if flow is None else at(flow, target), words[:, 0]
        )
        words = jnp.broadcast_to(words[:, None], (*vision.shape[:2], *words.shape[1:]))
        return Mixed(words, vision, vision, flow, out)

    def _decode(
        self,
        vision_maps: Maps,
        flow_maps: Maps | None,
        target: Int[Array, " B"],
        words: Float[Array, "B L C"],
        valid: Bool[Array, "B L"],
        below: Float[Array, "B h w C"],
    ) -> list[Fused]:
        """Returns the results of the three levels, coarse to fine."""
        fused = []
        for number, level in enumerate(self.levels):
            vision = at(vision_maps[2 - number], target)
            flow = None if flow_maps is None else at(flow_maps[2 - number], target)
            fused.append(level(vision, flow, words, valid, below))
            below = fused[-1].out
        return fused


def _tokens(
    x: Float[Array, "B T h w C"], aspp: Aspp, place: Place, *, train: bool
) -> Float[Array, "B T h w D"]:
    """Returns the tokens of a stream's coarsest maps."""
    flat = place(aspp(x.reshape(-1, *x.shape[2:]), train=train))
    return flat.reshape(*x.shape[:2], *flat.shape[1:])


def _resize(logits: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Returns logits [B, h, w] at another size, in at least float32."""
    logits = at_least_float32(logits)[..., None]
    return bilinear(logits, size, align_corners=False)[..., 0]
