"""The regions of a clip's instances, their hard pixels, and features pooled over them.

A region is a map of coverages: the share of each cell of F that the instance covers. All shapes are
static, and a region without an instance is zero everywhere.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vseg_jax.index_masks import VOID
from vseg_jax.layers.precision import at_least_float32
from vseg_jax.layers.resize import area
from vseg_jax.tasks.rvos import Batch


class Regions(NamedTuple):
    """R regions of each frame.

    Attributes:
      cover: in [0, 1]; region 0 is the referent, region 1 the background, region 1 + i the
        instance with id i (empty if that is the referent). Void pixels, frames without annotation
        and invalid samples are in no region.
      truth: Y of Eq. 6, the share of each cell's counted pixels that the referent covers.
    """

    cover: Float[Array, "B T R h w"]
    truth: Float[Array, "B T h w"]


def frame_masks(batch: Batch) -> tuple[Float[Array, "B T H W"], Float[Array, "B T H W"]]:
    """Returns the referent's mask in every frame, and the weight of each pixel.

    The weight is 0 for void pixels, in frames without annotation and in invalid samples, else 1.
    The referent may be absent from a frame.
    """
    index = batch["masks"]
    counts = (index != VOID) & (batch["masks_valid"] & batch["valid"][:, None])[..., None, None]
    mask = (index == batch["object_id"][:, None, None, None]) & counts
    return mask.astype(jnp.float32), counts.astype(jnp.float32)


def regions(batch: Batch, size: tuple[int, int], max_objects: int) -> Regions:
    """Returns the regions of all frames of a batch (tasks/rvos.py), as area averages at `size`.

    An object with an id above `max_objects` can be the referent, but is neither background nor a
    negative instance.
    """
    index = batch["masks"]
    mask, weight = frame_masks(batch)
    rest = jnp.where(weight > mask, index, VOID)[..., None]  # pixels that count, no referent
    others = rest == jnp.arange(max_objects + 1, dtype=index.dtype)
    every = jnp.concatenate([mask[..., None], others, weight[..., None]], axis=-1)
    shares = jnp.moveaxis(area(every, size), -1, 2)
    cover, known = shares[:, :, :-1], shares[:, :, -1]
    return Regions(cover, cover[:, :, 0] / jnp.where(known > 0, known, 1))


def hard_regions(
    found: Regions,
    logits: Float[Array, "B T h w"],
    share: float,
    *,
    wrong_only: bool,
) -> Float[Array, "B T R h w"]:
    """Returns the part of each region that is hardest for the decoder (RHIC, Eq. 6 and 7).

    D = |Y - P| is the error of the decoder. The cells with the largest D (.) M are kept: `share` of
    the region's area, at least one cell, the first ones among equals. No gradient reaches the
    logits. With `wrong_only` cells with D up to 0.5 are removed afterwards (inferred; a region may
    then be empty).
    """
    probability = jax.nn.sigmoid(jax.lax.stop_gradient(logits))
    degree = jnp.abs(found.truth - probability)[:, :, None]
    cover = found.cover
    flat = (*cover.shape[:3], -1)
    worth = jnp.where(cover > 0, degree * cover, -jnp.inf).reshape(flat)
    # Rounding errors in the area must not add a cell.
    keep = jnp.ceil(share * cover.sum((-2, -1)) - 1e-3)[..., None]
    keep = jnp.maximum(keep, 1).astype(jnp.int32)
    order = -jnp.sort(-worth, axis=-1)
    least = jnp.take_along_axis(order, keep - 1, axis=-1)
    above, equal = worth > least, worth == least
    room = keep - above.sum(-1, keepdims=True)
    chosen = (above | (equal & (jnp.cumsum(equal, axis=-1) <= room))).reshape(cover.shape)
    if wrong_only:
        chosen &= degree > 0.5
    return jnp.where(chosen, cover, 0)


def pool(
    features: Float[Array, "B T h w C"], cover: Float[Array, "B T R h w"]
) -> Float[Array, "B T R C"]:
    """Returns the mean feature of each region in float32 (Eq. 1); zero for an empty one."""
    features = at_least_float32(features)
    total = jnp.einsum("bthwc,btrhw->btrc", features, cover.astype(features.dtype))
    size = cover.sum((-2, -1))[..., None]
    return total / jnp.where(size > 0, size, 1)
