"""The interface of all models: pure functions over pytrees.

A model is an object built from its config (a frozen dataclass); it holds no arrays. Its functions
are pure and can be jitted, vmapped and scanned. `variables` is a dict of flax collections: `params`
is what the optimizer trains; `loss` returns the new values of every other collection (batch
statistics, queues, momentum encoders).
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import struct

from vseg_jax.tasks import Means
from vseg_jax.tasks.rvos import foreground

Variables = dict[str, Any]
Batch = dict[str, jax.Array]


@struct.dataclass
class Prediction:
    """A model's prediction for one frame, or for each sample of a batch.

    The fields are typed `Any` because JAX also puts shapes and axis numbers in their place.

    Attributes:
      logits: [..., N, H, W] float, one map per object, before the sigmoid, at the size of the
        model's input. N is 1 where a referring expression names one object.
      scores: [..., N] float in [0, 1].
      frame: [...] int32, number of the predicted frame; negative while a model with a delay has no
        prediction yet.
    """

    logits: Any
    scores: Any
    frame: Any


def reads_flow(model: Any) -> bool:
    """Returns whether batches and streams must contain pictures of the optical flow for `model`."""
    return getattr(model, "flow", False)


def one_object(logits: jax.Array, frame: jax.Array) -> Prediction:
    """Returns the prediction of one object from logits [B, H, W] and frame numbers [B].

    Its score is the mean probability over the foreground (inferred).
    """
    region = foreground(logits)
    score = (jax.nn.sigmoid(logits) * region).sum((1, 2)) / jnp.maximum(region.sum((1, 2)), 1)
    return Prediction(logits[:, None], score[:, None], frame)


def quick_key(key: jax.Array) -> jax.Array:
    """Returns a key of a faster generator for initial parameters, seeded from `key`.

    The CPU compiler takes more than a minute for hundreds of draws with threefry.
    """
    return jax.random.wrap_key_data(jax.random.bits(key, (4,), jnp.uint32), impl="unsafe_rbg")


@runtime_checkable
class Model(Protocol):
    """The interface between a model and training and inference.

    `task` determines the batch and the prompt that the model reads: see `vseg_jax.tasks`.

    Some models have more attributes:
      progress: {name: format} of the means of `loss` that the progress bar shows after the loss, in
        this order, for example {"iou": "IoU {:.0%}"}; those that a step lacks are left out.
      vocabulary: number of token ids that a model of the task "rvos" knows. A tokenizer with more
        ids is refused before training.
      flow: whether the model reads optical flow (see `reads_flow`).
      heat_map: `heat_map(variables, batch)` returns where each sample's expression points, float
        [B, h, w] in [0, 1] over the target frame, for a picture.
      remarks: `remarks(means)` returns sentences about the last means of training, for the reader
        of a run's last lines.
      grow, remove: required for the task "vos". `grow(state, slots)` returns the state with more
        slots, `remove(state, slots)` the one without the objects in the slots, [N] bool, that are
        True. `start` makes as many slots as the prompt's `named` has entries.
      uses_audio, first_step, summary: required for the task "vis". `first_step(variables, frame,
        prompt)` is `start` that also returns the prediction for the first frame; `summary(state)`
        returns category and score of each identity.
    """

    config: Any  # a frozen dataclass
    task: str   # "rvos", "vos" or "vis"
    delay: int  # number of frames between the one that `step` takes and the one that it predicts

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        """Returns random variables for batches shaped like `batch` (only shapes are read)."""

    def pretrained(self, variables: Variables) -> Variables:
        """Returns `variables` with the public weights that the config names; runs on the host.

        Raises:
          ValueError: a weight file lacks a key or has one too many.
        """

    def loss(
        self, variables: Variables, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, Variables, Means]:
        """Returns the scalar loss, the new non-`params` collections, and {name: (sum, count)}."""

    def predict(self, variables: Variables, batch: Batch) -> Prediction:
        """Returns predictions with a leading axis B; of a clip model, for each target frame."""

    def start(self, variables: Variables, frame: jax.Array, prompt: Any) -> Any:
        """Returns the state of a stream after its first frame ([H, W, 3] uint8), of fixed size.

        For a model that reads flow, frames have six channels here and in `step`: the colors, then
        the picture (`vseg_jax.input_pipeline.flow.flow_to_image`) of the flow from the previous
        frame.
        """

    def step(self, variables: Variables, state: Any, frame: jax.Array) -> tuple[Any, Prediction]:
        """Takes the next frame and predicts; there is no batch axis, `jax.vmap` adds one.

        Models of the tasks "vos" and "vis" take another argument, `prompt=None`: the masks of
        objects that enter with this frame, or its audio. With and without it are two programs.
        """
