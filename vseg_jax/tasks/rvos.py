"""Referring video object segmentation (RVOS): an expression refers to one object of a video.

Pixel (0, 0) is the upper-left corner of the upper-left pixel. All functions work on the global
batch; samples with `valid` False only fill up the last batch of an evaluation and never count.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from vseg_jax.index_masks import VOID


class Batch(TypedDict):
    """A batch from the input pipeline: B clips of T frames, expressions of at most L tokens."""

    frames: UInt8[Array, "B T H W 3"]   # RGB
    masks: UInt8[Array, "B T H W"]      # 0 background, object ids from 1, 255 void
    masks_valid: Bool[Array, "B T"]     # which frames are annotated and repeat no other of the clip
    target: Int[Array, " B"]            # position in T of the frame to predict
    object_id: Int[Array, " B"]         # id in `masks` of the object referred to
    tokens: Int[Array, "B L"]
    tokens_valid: Bool[Array, "B L"]
    video: Int[Array, " B"]             # number of the video, the same for all its expressions
    sample: Int[Array, " B"]            # number of the sample in the dataset
    valid: Bool[Array, " B"]            # False: padding of the last evaluation batch
    geometry: Float[Array, "B 4"]       # scale y, x, offset y, x: input = original * scale + offset
    # Only for models that read it: the optical flow from each frame to the next one of the video,
    # as an image in the color wheel of flow fields; white (no motion) in the video's last frame.
    flow: NotRequired[UInt8[Array, "B T H W 3"]]


class Prompt(TypedDict):
    """The prompt that starts a stream: one tokenized query."""

    tokens: Int[Array, " L"]
    tokens_valid: Bool[Array, " L"]


def target_frame_mask(batch: Batch) -> tuple[Float[Array, "B H W"], Float[Array, "B H W"]]:
    """Returns the mask of the object in the target frame, and the weight of each pixel.

    Returns:
      mask: 1 on the object, else 0.
      weight: 0 on void pixels, on target frames without annotation and on samples that are not
        valid; else 1.
    """
    target = batch["target"].astype(jnp.int32)
    index = jnp.take_along_axis(batch["masks"], target[:, None, None, None], axis=1)[:, 0]
    annotated = jnp.take_along_axis(batch["masks_valid"], target[:, None], axis=1)[:, 0]
    mask = index == batch["object_id"][:, None, None]
    counts = (index != VOID) & (annotated & batch["valid"])[:, None, None]
    return (mask & (index != VOID)).astype(jnp.float32), counts.astype(jnp.float32)


def foreground(logits: Float[Array, "*B H W"]) -> Bool[Array, "*B H W"]:
    """Binarizes a map: pixels more probable than half of its most probable pixel.

    Source: the older protocol of the task, of ACGA, CSTM and their successors.
    """
    probability = jax.nn.sigmoid(logits)
    return probability > 0.5 * probability.max(axis=(-2, -1), keepdims=True)


def overlap(
    logits: Float[Array, "B H W"], mask: Float[Array, "B H W"], weight: Float[Array, "B H W"]
) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
    """Computes the intersection over union of `foreground(logits)` with the mask, in training.

    Returns:
      iou: in [0, 1]; 0 where the union is empty.
      counted: 1 for samples whose union is not empty, else 0.
    """
    predicted = foreground(logits).astype(jnp.float32)
    intersection = (predicted * mask * weight).sum((1, 2))
    union = (jnp.maximum(predicted, mask) * weight).sum((1, 2))
    return intersection / jnp.maximum(union, 1), (union > 0).astype(jnp.float32)


def batch_shapes(
    samples: int, frames: int, height: int, width: int, words: int, *, flow: bool = False
) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of one global batch; `flow` tells whether it has that entry."""
    b, t, h, w = samples, frames, height, width
    shapes = {
        "frames": ((b, t, h, w, 3), jnp.uint8), "masks": ((b, t, h, w), jnp.uint8),
        "masks_valid": ((b, t), jnp.bool_), "target": ((b,), jnp.int32),
        "object_id": ((b,), jnp.int32), "tokens": ((b, words), jnp.int32),
        "tokens_valid": ((b, words), jnp.bool_), "video": ((b,), jnp.int32),
        "sample": ((b,), jnp.int32), "valid": ((b,), jnp.bool_),
        "geometry": ((b, 4), jnp.float32),
    }
    if flow:
        shapes["flow"] = shapes["frames"]
    return {name: jax.ShapeDtypeStruct(*spec) for name, spec in shapes.items()}
