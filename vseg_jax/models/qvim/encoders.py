"""Clip and sentence to what the query-vision interaction works on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from vseg_jax.backbones.i3d import I3D
from vseg_jax.backbones.resnet import ResNet
from vseg_jax.layers.normalization import imagenet_colors
from vseg_jax.models.qvim.config import SCALES, QvimConfig
from vseg_jax.text.bert import Bert
from vseg_jax.text.recurrent import Gru, WordEmbedding

# The layer of I3D that puts out each of its five stages.
I3D_ENDS = ("conv_1a", "conv_2c", "mixed_3c", "mixed_4f", "mixed_5c")


class VisualEncoder(nn.Module):
    """Frames to K = 5 maps without a time axis, the largest first (Section 3.2)."""

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
        """`feedback(k, stage)` replaces what I3D's stage k hands on to the next one."""
        c = self.config
        dtype = jnp.dtype(c.dtype)
        if c.backbone == "i3d":
            clip = frames.astype(dtype) / 255
            if c.i3d_input == "signed":
                clip = 2 * clip - 1
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

    def _per_frame(self, frames, dtype, train):
        """ResNet's stem and four stages of every frame, the time axis put back."""
        c = self.config
        images = imagenet_colors(frames.reshape(-1, *frames.shape[2:]), dtype)
        network = ResNet(
            int(c.backbone.removeprefix("resnet")), width=c.resnet_width, norm=c.backbone_norm,
            dtype=dtype, name="resnet",
        )
        stem = []

        def keep(x):
            stem.append(nn.relu(x))
            return x

        with nn.intercept_methods(_changing({("resnet", "norm1"): keep})):
            stages = network(images, train=train)
        return tuple(x.reshape(*frames.shape[:2], *x.shape[1:]) for x in (*stem, *stages))


def _changing(changes: Mapping[tuple[str, str], Callable[[jax.Array], jax.Array]]):
    """A linen interceptor: the function under (parent, name) is applied to that layer's output."""

    def interceptor(call, arguments, keywords, context):
        out = call(*arguments, **keywords)
        change = changes.get(context.module.path[-2:])
        return out if change is None or context.method_name != "__call__" else change(out)

    return interceptor


def pool_time(
    stage: Float[Array, "B S H W C"], target: Int[Array, " B"], length: int, how: str
) -> Float[Array, "B H W C"]:
    """One map of the S that a stage has left of `length` frames: their mean, or the target's."""
    if how == "mean":
        return stage.mean(axis=1)
    index = (target * stage.shape[1]) // length
    return jnp.take_along_axis(stage, index[:, None, None, None, None], axis=1)[:, 0]


class TextEncoder(nn.Module):
    """Tokens to word features Q and the query vector q.

    Q is BERT's output (or a learned embedding) in C channels, zero where there is no word; q is the
    state of a GRU after the last word ("q is the RNN output from Q", Section 3.2).
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
        # Words start larger than features: U of Eq. 7 is a mean over them, and a color is one of
        # six. With the usual start a sentence is not heard for hundreds of steps (inferred).
        loud = nn.initializers.variance_scaling(25.0, "fan_in", "normal")
        words = nn.Dense(c.channels, dtype=dtype, kernel_init=loud, name="project")(words)
        words = jnp.where(valid[..., None], words, 0)
        # Loud words shut a GRU's gates at random, and q would know little but the last word; with
        # this memory it starts as a mean over the words (inferred).
        _, query = Gru(c.channels, dtype, memory=0.8, name="gru")(words, valid)
        return words, query
