"""The network of Section 3.2: encoders, one query-vision interaction per scale, decoder.

The domain generalization of Sections 3.3 and 3.4 is not part of it: training passes functions
(`Perturbations`) that are called at the places of QFA, AM-AdaIN and the compared methods. Inference
passes none, so its trace contains nothing of them. Only RobustNet's instance normalization remains.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
from jaxtyping import Array, Bool, Float, Int, UInt8

from vseg_jax.backbones.hooks import Change
from vseg_jax.layers.convolution import Conv1x1
from vseg_jax.models.qvim.config import SCALES, ComparedConfig, QvimConfig
from vseg_jax.models.qvim.decoder import Decoder
from vseg_jax.models.qvim.encoders import TextEncoder, VisualEncoder, pool_time
from vseg_jax.models.qvim.interaction import Interaction, Perturbations, Query
from vseg_jax.models.qvim.whitening import instance_norm


class Output(NamedTuple):
    """The results of one forward pass; jit removes the unused ones.

    Attributes:
      logits: the predicted logits, at the size of the input.
      responses: maps s^1 ... s^K before the sigmoid, and the fused one last where `fuse` is "conv".
      pooled: p^k, the query-weighted mean of each scale's (perturbed) features; the plain mean
        without QGAP.
      pooling: a^k, each scale's weights over its pixels, which sum to 1.
      attention: C_k, each scale's attention over the words as the network uses it; None without
        cross-attention.
      visual: the backbone's maps V^k as each scale reads them (a compared method may have changed
        them).
      query: q.
      words: the word features Q as each scale reads them.
      normalized: the instance-normalized visual features, by their place in the backbone or by the
        number of their scale; RobustNet's losses read them.
    """

    logits: Float[Array, "B H W"]
    responses: tuple[Float[Array, "B _ _"], ...]
    pooled: tuple[Float[Array, "B C"], ...]
    pooling: tuple[Float[Array, "B _ _"], ...]
    attention: tuple[Float[Array, "B _ L"] | None, ...]
    visual: tuple[Float[Array, "B _ _ _"], ...]
    query: Float[Array, "B C"]
    words: tuple[Float[Array, "B L C"], ...]
    normalized: dict[str, Float[Array, "B *N C"]]


class Network(nn.Module):
    """A clip and a referring expression to the mask of the target frame."""

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
        """Encodes the expression; a stream does this once."""
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
        maps, words, results = [], [], []
        normalized: dict[str, jax.Array] = {}
        change = self._backbone_change(normalized, perturb)

        def interact(k: int, visual: jax.Array) -> jax.Array:
            visual = self._normalize_scale(k, visual, normalized)
            visual, scale_query = scale_inputs(self.config.compared, k, visual, query, perturb)
            maps.append(visual)
            words.append(scale_query.words)
            results.append(self.scales[k - 1](visual, scale_query, perturb))
            return results[-1][0]

        def feed(k: int, stage: jax.Array) -> jax.Array:
            visual = pool_time(stage, target, frames.shape[1], self.config.temporal_pool)
            features = interact(k, visual)
            return stage if k == SCALES else self.feedback[k - 1](stage, features)

        if self.config.qvim_feedback:
            self.visual(frames, target, train=train, feedback=feed, change=change)
        else:
            stages = self.visual(frames, target, train=train, change=change)
            for k, visual in enumerate(stages, start=1):
                interact(k, visual)
        features, pooled, pooling, attention = zip(*results, strict=True)
        logits, responses = self.decoder(features, frames.shape[2:4], train=train)
        return Output(
            logits, responses, pooled, pooling, attention, tuple(maps), query.vector, tuple(words),
            normalized,
        )

    def normalized_features(
        self, frames: UInt8[Array, "B T H W 3"], target: Int[Array, " B"]
    ) -> dict[str, Float[Array, "B *N C"]]:
        """Returns `Output.normalized` of inference; it does not depend on the expression."""
        normalized: dict[str, jax.Array] = {}
        change = self._backbone_change(normalized, None)
        stages = self.visual(frames, target, train=False, change=change)
        for k, visual in enumerate(stages, start=1):
            self._normalize_scale(k, visual, normalized)
        return normalized

    def _backbone_change(
        self, normalized: dict[str, jax.Array], perturb: Perturbations | None
    ) -> Change | None:
        """Returns the change of a compared method inside the backbone; None if there is none."""
        compared = self.config.compared
        if perturb is None and not compared.normalizes:
            return None

        def change(place: str, x: jax.Array) -> jax.Array:
            if compared.normalizes:
                x = normalized[place] = instance_norm(x)
            return x if perturb is None else perturb.backbone(place, x)

        return change

    def _normalize_scale(
        self, k: int, visual: jax.Array, normalized: dict[str, jax.Array]
    ) -> jax.Array:
        """Returns the map that the interaction of scale k reads, normalized where it should be."""
        compared = self.config.compared
        if compared.normalizes and compared.at_interaction and k in compared.scales:
            visual = normalized[str(k)] = instance_norm(visual)
        return visual

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
        """Encodes the expression and segments the target frames."""
        query = self.encode_query(tokens, valid, train=train)
        return self(frames, target, query, train=train, perturb=perturb)


class Feedback(nn.Module):
    """Adds a scale's features to every frame of its backbone stage, as CSTM does; inferred."""

    @nn.compact
    def __call__(
        self, stage: Float[Array, "B T H W D"], features: Float[Array, "B H W C"]
    ) -> Float[Array, "B T H W D"]:
        back = Conv1x1(stage.shape[-1], dtype=stage.dtype, name="project")(features)
        return stage + back[:, None]


def scale_inputs(
    compared: ComparedConfig,
    k: int,
    visual: Float[Array, "B H W D"],
    query: Query,
    perturb: Perturbations | None,
) -> tuple[Float[Array, "B H W D"], Query]:
    """Returns the inputs of the interaction of scale k: the encoders' features, after the compared
    method if there is one. q, a single vector without statistics of its own, is never changed
    (inferred)."""
    if compared.normalizes and compared.text and k in compared.scales:
        query = query._replace(words=instance_norm(query.words, query.valid))
    if perturb is not None:
        visual = perturb.visual(k, visual)
        query = query._replace(words=perturb.words(k, query.words, query.valid))
    return visual, query
