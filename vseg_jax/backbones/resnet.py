"""ResNet (He et al., CVPR 2016) as in torchvision, with the stride on the 3x3 convolution."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vseg_jax.backbones.hooks import Change, unchanged, within
from vseg_jax.layers.convolution import Conv1x1, he_normal, max_pool
from vseg_jax.layers.normalization import BatchNorm, Norm

# Depth -> blocks in each of the four stages.
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class ResNet(nn.Module):
    """Maps an image to a pyramid of features; without the classifier.

    Attributes:
      depth: 18, 34 (basic blocks), 50, 101 (bottlenecks).
      dilated: for stages 2, 3 and 4, whether dilation replaces the stride (torchvision's
        `replace_stride_with_dilation`); bottlenecks only.
      last_stride: of stage 4, 1 or 2; 1 leaves its map at the size of stage 3, without dilation.
      stages: number of stages computed, of four.
      stem: whether to return the stem's map too, before all others.
      width: channels of the stem; 64 in the paper, fewer for small models.
      norm: see `BatchNorm`.
      dtype: of the computation; parameters stay float32.
    """

    depth: int = 50
    dilated: tuple[bool, bool, bool] = (False, False, False)
    last_stride: int = 2
    stages: int = 4
    stem: bool = False
    width: int = 64
    norm: Norm = "frozen"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B H W C"],
        added: Float[Array, "A h w D"] | None = None,
        *,
        train: bool,
        change: Change = unchanged,
    ) -> tuple[Float[Array, "A _ _ _"], ...]:
        """Computes the maps of images normalized for the weights (ImageNet mean and deviation).

        Args:
          x: the images.
          added: maps to add to the stem's convolution before its norm, as STM does with masks. A
            is B or a multiple of it: each image then has A / B consecutive results.
          train: see `BatchNorm`.
          change: called with the features at "conv1" (before the stem's norm), "norm1" (before its
            ReLU), "pool", and for each stage n at "layer{n}_sum" (the residual sum of its last
            block, before the ReLU) and "layer{n}" (its map). Later layers continue with the result.

        Returns:
          `stages` maps at strides 4, 8, 16, 32 (smaller ones where dilated, or with `last_stride`
          1), the largest first, with width * (1, 2, 4, 8) channels, four times as many for
          bottlenecks; with `stem`, before them the stem's map after its ReLU, at stride 2. Inner
          outputs are available by name with `capture_intermediates=True`.

        Raises:
          ValueError: an attribute is out of range.
        """
        self._check()
        x = _conv(self.width, 7, 2, 1, self.dtype, "conv1")(x)
        if added is not None:
            x = jnp.repeat(x, added.shape[0] // x.shape[0], axis=0) + added
        x = change("conv1", x)
        x = BatchNorm(self.norm, dtype=self.dtype, name="norm1")(x, train=train)
        x = nn.relu(change("norm1", x))
        outputs = [x] if self.stem else []
        x = change("pool", max_pool(x, (3, 3), (2, 2), (1, 1)))
        dilation = 1
        for stage in range(self.stages):
            stride, first_dilation = (1, 2, 2, self.last_stride)[stage], dilation
            if stage > 0 and self.dilated[stage - 1]:
                # The first block keeps the dilation of the stage before it, as in torchvision.
                dilation, stride = dilation * 2, 1
            layer, blocks = f"layer{stage + 1}", BLOCKS[self.depth][stage]
            at_sum = within(layer, change)
            for block in range(blocks):
                x = Block(
                    features=self.width * 2**stage,
                    stride=stride if block == 0 else 1,
                    dilation=first_dilation if block == 0 else dilation,
                    bottleneck=self.depth >= 50,
                    norm=self.norm,
                    dtype=self.dtype,
                    name=f"{layer}_{block}",
                )(x, train=train, change=at_sum if block == blocks - 1 else unchanged)
            x = change(layer, x)
            outputs.append(x)
        return tuple(outputs)

    def _check(self) -> None:
        if self.depth not in BLOCKS:
            known = ", ".join(map(str, BLOCKS))
            raise ValueError(f"depth is {self.depth}; it must be one of {known}")
        if self.depth < 50 and any(self.dilated):
            raise ValueError(f"ResNet-{self.depth} cannot be dilated; use depth 50 or 101")
        if self.last_stride not in (1, 2) or (self.last_stride == 1 and self.dilated[2]):
            raise ValueError(f"last_stride is {self.last_stride}; it must be 1 or 2, and 2 where "
                             "stage 4 is dilated")
        if not 1 <= self.stages <= 4:
            raise ValueError(f"stages is {self.stages}; it must be 1 to 4")


class Block(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3, 1x1 (`bottleneck`), around a residual connection."""

    features: int
    stride: int
    dilation: int
    bottleneck: bool
    norm: Norm = "frozen"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], *, train: bool, change: Change = unchanged
    ) -> Float[Array, "B h w D"]:
        """Returns the map of the block; `change` is called at "sum", before the last ReLU."""

        def norm(x: Array, name: str) -> Array:
            return BatchNorm(self.norm, dtype=self.dtype, name=name)(x, train=train)

        def pointwise(features: int, name: str, stride: int = 1) -> Conv1x1:
            return Conv1x1(features, (stride, stride), False, self.dtype, name=name)

        skip, out = x, self.features * (4 if self.bottleneck else 1)
        if self.bottleneck:
            x = nn.relu(norm(pointwise(self.features, "conv1")(x), "norm1"))
            conv = _conv(self.features, 3, self.stride, self.dilation, self.dtype, "conv2")
            x = nn.relu(norm(conv(x), "norm2"))
            x = norm(pointwise(out, "conv3")(x), "norm3")
        else:
            conv = _conv(out, 3, self.stride, self.dilation, self.dtype, "conv1")
            x = nn.relu(norm(conv(x), "norm1"))
            x = norm(_conv(out, 3, 1, 1, self.dtype, "conv2")(x), "norm2")
        if skip.shape != x.shape:
            skip = norm(pointwise(out, "skip_conv", self.stride)(skip), "skip_norm")
        return nn.relu(change("sum", x + skip))


def _conv(
    features: int, size: int, stride: int, dilation: int, dtype: DTypeLike, name: str
) -> nn.Conv:
    """Returns a convolution without bias, padded equally on both sides, as in PyTorch."""
    return nn.Conv(
        features,
        (size, size),
        strides=stride,
        padding=dilation * (size // 2),
        kernel_dilation=dilation,
        use_bias=False,
        kernel_init=he_normal,
        dtype=dtype,
        name=name,
    )
