"""Pixel decoder (FPN) and the heads for classes and masks, by dynamic filters (Section III-B2)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vseg_jax.layers.convolution import Conv1x1
from vseg_jax.layers.resize import nearest
from vseg_jax.models.rcf.tokens import sine

_xavier = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")  # detectron2's c2_xavier_fill


class MaskDecoder(nn.Module):
    """MaskFormer's pixel decoder: computes the segmentation map S_t at stride 4.

    Group norm has groups of 8 channels, which makes MaskFormer's 32 groups at 256 channels.

    Attributes:
      channels: of the FPN.
      features: C_o, of the result.
      coordinates: whether the last convolution also reads where a cell is.
      dtype: of the computation.
    """

    channels: int
    features: int
    coordinates: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, fused: Float[Array, "B H W D"], finer: tuple[Float[Array, "B _ _ _"], ...]
    ) -> Float[Array, "B h w C"]:
        """Decodes the fused map; `finer` are the backbone's maps at strides 4, 8 and 16."""
        x = nn.relu(self._norm(self._conv(self.channels, False, "conv4")(fused), "norm4"))
        for level in (3, 2, 1):
            side = Conv1x1(self.channels, use_bias=False, dtype=self.dtype, name=f"lateral{level}")
            lateral = self._norm(side(finer[level - 1].astype(self.dtype)), f"lateral_norm{level}")
            x = lateral + nearest(x, lateral.shape[1:3])
            x = self._conv(self.channels, False, f"conv{level}")(x)
            x = nn.relu(self._norm(x, f"norm{level}"))
        if self.coordinates:
            codes = sine(*x.shape[1:]).reshape(x.shape[1:]).astype(x.dtype)
            x = jnp.concatenate([x, jnp.broadcast_to(codes, x.shape)], -1)
        return self._conv(self.features, True, "predict")(x)

    def _conv(self, features: int, bias: bool, name: str) -> nn.Conv:
        return nn.Conv(
            features, (3, 3), padding=1, use_bias=bias, kernel_init=_xavier, dtype=self.dtype,
            name=name,
        )

    def _norm(self, x: Array, name: str) -> Array:
        groups = max(x.shape[-1] // 8, 1)
        return nn.GroupNorm(
            groups, epsilon=1e-5, use_fast_variance=False, dtype=self.dtype, name=name
        )(x)


class Heads(nn.Module):
    """Computes class logits and masks from instance codes.

    Attributes:
      categories: K; there is one more class, the last, for "no object".
      pooled: whether the classes are also read from the mean of S_t over each slot's mask.
      dtype: of the computation.
    """

    categories: int
    pooled: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, codes: Float[Array, "*D B N C"], maps: Float[Array, "B h w F"]
    ) -> tuple[Float[Array, "*D B N K"], Float[Array, "*D B N h w"]]:
        """Returns class logits and M_t = theta_t^T S_t, in float32."""
        filters = nn.relu(nn.Dense(codes.shape[-1], dtype=self.dtype, name="filters1")(codes))
        filters = nn.Dense(maps.shape[-1], dtype=self.dtype, name="filters2")(filters)
        masks = jnp.einsum(
            "...bnc,bhwc->...bnhw", filters, maps.astype(filters.dtype),
            preferred_element_type=jnp.promote_types(filters.dtype, jnp.float32),
        )
        classes = nn.Dense(self.categories + 1, dtype=self.dtype, name="classes")(codes)
        if self.pooled:
            # The classes do not move the masks.
            weights = nn.sigmoid(jax.lax.stop_gradient(masks))
            weights /= jnp.maximum(weights.sum((-2, -1), keepdims=True), 1e-6)
            means = jnp.einsum("...bnhw,bhwc->...bnc", weights.astype(maps.dtype), maps)
            classes += nn.Dense(
                self.categories + 1, use_bias=False, dtype=self.dtype, name="pooled_classes"
            )(means)
        return classes.astype(masks.dtype), masks
