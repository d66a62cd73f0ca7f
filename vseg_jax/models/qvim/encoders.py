"""Encoders of the clip and of the referring expression (Section 3.2, A.2)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, UInt8

from vseg_jax.backbones.i3d import I3D
from vseg_jax.backbones.resnet import ResNet
from vseg_jax.layers.normalization import imagenet_colors
from vseg_jax.models.qvim.config import SCALES, QvimConfig
from vseg_jax.text.bert import Bert
from vseg_jax.text.recurrent import Gru, WordEmbedding

# The last layer of each of I3D's five stages.
I3D_ENDS = ("conv_1a", "conv_2c", "mixed_3c", "mixed_4f", "mixed_5c")


class VisualEncoder(nn.Module):
    """Frames to K = 5 maps without a time axis, the largest first (Section 3.2).

    I3D reads colors in [-1, 1], as DeepMind's weights expect (inferred).
    """

    config: QvimConfig

    @nn.compact
    def __call__(
        self,
        frames: UInt8[Array, "B T H W 3"],
        target: Int[Array, " B"],
        *,
        train: bool,
        feedback: Callable[[int, jax.Array], jax.Array] | None = None,
    ) -> tuple[Float[Array, "B _ _ _"], ...]:
        """Encodes the clip; `feedback(k, stage)` replaces the input of I3D's stage k + 1."""
        c = self.config
        dtype = jnp.dtype(c.dtype)
        if c.backbone == "i3d":
            clip = 2 * (frames.astype(dtype) / 255) - 1
            network = I3D(SCALES, c.i3d_width, c.backbone_norm, c.i3d_eps, dtype, name="i3d")
            changes = {}
            if feedback is not None:
                ends = enumerate(I3D_ENDS, start=1)
                changes = {("i3d", name): functools.partial(feedback, k) for k, name in ends}
            with nn.intercept_methods(_changing(changes)):
                stages = network(clip, train=train)
        else:
            stages = self._per_frame(frames, dtype, train)
        return tuple(pool_time(s, target, frames.shape[1], c.temporal_pool) for s in stages)

    def _per_frame(
        self, frames: UInt8[Array, "B T H W 3"], dtype: DTypeLike, train: bool
    ) -> tuple[Float[Array, "B T _ _ _"], ...]:
        """Returns the ResNet's stem and four stages of every frame, with the time axis."""
        c = self.config
        images = imagenet_colors(frames.reshape(-1, *frames.shape[2:]), dtype)
        network = ResNet(
            int(c.backbone.removeprefix("resnet")), width=c.resnet_width, norm=c.backbone_norm,
            dtype=dtype, name="resnet",
        )
        stem = []

        def keep(x: jax.Array) -> jax.Array:
            stem.append(nn.relu(x))
            return x

        with nn.intercept_methods(_changing({("resnet", "norm1"): keep})):
            stages = network(images, train=train)
        return tuple(x.reshape(*frames.shape[:2], *x.shape[1:]) for x in (*stem, *stages))


def _changing(
    changes: Mapping[tuple[str, str], Callable[[jax.Array], jax.Array]],
) -> Callable[..., Any]:
    """Returns a flax interceptor that applies the function under (parent, name) to the output of
    that layer."""

    def interceptor(call: Any, arguments: Any, keywords: Any, context: Any) -> Any:
        out = call(*arguments, **keywords)
        change = changes.get(context.module.path[-2:])
        return out if change is None or context.method_name != "__call__" else change(out)

    return interceptor


def pool_time(
    stage: Float[Array, "B S H W C"], target: Int[Array, " B"], length: int, how: str
) -> Float[Array, "B H W C"]:
    """Pools the S maps that a stage makes of `length` frames: their mean, or the target's map."""
    if how == "mean":
        return stage.mean(axis=1)
    index = (target * stage.shape[1]) // length
    return jnp.take_along_axis(stage, index[:, None, None, None, None], axis=1)[:, 0]


class TextEncoder(nn.Module):
    """Tokens to word features Q and the query vector q.

    Q is BERT's output (or a learned embedding) in C channels, zero for padding; q is the state of a
    GRU after the last word ("q is the RNN output from Q", Section 3.2).
    """

    config: QvimConfig

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "B L"], valid: Bool[Array, "B L"], *, train: bool
    ) -> tuple[Float[Array, "B L C"], Float[Array, "B C"]]:
        c = self.config
        dtype = jnp.dtype(c.dtype)
        if c.text == "bert":
            words, _ = Bert(c.bert, dtype, name="bert")(tokens, valid, train=train)
        else:
            words = WordEmbedding(c.vocabulary, c.word_width, dtype, name="embedding")(tokens)
        # Words are initialized larger than features: U of Eq. 7 is a mean over the words, and a
        # color is one of about six. With the usual initialization the expression has no effect for
        # hundreds of steps (inferred).
        large = nn.initializers.variance_scaling(25.0, "fan_in", "normal")
        words = nn.Dense(c.channels, dtype=dtype, kernel_init=large, name="project")(words)
        words = jnp.where(valid[..., None], words, 0)
        # Large inputs close the gates of a GRU at random, and q would depend on little but the last
        # word. With this memory q is initially a mean over the words (inferred).
        _, query = Gru(c.channels, dtype, memory=0.8, name="gru")(words, valid)
        return words, query
