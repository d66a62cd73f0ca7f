"""Swin transformer (Liu et al., ICCV 2021) as MaskFormer and Mask2Former use it.

Source: D2SwinTransformer of github.com/facebookresearch/Mask2Former. As there, windows are shifted
even where the map is not larger than a window; classifiers with the same weights omit that shift.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

# The published sizes, as in `Swin(**SIZES["base"])`. Weights for images of 224 pixels have windows
# of 7, those for 384 pixels ("base" and "large" in MaskFormer and Mask2Former) windows of 12.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"width": 96, "blocks": (2, 2, 6, 2), "heads": (3, 6, 12, 24)},
    "small": {"width": 96, "blocks": (2, 2, 18, 2), "heads": (3, 6, 12, 24)},
    "base": {"width": 128, "blocks": (2, 2, 18, 2), "heads": (4, 8, 16, 32)},
    "large": {"width": 192, "blocks": (2, 2, 18, 2), "heads": (6, 12, 24, 48)},
}
PATCH = 4  # side of a patch in pixels


class Swin(nn.Module):
    """Maps an image of any size to a pyramid of features.

    Attributes:
      width: channels of the first stage; each later one has twice as many.
      blocks: number of blocks per stage; every second one shifts its windows by half.
      heads: number of attention heads per stage.
      window: tokens along a side of a window.
      drop_path: stochastic depth in training: the share of samples that skip the last block's
        branches; it decreases to 0 for the first block. MaskFormer trains with 0.3. Needs the
        random stream "dropout".
      dtype: of the computation; parameters stay float32.
    """

    width: int = 96
    blocks: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: int = 7
    drop_path: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], *, train: bool
    ) -> tuple[Float[Array, "B _ _ _"], ...]:
        """Computes the maps of images normalized for the weights (ImageNet mean and deviation).

        Returns:
          One map per stage, layer-normalized, at strides 4, 8, 16, 32, the largest first. Sides
          that a stride does not divide are rounded up: zeros pad the right and lower edge.

        Raises:
          ValueError: `blocks` and `heads` do not fit.
        """
        self._check()
        x = _padded(x, PATCH)
        x = nn.Conv(
            self.width, (PATCH, PATCH), strides=PATCH, padding="VALID", kernel_init=_INIT,
            dtype=self.dtype, name="patches",
        )(x)
        x = _norm(self.dtype, "patches_norm")(x)
        drops = np.linspace(0, self.drop_path, sum(self.blocks))
        outputs = []
        for stage, (blocks, heads) in enumerate(zip(self.blocks, self.heads, strict=True), 1):
            if stage > 1:
                x = Merging(self.dtype, name=f"merging{stage}")(x)
            for block in range(blocks):
                x = Block(
                    heads=heads,
                    window=self.window,
                    shift=self.window // 2 if block % 2 else 0,
                    drop_path=float(drops[sum(self.blocks[: stage - 1]) + block]),
                    dtype=self.dtype,
                    name=f"stage{stage}_{block}",
                )(x, train=train)
            outputs.append(_norm(self.dtype, f"norm{stage}")(x))
        return tuple(outputs)

    def _check(self) -> None:
        if len(self.blocks) != len(self.heads):
            raise ValueError(
                f"blocks has {len(self.blocks)} stages and heads {len(self.heads)}; give both the "
                "same number of stages"
            )
        odd = [h for i, h in enumerate(self.heads) if self.width * 2**i % h]
        if odd:
            raise ValueError(f"{odd[0]} heads do not divide their stage's channels")


class Block(nn.Module):
    """Attention inside windows, then an MLP, each with a residual connection."""

    heads: int
    window: int
    shift: int
    drop_path: float
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool) -> Float[Array, "B H W C"]:
        """Returns a map of the same shape."""

        def branch(y: Array) -> Array:
            # Drops whole samples and scales the others up.
            drop = nn.Dropout(self.drop_path, broadcast_dims=(1, 2, 3))
            return drop(y, deterministic=not train)

        height, width, channels = x.shape[1:]
        y = _padded(_norm(self.dtype, "norm1")(x), self.window)
        mask = None
        if self.shift:
            mask = neighbors(y.shape[1], y.shape[2], self.window, self.shift)
            y = jnp.roll(y, (-self.shift, -self.shift), (1, 2))
        attention = WindowAttention(self.heads, self.window, self.dtype, name="attention")
        y = unite(attention(split(y, self.window), mask), *y.shape[1:3])
        if self.shift:
            y = jnp.roll(y, (self.shift, self.shift), (1, 2))
        x = x + branch(y[:, :height, :width])
        y = _dense(4 * channels, self.dtype, "dense1")(_norm(self.dtype, "norm2")(x))
        y = nn.gelu(y, approximate=False)
        return x + branch(_dense(channels, self.dtype, "dense2")(y))


class WindowAttention(nn.Module):
    """Multi-head attention between the tokens of a window, with a bias for relative positions.

    Tokens that only pad the map take part, as in the reference.

    Parameters: `bias` [(2 window - 1)^2, heads], ordered by vertical, then horizontal distance,
    both from -(window - 1) on; the projections `inputs`, whose 3C channels are queries, keys and
    values, and `out`.
    """

    heads: int
    window: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B M N C"], mask: Bool[np.ndarray, "M N N"] | None
    ) -> Float[Array, "B M N C"]:
        """Attends in M windows of N tokens; `mask` is True where a query may attend to a key."""
        table = self.param("bias", _INIT, ((2 * self.window - 1) ** 2, self.heads))
        bias = jnp.moveaxis(table[relative_positions(self.window)], -1, 0)
        y = _dense(3 * x.shape[-1], self.dtype, "inputs")(x)
        query, key, value = jnp.moveaxis(y.reshape(*x.shape[:-1], 3, self.heads, -1), -3, 0)
        scores = jnp.einsum("bmqhd,bmkhd->bmhqk", query * query.shape[-1] ** -0.5, key)
        scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32)) + bias
        if mask is not None:
            scores = jnp.where(mask[:, None], scores, -jnp.inf)  # each token attends to itself
        weights = jax.nn.softmax(scores).astype(value.dtype)
        y = jnp.einsum("bmhqk,bmkhd->bmqhd", weights, value)
        return _dense(x.shape[-1], self.dtype, "out")(y.reshape(x.shape))


class Merging(nn.Module):
    """Patch merging: each square of four tokens becomes one token with twice the channels."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w D"]:
        """Returns a map of half the size."""
        x = _padded(x, 2)
        # In the reference's order: down first, then right.
        x = jnp.concatenate([x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], axis=-1)
        x = _norm(self.dtype, "norm")(x)
        features = x.shape[-1] // 2
        return nn.Dense(
            features, use_bias=False, kernel_init=_INIT, dtype=self.dtype, name="reduction"
        )(x)


