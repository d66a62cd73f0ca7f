"""Video instance segmentation: every object of some categories, found, classified and followed.

Objects live in slots 1..M of fixed number. Pixel (0, 0) is the upper-left corner of the upper-left
pixel. Samples with `valid` False fill up a batch and count nowhere.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt8

PATCH = (96, 64)  # windows and mel bands of the sound of one frame, 0.96 s


class Batch(TypedDict):
    """What the input pipeline yields; B clips of T adjacent frames, the target frame last.

    Where a video has no past its first frame stands for it. `audio` and `audio_valid` are there
    for models that hear.
    """

    frames: UInt8[Array, "B T H W 3"]   # RGB, the oldest first
    frames_valid: Bool[Array, "B T"]    # False where the first frame stands for what is not there
    masks: UInt8[Array, "B T H W"]      # 0 background, slots from 1 to M, 255 void
    masks_valid: Bool[Array, "B T"]     # which frames are annotated
    objects: Bool[Array, "B M"]         # which slots have a pixel in some frame
    visible: Bool[Array, "B T M"]       # which have one in which frame
    classes: Int[Array, "B M"]          # from 0; 0 where there is no object
    ids: Int[Array, "B M"]              # the objects' numbers in the dataset; 0 likewise
    video: Int[Array, " B"]             # number of the video
    sample: Int[Array, " B"]            # number of the sample in the dataset
    valid: Bool[Array, " B"]            # False: padding of the last batch
    geometry: Float[Array, "B 4"]       # scale y, x, offset y, x: input = original * scale + offset
    audio: NotRequired[Float[Array, "B T 96 64"]]   # log-mel patch that ends with the frame
    audio_valid: NotRequired[Bool[Array, "B T"]]    # False where a video has no sound


class Prompt(TypedDict):
    """What comes with a frame of a stream: nothing, or its sound.

    A model that hears takes frames without a prompt for frames without sound.
    """

    audio: NotRequired[Float[Array, "96 64"]]       # log-mel patch that ends with the frame
    audio_valid: NotRequired[Bool[Array, ""]]       # False where there is no sound


@struct.dataclass
class Instances:
    """What a model says of one frame, or of the target frame of each sample of a batch.

    The first three fields are those of every model's prediction (`vseg_jax.models.base`). The
    fields are typed `Any` because JAX also puts shapes and axis numbers in their place.

    Attributes:
      logits: [..., N, H, W] float, one map a slot of the model, before the sigmoid.
      scores: [..., N] float in [0, 1], of the most probable category.
      frame: [...] int32, index of the frame.
      probabilities: [..., N, K + 1] float, of K categories and, last, of no object.
      identities: [..., N] int32, the same number for the same object in all frames of a stream;
        negative where a slot has no object.
    """

    logits: Any
    scores: Any
    frame: Any
    probabilities: Any
    identities: Any


def fired(probabilities: Float[Array, "*B N K"], threshold: float) -> Bool[Array, "*B N"]:
    """Slots whose most probable category reaches `threshold`; the last entry is no category."""
    return probabilities[..., :-1].max(-1) >= threshold


def slot_masks(masks: UInt8[Array, "*B H W"], slots: int) -> Float[Array, "*B {slots} H W"]:
    """The slots' masks, 0 or 1; void pixels are 0 in all of them."""
    numbers = jnp.arange(1, slots + 1, dtype=masks.dtype)
    return (masks[..., None, :, :] == numbers[:, None, None]).astype(jnp.float32)


def batch_shapes(
    samples: int, frames: int, height: int, width: int, objects: int, *, uses_audio: bool = False
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of one global batch, without any data."""
    b, t, m = samples, frames, objects
    shapes = {
        "frames": ((b, t, height, width, 3), jnp.uint8), "frames_valid": ((b, t), jnp.bool_),
        "masks": ((b, t, height, width), jnp.uint8), "masks_valid": ((b, t), jnp.bool_),
        "objects": ((b, m), jnp.bool_), "visible": ((b, t, m), jnp.bool_),
        "classes": ((b, m), jnp.int32), "ids": ((b, m), jnp.int32),
        "video": ((b,), jnp.int32), "sample": ((b,), jnp.int32), "valid": ((b,), jnp.bool_),
        "geometry": ((b, 4), jnp.float32),
    }
    if uses_audio:
        shapes["audio"] = ((b, t, *PATCH), jnp.float32)
        shapes["audio_valid"] = ((b, t), jnp.bool_)
    return {name: jax.ShapeDtypeStruct(*spec) for name, spec in shapes.items()}
