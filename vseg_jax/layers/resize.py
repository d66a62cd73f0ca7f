"""Bilinear, nearest and area resizing of maps, with PyTorch's conventions.

Bilinear and area resizing are linear and separable: one sparse matrix per axis. A matrix with few
entries per row is applied as a weighted sum of gathered slices, any other as a matrix product. The
gradient applies the transposed matrix in the same way, so nothing is ever scattered.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

Size = tuple[int, int]
GATHERED = 8  # entries per row up to which gathering is faster (measured on a CPU)


def bilinear(
    x: Float[Array, "*B H W C"], size: Size, *, align_corners: bool
) -> Float[Array, "*B h w C"]:
    """Interpolates bilinearly to `size` = (height, width), without anti-aliasing.

    `align_corners=True` aligns the centers of the corner pixels; False aligns the edges of the
    images. Both are those of `torch.nn.functional.interpolate(mode="bilinear")`.

    Raises:
      ValueError: a side of `size` is less than 1.
    """
    _check(size)
    return _separable(
        x,
        _bilinear_matrix(x.shape[-3], size[0], align_corners),
        _bilinear_matrix(x.shape[-2], size[1], align_corners),
    )


def area(x: Float[Array, "*B H W C"], size: Size) -> Float[Array, "*B h w C"]:
    """Averages the cells that each output cell covers (PyTorch's `interpolate(mode="area")`).

    If `size` divides the map, this is average pooling; otherwise output cell i averages the whole
    input cells from floor(i H / h) to ceil((i + 1) H / h), so neighbors may share one.

    Raises:
      ValueError: a side of `size` is less than 1.
    """
    _check(size)
    *batch, height, width, channels = x.shape
    if height % size[0] == 0 and width % size[1] == 0:
        factors = height // size[0], width // size[1]
        blocks = x.reshape(*batch, size[0], factors[0], size[1], factors[1], channels)
        return blocks.mean(axis=(-4, -2))
    return _separable(x, _area_matrix(height, size[0]), _area_matrix(width, size[1]))


def nearest(x: Shaped[Array, "*B H W C"], size: Size) -> Shaped[Array, "*B h w C"]:
    """Takes the nearest neighbor: output i is input floor(i H / h), as in PyTorch's "nearest".

    Raises:
      ValueError: a side of `size` is less than 1.
    """
    _check(size)
    rows = np.arange(size[0]) * x.shape[-3] // size[0]
    columns = np.arange(size[1]) * x.shape[-2] // size[1]
    return jnp.take(jnp.take(x, rows, axis=-3), columns, axis=-2)


def _separable(x: Array, rows: np.ndarray, columns: np.ndarray) -> Array:
    # The axis that shrinks more goes first, so that the other has less to compute.
    if rows.shape[0] * columns.shape[1] <= columns.shape[0] * rows.shape[1]:
        return _along(_along(x, rows, x.ndim - 3), columns, x.ndim - 2)
    return _along(_along(x, columns, x.ndim - 2), rows, x.ndim - 3)


def _along(x: Array, matrix: np.ndarray, axis: int) -> Array:
    """Applies `matrix` [new, old] along `axis`; the gradient applies the transposed matrix."""

    @jax.custom_vjp
    def apply(x: Array) -> Array:
        return _apply(x, matrix, axis)

    apply.defvjp(lambda x: (apply(x), None), lambda _, g: (_apply(g, matrix.T, axis),))
    return apply(x)


def _apply(x: Array, matrix: np.ndarray, axis: int) -> Array:
    counts = (matrix != 0).sum(axis=1)
    if counts.max() > GATHERED:
        return jnp.moveaxis(jnp.tensordot(matrix.astype(x.dtype), x, axes=(1, axis)), 0, axis)
    # The non-zero entries of each row, padded to the longest row with entries of weight 0.
    order = np.argsort(matrix == 0, axis=1, kind="stable")[:, : counts.max()]
    weights = np.take_along_axis(matrix, order, axis=1)
    shape = [-1 if a == axis else 1 for a in range(x.ndim)]
    return sum(
        jnp.take(x, order[:, k], axis) * weights[:, k].reshape(shape).astype(x.dtype)
        for k in range(order.shape[1])
    )


def _bilinear_matrix(old: int, new: int, align_corners: bool) -> np.ndarray:
    """Returns [new, old] float32; each row holds the two weights of one output position."""
    index = np.arange(new, dtype=np.float64)
    if align_corners:
        position = index * ((old - 1) / (new - 1)) if new > 1 else index * 0
    else:
        position = np.maximum((index + 0.5) * (old / new) - 0.5, 0)
    low = np.minimum(np.floor(position).astype(int), old - 1)
    high = np.minimum(low + 1, old - 1)
    fraction = position - low
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new), low), 1 - fraction)
    np.add.at(matrix, (np.arange(new), high), fraction)
    return matrix.astype(np.float32)


def _area_matrix(old: int, new: int) -> np.ndarray:
    """Returns [new, old] float32; each row averages the input cells that one output cell covers."""
    matrix = np.zeros((new, old), np.float32)
    for i in range(new):
        start, stop = i * old // new, -(-(i + 1) * old // new)
        matrix[i, start:stop] = 1 / (stop - start)
    return matrix


def _check(size: Size) -> None:
    if min(size) < 1:
        raise ValueError(f"cannot resize to {size}; height and width must be at least 1")
