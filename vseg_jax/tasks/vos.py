"""Semi-supervised video object segmentation (VOS): first-frame masks give the objects.

Objects are in a fixed number of slots, 1..N; slot 0 is the background. Pixel (0, 0) is the
upper-left corner of the upper-left pixel. Samples with `valid` False only fill up a batch and never
count.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Shaped, UInt8

from vseg_jax.index_masks import VOID
from vseg_jax.tasks.slots import slot_masks


class Batch(TypedDict):
    """A batch from the input pipeline: B clips of T frames in temporal order."""

    frames: UInt8[Array, "B T H W 3"]   # RGB
    masks: UInt8[Array, "B T H W"]      # 0 background, slots from 1 to N, 255 void
    masks_valid: Bool[Array, "B T"]     # which frames are annotated; the first always is
    objects: Bool[Array, "B N"]         # which slots have a pixel in the first frame
    video: Int[Array, " B"]             # number of the video
    sample: Int[Array, " B"]            # number of the sample in the dataset
    valid: Bool[Array, " B"]            # False: padding of the last batch


class Prompt(TypedDict):
    """The mask prompt that starts a stream, or adds and corrects objects later.

    The mask is the whole truth about the slots that it speaks for: they have the pixels with their
    numbers and no others. Of all other slots it says nothing; they lose the pixels that it gives to
    those, and nothing else changes. `named` has an entry for each slot of the stream.
    """

    mask: UInt8[Array, "H W"]           # numbers of slots, 0 elsewhere; 255 is padding
    named: NotRequired[Bool[Array, " N"]]   # the slots that the mask speaks for, which need not
    #                                     have a pixel; by default those that have one


@struct.dataclass
class SlotMasks:
    """The prediction of a VOS model for one frame, or for one frame of each sample of a batch.

    The fields are typed `Any` because JAX also puts shapes and axis numbers in their place.

    Attributes:
      probability: [..., N, H, W] float in [0, 1], one map per slot; the background has the rest.
      scores: [..., N] float in [0, 1], confidence in each slot's object.
      frame: [...] int32, index of the frame.
    """

    probability: Any
    scores: Any
    frame: Any


def named_masks(
    prompt: Prompt, slots: int
) -> tuple[Float[Array, "{slots} H W"], Bool[Array, " {slots}"]]:
    """Returns the masks of the slots that a prompt names, 0 for others, and which these are."""
    masks = slot_masks(prompt["mask"], slots)
    named = prompt.get("named")
    if named is None:
        named = masks.any((1, 2))
    return masks * named[:, None, None], named


def corrected(
    probability: Float[Array, "N H W"], masks: Float[Array, "N H W"], named: Bool[Array, " N"]
) -> Float[Array, "N H W"]:
    """Returns a prediction with the `masks` of the slots that are `named`.

    Pixels that these slots lose become background; the probabilities of other slots only change
    where a named one takes the pixel, to 0.
    """
    others = jnp.where(named[:, None, None], 0, probability)
    return jnp.where(masks.any(0), masks, others)


def index(probability: Float[Array, "*B N H W"]) -> UInt8[Array, "*B H W"]:
    """Returns the most probable slot of each pixel; the background has 1 minus the slots' sum."""
    background = 1 - probability.sum(axis=-3, keepdims=True)
    return jnp.concatenate([background, probability], axis=-3).argmax(axis=-3).astype(jnp.uint8)


def overlap(
    predicted: UInt8[Array, "*B H W"], masks: UInt8[Array, "*B H W"], objects: int
) -> tuple[Float[Array, "*B {objects}"], Shaped[Array, "*B {objects}"]]:
    """Computes the intersection over union of every slot, in training; void pixels do not count.

    Returns:
      iou: in [0, 1]; 0 where the union is empty.
      counted: 1 for slots whose union is not empty, else 0.
    """
    known = (masks != VOID)[..., None, :, :]
    ours, truth = slot_masks(predicted, objects) * known, slot_masks(masks, objects)
    intersection = (ours * truth).sum((-2, -1))
    union = jnp.maximum(ours, truth).sum((-2, -1))
    return intersection / jnp.maximum(union, 1), (union > 0).astype(jnp.float32)


def batch_shapes(
    samples: int, frames: int, height: int, width: int, objects: int
) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of one global batch."""
    b, t = samples, frames
    shapes = {
        "frames": ((b, t, height, width, 3), jnp.uint8),
        "masks": ((b, t, height, width), jnp.uint8),
        "masks_valid": ((b, t), jnp.bool_),
        "objects": ((b, objects), jnp.bool_),
        "video": ((b,), jnp.int32), "sample": ((b,), jnp.int32), "valid": ((b,), jnp.bool_),
    }
    return {name: jax.ShapeDtypeStruct(*spec) for name, spec in shapes.items()}
