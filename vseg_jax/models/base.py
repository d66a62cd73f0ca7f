"""The one face of all models: pure functions over pytrees.

A model is an object made from its config (a frozen dataclass); it holds no arrays. Its functions
are pure and can be jitted, vmapped and scanned. `variables` is a dict of flax collections:
`params` is what the optimizer trains, every other collection (batch statistics, queues, momentum
encoders) is replaced by what `loss` returns.
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
    """What a model says of one frame or of one sample of a batch.

    The fields are typed `Any` because JAX also puts shapes and axis numbers in their place.

    Attributes:
      logits: [..., N, H, W] float, one map an object, before the sigmoid, at the model's input
        size; N is 1 where a sentence names one object.
      scores: [..., N] float in [0, 1].
      frame: [...] int32, index of the frame the answer is for; negative while a model that answers
        with a delay has nothing to say yet.
    """

    logits: Any
    scores: Any
    frame: Any


def reads_flow(model: Any) -> bool:
    """Whether batches and streams bring pictures of the optical flow for this model."""
    return getattr(model, "flow", False)


def one_object(logits: jax.Array, frame: jax.Array) -> Prediction:
    """The answer of a model of sentences: logits [B, H, W] of one object, frame numbers [B].

    Its score is the foreground's mean probability (inferred).
    """
    region = foreground(logits)
    score = (jax.nn.sigmoid(logits) * region).sum((1, 2)) / jnp.maximum(region.sum((1, 2)), 1)
    return Prediction(logits[:, None], score[:, None], frame)


def quick_key(key: jax.Array) -> jax.Array:
    """A key for initial parameters: hundreds of draws with threefry take the CPU's compiler a
    minute and more, so threefry seeds a quicker generator once."""
    return jax.random.wrap_key_data(jax.random.bits(key, (4,), jnp.uint32), impl="unsafe_rbg")


@runtime_checkable
class Model(Protocol):
    """What training and inference know of a model.

    `task` says which batch and which prompt it reads: see `vseg_jax.tasks`.

    A model that reads tokens may also have `vocabulary`, the number of token ids it knows: a
    tokenizer with more of them is then refused before training. One that reads optical flow has
    `flow` (see `reads_flow`). One of the task "vis" has `uses_audio`;
    `first_step(variables, frame, prompt)`, which is `start` with the prediction for the first
    frame; and `summary(state)`, category and score of each identity.
    """

    config: Any  # a frozen dataclass
    task: str   # "rvos", "vos" or "vis"
    delay: int  # frames between the one that `step` is given and the one that it answers for

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        """Random variables for batches shaped like `batch` (only shapes are read)."""

    def pretrained(self, variables: Variables) -> Variables:
        """`variables` with the public weights that the config names put in; host code, not jitted.

        Raises:
          ValueError: a weight file lacks a key or has one left over.
        """

    def loss(
        self, variables: Variables, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, Variables, Means]:
        """Scalar loss, the replaced non-`params` collections, and {name: (sum, count)}."""

    def predict(self, variables: Variables, batch: Batch) -> Prediction:
        """The answer for each sample of a batch (target frame of a clip model), leading axis B."""

    def start(self, variables: Variables, frame: jax.Array, prompt: Any) -> Any:
        """The streaming state after the first frame ([H, W, 3] uint8); fixed capacity.

        Of a model that reads flow, frames have six channels here and in `step`: behind the colors
        the picture (`vseg_jax.input_pipeline.flow.flow_to_image`) of the flow from the previous
        frame.
        """

    def step(self, variables: Variables, state: Any, frame: jax.Array) -> tuple[Any, Prediction]:
        """Takes the next frame and answers; no leading batch axis, `jax.vmap` adds one.

        Models of the tasks "vos" and "vis" take a further argument, `prompt=None`: the masks of
        objects that enter with this frame, or its sound. With and without it are two programs.
        """
