"""A model's streams as `jax.export` programs on flat lists of arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.export
import numpy as np

from vseg_jax.export.stream import STREAMS
from vseg_jax.inference.restore import Restored
from vseg_jax.models.base import reads_flow
from vseg_jax.tasks.vis import PATCH
from vseg_jax.training.checkpoints import path_name

Specs = dict[str, tuple[tuple[int, ...], Any]]  # name -> shape without the streams' axis, dtype


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The inputs of S streams; S is symbolic.

    Attributes:
      frame: shape of the frames.
      prompt: {name: shape} of the prompt's entries.
      first: the model's method for the first frame: "start", or "first_step" where that frame has a
        prediction of its own.
      prompts_later: whether later frames may have a prompt, too.
    """

    frame: jax.ShapeDtypeStruct
    prompt: dict[str, jax.ShapeDtypeStruct]
    first: str
    prompts_later: bool


def stream_inputs(restored: Restored, size: tuple[int, int] | None) -> Inputs:
    """Returns the inputs of a model's streams.

    Args:
      restored: the model.
      size: see `vseg_jax.export.export.export`.

    Raises:
      ValueError: the model takes frames of another size.
    """
    (height, width), prompt, first, later = _OF_TASK[restored.model.task](restored, size)
    streams, = jax.export.symbolic_shape(STREAMS)
    channels = 6 if reads_flow(restored.model) else 3
    return Inputs(
        jax.ShapeDtypeStruct((streams, height, width, channels), np.uint8),
        {name: jax.ShapeDtypeStruct((streams, *shape), dtype)
         for name, (shape, dtype) in prompt.items()},
        first, later and bool(prompt),
    )


def _of_expressions(
    restored: Restored, size: tuple[int, int] | None
) -> tuple[tuple[int, int], Specs, str, bool]:
    length = restored.tokenizer.length
    prompt = {"tokens": ((length,), np.int32), "tokens_valid": ((length,), np.bool_)}
    return _clip_size(restored, size), prompt, "start", False


def _of_masks(
    restored: Restored, size: tuple[int, int] | None
) -> tuple[tuple[int, int], Specs, str, bool]:
    height, width = size or restored.about["batch"]["frames"][0][2:4]
    if size is None and restored.short_side:
        scale = restored.short_side / min(height, width)
        height, width = round(height * scale), round(width * scale)
    return (height, width), {"mask": ((height, width), np.uint8)}, "start", True


def _of_instances(
    restored: Restored, size: tuple[int, int] | None
) -> tuple[tuple[int, int], Specs, str, bool]:
    prompt: Specs = {}
    if restored.model.uses_audio:
        prompt = {"audio": (PATCH, np.float32), "audio_valid": ((), np.bool_)}
    return _clip_size(restored, size), prompt, "first_step", True


_OF_TASK = {"rvos": _of_expressions, "vos": _of_masks, "vis": _of_instances}


def _clip_size(restored: Restored, size: tuple[int, int] | None) -> tuple[int, int]:
    height, width = restored.clip.height, restored.clip.width
    if size not in (None, (height, width)):
        raise ValueError(f"size is {size}, but this model takes frames of its clips' size, "
                         f"{height, width}; leave size out")
    return height, width


