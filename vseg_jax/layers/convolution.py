"""Convolutions and max pooling, each in the form that is fastest on the backend.

On a CPU, 1x1 convolutions are fastest as matrix products, 3-D convolutions as 2-D ones over
temporal taps stacked as channels, and depthwise ones as sums of shifted products; on accelerators
the plain convolutions are. Programs for other runtimes have the forms that these know
(`portable_convolutions`). The layout of parameters does not depend on the form, and the forms agree
up to rounding (tests/layers).
"""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

Triple = tuple[int, int, int]
# He et al. 2015 for layers followed by a ReLU, as torchvision's ResNet initializes.
he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# For layers without one, which keeps the variance; the public code of FPN initializes so.
fan_in_uniform = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")
# PyTorch's default for convolutions and linear layers, which public code mostly leaves as it is.
torch_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")

_PORTABLE = contextvars.ContextVar("portable", default=False)


@contextlib.contextmanager
def portable_convolutions() -> Iterator[None]:
    """Inside, programs are traced with convolutions that ONNX and its converter know.

    On any backend, depthwise convolutions are plain ones, and 3-D convolutions are 2-D ones.
    """
    token = _PORTABLE.set(True)
    try:
        yield
    finally:
        _PORTABLE.reset(token)


class Conv1x1(nn.Module):
    """A convolution with a kernel of one pixel (or one voxel): a matrix product on channels.

    Attributes:
      features: number of output channels.
      strides: one for each axis between the batch and the channels, or () for 1 everywhere.
      use_bias: whether to add a bias.
      dtype: of the computation; parameters stay float32.
      kernel_init: initializer of the kernel.

    Parameters: `kernel` [in, out], `bias` [out].
    """

    features: int
    strides: tuple[int, ...] = ()
    use_bias: bool = True
    dtype: DTypeLike = jnp.float32
    kernel_init: nn.initializers.Initializer = he_normal

    @nn.compact
    def __call__(self, x: Float[Array, "B *S C"]) -> Float[Array, "B *R D"]:
        """Returns the map; strides take every n-th position from the first on."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        if any(s > 1 for s in self.strides):
            x = x[(slice(None), *(slice(None, None, s) for s in self.strides))]
        out = matrix_product(x.astype(self.dtype), kernel.astype(self.dtype))
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
            out += bias.astype(self.dtype)
        return out


def matrix_product(x: Float[Array, "*B C"], kernel: Float[Array, "C D"]) -> Float[Array, "*B D"]:
    """Computes `x @ kernel` on a flat `x`.

    Summing over several axes makes XLA's gradient by the kernel up to six times slower on a CPU.
    """
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])


class Conv3d(nn.Module):
    """A 3-D convolution with TensorFlow's SAME padding (an odd zero goes to the end), without bias.

    Attributes:
      features: number of output channels.
      kernel_size: in time, height, width.
      strides: in time, height, width.
      dtype: of the computation; parameters stay float32.

    Parameters: `kernel` [kt, kh, kw, in, out], or [in, out] for a kernel of one voxel.
    """

    features: int
    kernel_size: Triple
    strides: Triple = (1, 1, 1)
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B T H W C"]) -> Float[Array, "B t h w D"]:
        """Returns a map whose sizes are the input's divided by the strides, rounded up."""
        kernel = self.param("kernel", he_normal, (*self.kernel_size, x.shape[-1], self.features))
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        if jax.default_backend() == "cpu" or _PORTABLE.get():
            return conv3d_by_taps(x, kernel, self.strides)
        return conv3d(x, kernel, self.strides)


def conv3d(
    x: Float[Array, "B T H W C"], kernel: Float[Array, "kt kh kw C D"], strides: Triple
) -> Float[Array, "B t h w D"]:
    """Computes the plain 3-D convolution with SAME padding."""
    return jax.lax.conv_general_dilated(
        x, kernel, strides, "SAME", dimension_numbers=("NTHWC", "THWIO", "NTHWC")
    )


