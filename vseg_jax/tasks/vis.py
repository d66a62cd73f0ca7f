"""Video instance segmentation (VIS): detects, classifies and tracks all objects of some categories.

Objects are in a fixed number of slots, 1..M. Pixel (0, 0) is the upper-left corner of the
upper-left pixel. Samples with `valid` False only fill up a batch and never count.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt8

PATCH = (96, 64)  # windows and mel bands of the audio of one frame, 0.96 s


class Batch(TypedDict):
    """A batch from the input pipeline: B clips of T frames, the target frame last.

    The frames are adjacent, or in training `instances.gap` frames apart. Copies of the first frame
    fill clips that start before the video. `audio` and `audio_valid` are present for models that
    use audio.
    """

    frames: UInt8[Array, "B T H W 3"]   # RGB, the oldest first
    frames_valid: Bool[Array, "B T"]    # False for copies of the first frame
    masks: UInt8[Array, "B T H W"]      # 0 background, slots from 1 to M, 255 void
    masks_valid: Bool[Array, "B T"]     # which frames are annotated
    objects: Bool[Array, "B M"]         # which slots have a pixel in some frame
    visible: Bool[Array, "B T M"]       # which slots have a pixel in each frame
    classes: Int[Array, "B M"]          # from 0; 0 where there is no object
    ids: Int[Array, "B M"]              # the objects' numbers in the dataset; 0 for no object
    video: Int[Array, " B"]             # number of the video
    sample: Int[Array, " B"]            # number of the sample in the dataset
    valid: Bool[Array, " B"]            # False: padding of the last batch
    geometry: Float[Array, "B 4"]       # scale y, x, offset y, x: input = original * scale + offset
    audio: NotRequired[Float[Array, "B T 96 64"]]   # log-mel patch that ends with the frame
    audio_valid: NotRequired[Bool[Array, "B T"]]    # False where a video has no audio


class Prompt(TypedDict):
    """The prompt of a frame of a stream: empty, or its audio.

    A model that uses audio takes a frame without a prompt as a frame without audio.
    """

    audio: NotRequired[Float[Array, "96 64"]]       # log-mel patch that ends with the frame
    audio_valid: NotRequired[Bool[Array, ""]]       # False where there is no audio


@struct.dataclass
class Instances:
    """The prediction of a VIS model for one frame, or for the target frame of each sample.

    The first three fields are those of every model's prediction (`vseg_jax.models.base`). The
    fields are typed `Any` because JAX also puts shapes and axis numbers in their place.

    Attributes:
      logits: [..., N, H, W] float, one map per slot of the model, before the sigmoid.
      scores: [..., N] float in [0, 1], of the most probable category.
      frame: [...] int32, index of the frame.
      probabilities: [..., N, K + 1] float, of K categories and, last, of "no object".
      identities: [..., N] int32, the same number for the same object in all frames of a stream
        (and for objects that use the same slot at different times); negative where a slot has no
        object.
    """

    logits: Any
    scores: Any
    frame: Any
    probabilities: Any
    identities: Any


def fired(
    probabilities: Float[Array, "*B N K"], threshold: float | Float[Array, "*B N"]
) -> Bool[Array, "*B N"]:
    """Returns which slots have a category of at least `threshold`; the last is "no object"."""
    return probabilities[..., :-1].max(-1) >= threshold


def batch_shapes(
    samples: int, frames: int, height: int, width: int, objects: int, *, uses_audio: bool = False
) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of one global batch."""
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
