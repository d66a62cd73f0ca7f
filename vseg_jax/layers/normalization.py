"""Batch normalization with PyTorch's conventions, frozen or not."""

from __future__ import annotations

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Num

Norm = Literal["frozen", "batch"]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and deviation of colors in [0, 1]


def imagenet_colors(
    images: Num[Array, "*B H W 3"], dtype: DTypeLike = jnp.float32,
    colors: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET,
) -> Float[Array, "*B H W 3"]:
    """Normalizes RGB in [0, 255] by the mean and deviation of `colors`, for pretrained networks."""
    mean, deviation = (jnp.asarray(c, dtype) for c in colors)
    return (images.astype(dtype) / 255 - mean) / deviation


class BatchNorm(nn.Module):
    """Normalizes each channel over all other axes, then scales and shifts it.

    Attributes:
      norm: "batch" uses the statistics of the batch during training, and updates the running ones;
        "frozen" always uses the running statistics and stops the gradient of scale and bias
        (torchvision's FrozenBatchNorm2d: a pretrained network's normalization stays as it is).
      eps: added to the variance.
      momentum: weight of the *new* statistics in the running ones (PyTorch's convention; flax's is
        one minus this). The running variance is unbiased, as in PyTorch.
      dtype: of the result; the computation is at least float32.
    """

    norm: Norm = "batch"
    eps: float = 1e-5
    momentum: float = 0.1
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*B C"], *, train: bool) -> Float[Array, "*B C"]:
        """Normalizes `x`; `train` selects the statistics, see `norm`."""
        channels = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        mean, var = running_mean.value, running_var.value
        if self.norm == "frozen":
            scale, bias, mean, var = jax.lax.stop_gradient((scale, bias, mean, var))
        elif self.norm != "batch":
            raise ValueError(f"norm is {self.norm!r}; it must be 'frozen' or 'batch'")
        elif train:
            mean, var = _statistics(x)
            if not self.is_initializing():
                count = x.size // x.shape[-1]
                unbiased = var * (count / max(count - 1, 1))
                running_mean.value += self.momentum * (mean - running_mean.value)
                running_var.value += self.momentum * (unbiased - running_var.value)
        factor = scale * jax.lax.rsqrt(var + self.eps)
        return (x * factor + (bias - mean * factor)).astype(self.dtype)


def _statistics(x: Array) -> tuple[Array, Array]:
    axes = tuple(range(x.ndim - 1))
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = x.mean(axes)
    return mean, jnp.square(x - mean).mean(axes)
