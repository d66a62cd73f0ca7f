"""Encoders of frames, flow pictures and the referring expression."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, UInt8

from vseg_jax.backbones.resnet import BLOCKS, Block, ResNet
from vseg_jax.layers.convolution import Conv1x1, he_normal, torch_init
from vseg_jax.layers.coordinates import append_coordinates
from vseg_jax.layers.normalization import BatchNorm, Norm, imagenet_colors
from vseg_jax.models.mmvt.config import MmvtConfig
from vseg_jax.text.bert import Bert
from vseg_jax.text.recurrent import Gru, WordEmbedding


class Stream(nn.Module):
    """Pictures to maps at strides 4, 8, 16 and 16: a ResNet whose last stage is dilated.

    Bottlenecks are dilated as in torchvision. With basic blocks only the first convolution of the
    stage is dilated, by 2, as in the public code's own ResNet-34.
    """

    depth: int
    width: int
    norm: Norm
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, pictures: UInt8[Array, "B H W 3"], *, train: bool
    ) -> tuple[Float[Array, "B _ _ _"], ...]:
        """Encodes frames or flow pictures; both are normalized with ImageNet's statistics."""
        x = imagenet_colors(pictures, self.dtype)
        bottleneck = self.depth >= 50
        network = ResNet(
            self.depth, dilated=(False, False, bottleneck), stages=4 if bottleneck else 3,
            width=self.width, norm=self.norm, dtype=self.dtype, name="resnet",
        )
        maps = network(x, train=train)
        if bottleneck:
            return maps
        x = maps[-1]
        for number in range(BLOCKS[self.depth][3]):
            block = Block(
                8 * self.width, 1, 2 if number == 0 else 1, False, self.norm, self.dtype,
                name=f"layer4_{number}",
            )
            x = block(x, train=train)
        return *maps, x


class Aspp(nn.Module):
    """Atrous spatial pyramid pooling: 1x1, dilated 3x3 convolutions, and the mean of the map."""

    features: int
    rates: tuple[int, ...]
    dropout: float
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool) -> Float[Array, "B H W D"]:
        def finish(x: jax.Array, name: str) -> jax.Array:
            return nn.relu(BatchNorm(dtype=self.dtype, name=f"{name}_norm")(x, train=train))

        def pointwise(x: jax.Array, name: str) -> jax.Array:
            conv = Conv1x1(self.features, use_bias=False, dtype=self.dtype, name=name)
            return finish(conv(x), name)

        branches = [pointwise(x, "branch_0")]
        for number, rate in enumerate(self.rates, start=1):
            conv = nn.Conv(
                self.features, (3, 3), padding=rate, kernel_dilation=rate, use_bias=False,
                dtype=self.dtype, kernel_init=he_normal, name=f"branch_{number}",
            )
            branches.append(finish(conv(x), f"branch_{number}"))
        mean = pointwise(x.mean((1, 2), keepdims=True), "branch_mean")
        branches.append(jnp.broadcast_to(mean, branches[0].shape))
        x = pointwise(jnp.concatenate(branches, axis=-1), "join")
        return nn.Dropout(self.dropout, deterministic=not train)(x)


class Place(nn.Module):
    """Two convolutions of a map with appended coordinates."""

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W D"]:
        x = nn.relu(conv(append_coordinates(x), self.features, self.dtype, "conv1"))
        return pointwise(x, self.features, self.dtype, "conv2")


class TextEncoder(nn.Module):
    """Tokens to one feature each; the first is the sentence embedding.

    With BERT the first is [CLS], and padding has BERT's outputs too: it is attended to under
    `bug_compat_mask`, and counts in the statistics of the following norm, as in the public code.
    With a word embedding the first is the last state of a GRU, inserted before the words.
    """

    config: MmvtConfig

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "B L"], valid: Bool[Array, "B L"], *, train: bool
    ) -> tuple[Float[Array, "B M C"], Bool[Array, "B M"]]:
        c = self.config
        dtype = jnp.dtype(c.dtype)
        if c.text == "bert":
            return self._bert(tokens, valid, dtype, train), valid
        words = WordEmbedding(c.vocabulary, c.word_width, dtype, name="embedding")(tokens)
        # With this memory the GRU's state is initially a mean over the words, in which the last one
        # counts most (inferred). Without it, a state is mostly about its own word.
        memory = 0.8 if c.sentence == "last" else None
        states, sentence = Gru(c.word_width, dtype, memory=memory, name="gru")(words, valid)
        if c.sentence == "mean":
            count = jnp.maximum(valid.sum(1, keepdims=True), 1).astype(states.dtype)
            sentence = states.sum(1) / count
        words = jnp.concatenate([sentence[:, None], words], axis=1)
        return words, jnp.pad(valid, ((0, 0), (1, 0)), constant_values=True)

    def _bert(
        self, tokens: jax.Array, valid: jax.Array, dtype: DTypeLike, train: bool
    ) -> jax.Array:
        """Returns the output of the last layer, including padding, which `Bert` sets to zero."""
        last = f"layer_{self.config.bert.num_hidden_layers - 1}"
        kept = []

        def keep(call: Any, arguments: Any, keywords: Any, context: Any) -> Any:
            out = call(*arguments, **keywords)
            if context.module.name == last and context.method_name == "__call__":
                kept.append(out)
            return out

        with nn.intercept_methods(keep):
            Bert(self.config.bert, dtype, name="bert")(tokens, valid, train=train)
        return kept[-1]


class Words(nn.Module):
    """Words in the width of all tokens, normalized.

    Attributes:
      own_norm: whether the first one, which stands for the sentence, has a layer norm of its own in
        place of the words' batch norm.
    """

    features: int
    own_norm: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "B L C"], *, train: bool) -> Float[Array, "B L D"]:
        x = pointwise(x, self.features, self.dtype, "project")
        norm = BatchNorm(dtype=self.dtype, name="norm")
        if not self.own_norm:
            return norm(x, train=train)
        own = nn.LayerNorm(1e-5, use_fast_variance=False, dtype=self.dtype, name="sentence_norm")
        return jnp.concatenate([own(x[:, :1]), norm(x[:, 1:], train=train)], axis=1)


class Merge(nn.Module):
    """The sentence embedding at every pixel of the coarsest maps.

    It replaces the transformer where that is off (inferred).
    """

    features: int
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        vision: Float[Array, "B H W C"],
        flow: Float[Array, "B H W C"] | None,
        sentence: Float[Array, "B C"],
    ) -> Float[Array, "B H W C"]:
        everywhere = jnp.broadcast_to(sentence[:, None, None], vision.shape)
        parts = [x for x in (vision, flow, everywhere) if x is not None]
        return nn.relu(
            pointwise(jnp.concatenate(parts, axis=-1), self.features, self.dtype, "join")
        )


def conv(
    x: Float[Array, "B H W C"], features: int, dtype: DTypeLike, name: str, *, bias: bool = True
) -> Float[Array, "B H W D"]:
    """Applies a new 3x3 convolution; to be called in a compact method."""
    layer = nn.Conv(
        features, (3, 3), padding=1, use_bias=bias, dtype=dtype, kernel_init=torch_init, name=name
    )
    return layer(x)


def pointwise(
    x: Float[Array, "*B C"], features: int, dtype: DTypeLike, name: str
) -> Float[Array, "*B D"]:
    """Applies a new 1x1 convolution; to be called in a compact method.

    It works on a flat array, whose gradient is the fastest on a CPU.
    """
    layer = nn.Dense(features, dtype=dtype, kernel_init=torch_init, name=name)
    return layer(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], features)