def conv3d_by_taps(
    x: Float[Array, "B T H W C"], kernel: Float[Array, "kt kh kw C D"], strides: Triple
) -> Float[Array, "B t h w D"]:
    """Computes the same as `conv3d` by one 2-D convolution over temporal taps stacked as channels.

    Taps that cover only padding are left out: on a single frame a 3x3x3 kernel costs a third.
    """
    pads = _same_padding(x.shape[1], kernel.shape[0], strides[0])
    frames = -(-x.shape[1] // strides[0])
    first = max(pads[0] - (frames - 1) * strides[0], 0)
    last = min(pads[0] + x.shape[1], kernel.shape[0])
    windows = _windows(x, 1, kernel.shape[0], strides[0], pads, 0.0)[first:last]
    taps = [part.reshape(-1, *part.shape[2:]) for part in windows]
    kernel = kernel[first:last]
    kernel = jnp.moveaxis(kernel, 0, 2).reshape(*kernel.shape[1:3], -1, kernel.shape[-1])
    out = jax.lax.conv_general_dilated(
        jnp.concatenate(taps, axis=-1),
        kernel,
        strides[1:],
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return out.reshape(x.shape[0], frames, *out.shape[1:])


def neighborhoods(x: Float[Array, "B H W C"], size: int) -> Float[Array, "B H W D"]:
    """Returns the size x size neighborhood of each position, zeros outside: D = size * size * C.

    `neighborhoods(x, n) @ kernel.reshape(-1, K)` is a convolution with `kernel` [n, n, C, K]. On
    a CPU it is far faster where many kernels are applied to one x, as when a kernel is optimized.
    """
    pads = (size // 2, size - 1 - size // 2)
    rows = _windows(x, 1, size, 1, pads, 0.0)
    return jnp.concatenate([c for row in rows for c in _windows(row, 2, size, 1, pads, 0.0)], -1)


class DepthwiseConv(nn.Module):
    """A convolution of each channel on its own with TensorFlow's SAME padding, without bias.

    Attributes:
      size: side of the square kernel.
      stride: along both axes.
      dtype: of the computation; parameters stay float32.

    Parameters: `kernel` [size, size, 1, C].
    """

    size: int
    stride: int = 1
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
        """Returns a map whose sides are the input's divided by the stride, rounded up."""
        kernel = self.param("kernel", he_normal, (self.size, self.size, 1, x.shape[-1]))
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        if jax.default_backend() == "cpu" and not _PORTABLE.get():
            return depthwise_by_taps(x, kernel, self.stride)
        return depthwise(x, kernel, self.stride)


def depthwise(
    x: Float[Array, "B H W C"], kernel: Float[Array, "k k 1 C"], stride: int
) -> Float[Array, "B h w C"]:
    """Computes the plain depthwise convolution with SAME padding."""
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def depthwise_by_taps(
    x: Float[Array, "B H W C"], kernel: Float[Array, "k k 1 C"], stride: int
) -> Float[Array, "B h w C"]:
    """Computes the same as a sum over the kernel's taps, 10 to 30 times faster on a CPU."""
    size = kernel.shape[0]
    total = 0.0
    rows = _windows(x, 1, size, stride, _same_padding(x.shape[1], size, stride), 0.0)
    for i, row in enumerate(rows):
        columns = _windows(row, 2, size, stride, _same_padding(x.shape[2], size, stride), 0.0)
        total += sum(column * kernel[i, j, 0] for j, column in enumerate(columns))
    return total


def max_pool(
    x: Float[Array, "B *S C"],
    window: tuple[int, ...],
    strides: tuple[int, ...],
    padding: tuple[int, ...] | None = None,
) -> Float[Array, "B *R C"]:
    """Computes max pooling over any number of axes between B and C.

    Axes are pooled one after the other, each as a maximum over shifted slices: the backward pass
    then consists of a few selects, while that of `reduce_window` is a slow scatter on a CPU. The
    first of equal values gets the gradient, as in PyTorch (`jnp.maximum` would split it); NaNs are
    kept.

    Args:
      x: any map; positions outside of it are never the maximum.
      window: size along each axis.
      strides: step along each axis.
      padding: positions added on either side of each axis (PyTorch's convention); None for
        TensorFlow's SAME.
    """
    # The last axis goes first, so that ties go to the first position in reading order.
    for axis in reversed(range(1, x.ndim - 1)):
        size, stride = window[axis - 1], strides[axis - 1]
        if padding is None:
            pads = _same_padding(x.shape[axis], size, stride)
        else:
            pads = (padding[axis - 1],) * 2
        parts = _windows(x, axis, size, stride, pads, -math.inf)
        x = parts[0]
        for part in parts[1:]:
            x = _first_maximum(x, part)
    return x


@jax.custom_jvp
def _first_maximum(a: Array, b: Array) -> Array:
    return jnp.maximum(a, b)


@_first_maximum.defjvp
def _first_maximum_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    return jnp.maximum(*primals), jnp.where(primals[1] > primals[0], tangents[1], tangents[0])


def _same_padding(length: int, window: int, stride: int) -> tuple[int, int]:
    total = max((-(-length // stride) - 1) * stride + window - length, 0)
    return total // 2, total - total // 2


def _windows(
    x: Array, axis: int, window: int, stride: int, pads: tuple[int, int], fill: float
) -> list[Array]:
    """Returns the slice of the padded `x` that each of `window` taps covers along `axis`."""
    widths = [(0, 0)] * x.ndim
    widths[axis] = pads
    if any(pads):
        x = jnp.pad(x, widths, constant_values=fill)
    last = (x.shape[axis] - window) // stride * stride + 1
    return [jax.lax.slice_in_dim(x, tap, tap + last, stride, axis) for tap in range(window)]