def split(x: Float[Array, "B H W C"], window: int) -> Float[Array, "B M N C"]:
    """Splits a map into M windows of N = window^2 tokens, in reading order.

    `window` must divide H and W.
    """
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // window, window, width // window, window, channels)
    return jnp.swapaxes(x, 2, 3).reshape(batch, -1, window * window, channels)


def unite(x: Float[Array, "B M N C"], height: int, width: int) -> Float[Array, "B H W C"]:
    """Inverts `split`."""
    window = round(x.shape[2] ** 0.5)
    x = x.reshape(x.shape[0], height // window, width // window, window, window, -1)
    return jnp.swapaxes(x, 2, 3).reshape(x.shape[0], height, width, -1)


def neighbors(height: int, width: int, window: int, shift: int) -> Bool[np.ndarray, "M N N"]:
    """Returns which tokens of a window were neighbors before the map was rolled by `shift`.

    Rolling moves tokens from one edge to the opposite one. In the last row and column of windows
    they meet tokens that are not their neighbors, and must not attend to them.
    """

    def wrapped(size: int) -> np.ndarray:
        return np.arange(size) >= size - shift

    sides = 2 * wrapped(height)[:, None] + wrapped(width)
    rows, columns = height // window, width // window
    sides = sides.reshape(rows, window, columns, window).swapaxes(1, 2).reshape(-1, window**2)
    return sides[:, :, None] == sides[:, None]


def relative_positions(window: int) -> np.ndarray:
    """Returns int [N, N]: the row of the bias table for each query and key."""
    places = np.stack(np.divmod(np.arange(window**2), window))
    down, right = places[:, :, None] - places[:, None] + window - 1
    return down * (2 * window - 1) + right


_INIT = nn.initializers.truncated_normal(0.02)


def _padded(x: Array, multiple: int) -> Array:
    """Pads the right and lower edge with zeros, up to the next multiple."""
    below, right = (-x.shape[axis] % multiple for axis in (1, 2))
    return jnp.pad(x, ((0, 0), (0, below), (0, right), (0, 0))) if below or right else x


def _dense(features: int, dtype: DTypeLike, name: str) -> nn.Dense:
    return nn.Dense(features, kernel_init=_INIT, dtype=dtype, name=name)


def _norm(dtype: DTypeLike, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(1e-5, use_fast_variance=False, dtype=dtype, name=name)
