"""Pictures and sentence to what the transformer and the decoder work on."""

from __future__ import annotations

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

    Bottlenecks are dilated as torchvision does it. Of basic blocks only the very first convolution
    of the stage is dilated, by 2: the public code's own ResNet-34 is built so.
    """

    depth: int
    width: int
    norm: Norm
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, pictures: UInt8[Array, "B H W 3"], *, train: bool
    ) -> tuple[Float[Array, "B _ _ _"], ...]:
        """Frames, or flow as pictures; both are normalized with ImageNet's statistics."""
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
    """Atrous spatial pyramid pooling: a 1x1, dilated 3x3 convolutions, the mean of the picture."""

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
    """The coordinates joined to a map: two convolutions."""

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W D"]:
        x = nn.relu(conv(append_coordinates(x), self.features, self.dtype, "conv1"))
        return pointwise(x, self.features, self.dtype, "conv2")


class TextEncoder(nn.Module):
    """Tokens to a feature each, the sentence's first.

    With BERT that is [CLS], and places of padding have BERT's output too: it is attended to under
    `bug_compat_mask`, and counts in the statistics of the norm that follows, as in the public code.
    With a word embedding the sentence is the last state of a GRU, put before the words.
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
        # With this memory the GRU's state starts as a mean over the words (inferred).
        _, sentence = Gru(c.word_width, dtype, memory=0.8, name="gru")(words, valid)
        words = jnp.concatenate([sentence[:, None], words], axis=1)
        return words, jnp.pad(valid, ((0, 0), (1, 0)), constant_values=True)

    def _bert(self, tokens, valid, dtype, train):
        """The last layer's output, which `Bert` itself sets to zero where there is no word."""
        last = f"layer_{self.config.bert.num_hidden_layers - 1}"
        kept = []

        def keep(call, arguments, keywords, context):
            out = call(*arguments, **keywords)
            if context.module.name == last and context.method_name == "__call__":
                kept.append(out)
            return out

        with nn.intercept_methods(keep):
            Bert(self.config.bert, dtype, name="bert")(tokens, valid, train=train)
        return kept[-1]


def conv(
    x: Float[Array, "B H W C"], features: int, dtype: DTypeLike, name: str, *, bias: bool = True
) -> Float[Array, "B H W D"]:
    """A 3x3 convolution, in the compact method that calls this."""
    layer = nn.Conv(
        features, (3, 3), padding=1, use_bias=bias, dtype=dtype, kernel_init=torch_init, name=name
    )
    return layer(x)


def pointwise(
    x: Float[Array, "*B C"], features: int, dtype: DTypeLike, name: str
) -> Float[Array, "*B D"]:
    """A 1x1 convolution, likewise; on a flat array, whose gradient is the fastest on a CPU."""
    layer = nn.Dense(features, dtype=dtype, kernel_init=torch_init, name=name)
    return layer(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], features)
