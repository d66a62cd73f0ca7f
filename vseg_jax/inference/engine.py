"""A model on the device with its compiled programs, and what turns videos into its input."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vseg_jax.input_pipeline.flow import dis_flows, flow_to_image
from vseg_jax.input_pipeline.settings import ClipConfig
from vseg_jax.input_pipeline.text import Tokenizer
from vseg_jax.input_pipeline.transforms import Geometry
from vseg_jax.models.base import Model, Prediction, Variables, reads_flow
from vseg_jax.tasks.vis import Instances
from vseg_jax.tasks.vos import SlotMasks
from vseg_jax.training.checkpoints import path_name

Images = Sequence[np.ndarray] | np.ndarray        # one per stream
Masks = Sequence[np.ndarray | None] | np.ndarray  # one per stream, None for those without
Outputs = Prediction | SlotMasks | Instances      # of one frame of each stream
FlowFunction = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Engine:
    """A model, its variables on the device, and what its task needs in addition.

    Inputs and outputs of all methods have a leading axis of streams. A program is compiled once for
    a model, a number of streams and an input size, and is shared by all engines of that model.

    Attributes:
      model: the model.
      variables: its variables, on the device.
      tokenizer: for models that take a query, else None.
      clip: the size of the model's input, for models that see all frames at one size, else None.
      protocol: how a query's probabilities become masks; see `Segmentation`.
      short_side: for models that take mask prompts: the shorter side of the model's input in
        pixels; 0 keeps the frame's size.
      flow: the function that computes optical flow; None if the model does not read flow.
      categories: the names of the classes, for models that find objects by themselves, else ().
      uses_audio: whether the model takes the video's audio.
    """

    def __init__(
        self, model: Model, variables: Variables, *, tokenizer: Tokenizer | None = None,
        clip: ClipConfig | None = None, protocol: str = "legacy", short_side: int = 0,
        flow: FlowFunction | None = None, categories: Sequence[str] = (),
    ) -> None:
        if flow is not None and not reads_flow(model):
            raise ValueError("this model reads no optical flow; leave out `flow`")
        self.model = model
        self.variables = jax.device_put(variables)
        self.tokenizer = tokenizer
        self.clip = clip
        self.protocol = protocol
        self.short_side = short_side
        self.flow = (flow or dis_flows) if reads_flow(model) else None
        self.categories = tuple(categories)
        self.uses_audio: bool = getattr(model, "uses_audio", False)

    def inputs(
        self, frames: Images, geometries: Sequence[Geometry], flow: Images | None = None
    ) -> np.ndarray:
        """Returns the frames at the model's input size, uint8 [streams, H, W, 3 or 6].

        For models that read flow, the last three channels are the picture of the flow; without
        `flow`, that of no motion.
        """
        images = np.stack([g.frame(f) for g, f in zip(geometries, frames, strict=True)])
        if self.flow is None:
            return images
        if flow is None:
            flow = [np.zeros((*g.crop[2:], 2), np.float32) for g in geometries]
        pictures = [g.frame(flow_to_image(f)) for g, f in zip(geometries, flow, strict=True)]
        return np.concatenate([images, np.stack(pictures)], axis=-1)

    def input_shape(self, streams: int, size: tuple[int, int]) -> jax.ShapeDtypeStruct:
        """Returns the shape of what `inputs` returns for so many streams at a size."""
        channels = 3 if self.flow is None else 6
        return jax.ShapeDtypeStruct((streams, *size, channels), np.uint8)

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of the variables, which tells whether two engines have the same."""
        digest = hashlib.blake2b(digest_size=16)
        for path, leaf in jax.tree_util.tree_leaves_with_path(self.variables):
            array = np.asarray(leaf)
            digest.update(f"{path_name(path)} {array.dtype} {array.shape} ".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    def start(self, inputs: np.ndarray | jax.Array, prompts: Any) -> Any:
        """Returns the streams' states after their first frames."""
        return _start(self.model, self.variables, inputs, prompts)

    def first_step(
        self, inputs: np.ndarray | jax.Array, prompts: Any
    ) -> tuple[Any, Outputs]:
        """Returns states and predictions after the first frames, for models that find objects."""
        return _first_step(self.model, self.variables, inputs, prompts)

    def step(self, states: Any, inputs: np.ndarray, prompts: Any = None) -> tuple[Any, Outputs]:
        """Returns states and predictions after the next frames; `states` is donated."""
        return _step(self.model, self.variables, states, inputs, prompts)

    def grow(self, states: Any, slots: int) -> Any:
        """Returns the states with more slots, for models that take mask prompts."""
        return _grow(self.model, states, slots)

    def remove(self, states: Any, slots: np.ndarray) -> Any:
        """Returns the states with these slots free, bool [streams, N]; `states` is donated."""
        return _remove(self.model, states, slots)

    def select(self, chosen: np.ndarray, states: Any, others: Any) -> Any:
        """Returns the states of the `chosen` streams, bool [streams], and the `others` elsewhere.

        `others` is donated.
        """
        return _select(chosen, states, others)

    def summary(self, states: Any) -> Any:
        """Returns the model's summary of the identities of each stream."""
        return _summary(self.model, states)


@functools.partial(jax.jit, static_argnums=0)
def _start(model: Model, variables: Variables, frames: jax.Array, prompts: Any) -> Any:
    return over_streams(model.start)(variables, frames, prompts)


# The models of the task "vis" have `first_step` and `summary` in addition to what `Model` lists.
@functools.partial(jax.jit, static_argnums=0)
def _first_step(
    model: Any, variables: Variables, frames: jax.Array, prompts: Any
) -> tuple[Any, Outputs]:
    inputs = (frames,) if prompts is None else (frames, prompts)
    return over_streams(model.first_step)(variables, *inputs)


@functools.partial(jax.jit, static_argnums=0)
def _summary(model: Any, states: Any) -> Any:
    return jax.vmap(model.summary)(states)


# The models of the task "vos" have `grow` and `remove`.
@functools.partial(jax.jit, static_argnums=(0, 2))
def _grow(model: Any, states: Any, slots: int) -> Any:
    return jax.vmap(lambda state: model.grow(state, slots))(states)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _remove(model: Any, states: Any, slots: jax.Array) -> Any:
    return jax.vmap(model.remove)(states, slots)


@functools.partial(jax.jit, donate_argnums=2)
def _select(chosen: jax.Array, states: Any, others: Any) -> Any:
    return jax.tree.map(
        lambda one, other: jnp.where(chosen.reshape(-1, *[1] * (one.ndim - 1)), one, other),
        states, others)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _step(
    model: Model, variables: Variables, states: Any, frames: jax.Array, prompts: Any
) -> tuple[Any, Outputs]:
    # Two programs at most: with and without prompts.
    inputs = (states, frames) if prompts is None else (states, frames, prompts)
    return over_streams(model.step)(variables, *inputs)


def over_streams(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `function(variables, *inputs)` for inputs with a leading axis of streams.

    A single stream is not vmapped, so that a condition in the model stays a branch; under vmap both
    sides of it would be computed.
    """
    def of_all(variables: Variables, *inputs: Any) -> Any:
        if jax.tree.leaves(inputs)[0].shape[0] != 1:
            return jax.vmap(function, in_axes=(None, *(0 for _ in inputs)))(variables, *inputs)
        outputs = function(variables, *jax.tree.map(lambda x: x[0], inputs))
        return jax.tree.map(lambda x: x[None], outputs)

    return of_all