def together(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `function(variables, *inputs)` for inputs with a leading axis of streams."""
    return lambda variables, *inputs: jax.vmap(function, (None, *(0 for _ in inputs)))(
        variables, *inputs)


def in_turns(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the same function as `together`, which runs one stream after another."""
    return lambda variables, *inputs: jax.lax.map(lambda one: function(variables, *one), inputs)


class Programs:
    """The programs of a model's streams.

    Attributes:
      inputs: of the streams.
      arrays: {name: array} of the model's variables, in the order of the programs' first argument.
      state: {name: shape} of the state's arrays.
      prediction: {name: shape} of the prediction, by the field names of its dataclass.
    """

    def __init__(
        self, restored: Restored, inputs: Inputs,
        over_streams: Callable[[Callable[..., Any]], Callable[..., Any]],
    ):
        self.inputs = inputs
        self._model, self._over_streams = restored.model, over_streams
        leaves, self._variables_tree = jax.tree.flatten_with_path(restored.variables)
        self.arrays = {path_name(path): array for path, array in leaves}
        self._shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in self.arrays.values()]
        variables = jax.tree.unflatten(self._variables_tree, self._shapes)
        # The structures of state and prediction must be known before `step` can be traced.
        state = jax.eval_shape(
            over_streams(self._model.start), variables, inputs.frame, inputs.prompt)
        _, prediction = jax.eval_shape(
            over_streams(self._model.step), variables, state, inputs.frame)
        self._state_tree = jax.tree.structure(state)
        self.state = {path_name(path): leaf for path, leaf in jax.tree.leaves_with_path(state)}
        self.prediction = fields(prediction)

    def export(self, platforms: Sequence[str]) -> dict[str, tuple[bytearray, list[str]]]:
        """Returns {name: (program, names of the variables that it reads)}."""
        frame, prompt = self.inputs.frame, list(self.inputs.prompt.values())
        state = list(self.state.values())
        first = {"start": self._start, "first_step": self._first_step}[self.inputs.first]
        programs: dict[str, tuple[Any, ...]] = {
            self.inputs.first: (first, frame, prompt), "step": (self._step, state, frame)}
        if self.inputs.prompts_later:
            programs["step_prompt"] = (self._step, state, frame, prompt)
        return {name: self._export(platforms, *program) for name, program in programs.items()}

    def _export(
        self, platforms: Sequence[str], function: Callable[..., Any], *inputs: Any
    ) -> tuple[bytearray, list[str]]:
        indices, names = self._used(function, inputs), list(self.arrays)

        def of_used(arrays: list[Any], *inputs: Any) -> Any:
            everything: list[Any] = [jax.numpy.zeros(s.shape, s.dtype) for s in self._shapes]
            for i, array in zip(indices, arrays, strict=True):
                everything[i] = array
            return function(everything, *inputs)

        program = jax.export.export(jax.jit(of_used), platforms=platforms)(
            [self._shapes[i] for i in indices], *inputs)
        return program.serialize(), [names[i] for i in indices]

    def _used(self, function: Callable[..., Any], inputs: Any) -> list[int]:
        """Returns the variables that a program reads, without training's queues and such."""
        # For a fixed number of streams: jax keeps every argument where the number is symbolic.
        inputs = jax.tree.map(lambda x: jax.ShapeDtypeStruct((2, *x.shape[1:]), x.dtype), inputs)
        program = jax.export.export(jax.jit(function))(self._shapes, *inputs)
        return [i for i in program.module_kept_var_idx if i < len(self._shapes)]

    def _start(self, arrays: list[Any], frame: Any, prompt: list[Any]) -> list[Any]:
        state = self._run(self._model.start, arrays, frame, self._named(prompt))
        return jax.tree.leaves(state)

    def _first_step(
        self, arrays: list[Any], frame: Any, prompt: list[Any]
    ) -> tuple[list[Any], list[Any]]:
        state, prediction = self._run(self._model.first_step, arrays, frame, self._named(prompt))
        return jax.tree.leaves(state), list(fields(prediction).values())

    def _step(
        self, arrays: list[Any], state: list[Any], frame: Any, prompt: list[Any] | None = None
    ) -> tuple[list[Any], list[Any]]:
        prompts = () if prompt is None else (self._named(prompt),)
        state, prediction = self._run(
            self._model.step, arrays, jax.tree.unflatten(self._state_tree, state), frame, *prompts)
        return jax.tree.leaves(state), list(fields(prediction).values())

    def _run(self, function: Callable[..., Any], arrays: list[Any], *inputs: Any) -> Any:
        variables = jax.tree.unflatten(self._variables_tree, arrays)
        return self._over_streams(function)(variables, *inputs)

    def _named(self, prompt: list[Any]) -> dict[str, Any]:
        return dict(zip(self.inputs.prompt, prompt, strict=True))


def fields(prediction: Any) -> dict[str, Any]:
    """Returns the values of a prediction by the names of its fields."""
    return {field.name: getattr(prediction, field.name)
            for field in dataclasses.fields(prediction)}


def entries(shapes: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns what a description says of named arrays: name, shape and dtype of each."""
    return [{"name": name, **entry(shape)} for name, shape in shapes.items()]


def entry(array: Any) -> dict[str, Any]:
    """Returns what a description says of an array: its shape and its dtype."""
    return {"shape": [n if isinstance(n, int) else str(n) for n in array.shape],
            "dtype": str(array.dtype)}
