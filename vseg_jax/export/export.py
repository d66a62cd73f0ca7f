"""Writes a trained model down for use elsewhere: a checkpoint, and its stream as programs."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

from vseg_jax.atomic import atomic_folder
from vseg_jax.export import stream as exported
from vseg_jax.inference import restore as checkpoint
from vseg_jax.inference.restore import Restored
from vseg_jax.models.base import reads_flow
from vseg_jax.tasks import vis
from vseg_jax.training.checkpoints import path_name

PLATFORMS = ("cpu", "cuda", "tpu")


def export(
    source: str | os.PathLike, output: str | os.PathLike, *, platforms: tuple[str, ...] = PLATFORMS,
    size: tuple[int, int] | None = None, changes: Mapping[str, Any] | None = None,
) -> Path:
    """Writes the newest checkpoint of a training into a new folder, whole or not at all.

    The folder is what `vseg_jax.load` reads (`about.json`, `tokenizer/` for a model of sentences,
    `categories.json` for one that finds objects, `variables/`: an orbax checkpoint without the
    optimizer), and `stream/`, the model's `start` (or `first_step`) and `step` with the memory between
    them as `jax.export` programs, which `vseg_jax.export.stream` runs without any code of the
    model; it may be moved alone.

    Args:
      source: a training's working directory, or an exported folder.
      output: must not be there.
      platforms: that the programs are to run on. Layers that choose their algorithm by the device
        choose for the one that exports, so export where it is to be fast.
      size: (height, width) of the programs' frames, for models that take frames of any size; None
        is that of the training's clips.
      changes: see `vseg_jax.inference.restore.restore`.

    Raises:
      ValueError: `source` cannot be read, `output` is there already.
    """
    restored = checkpoint.restore(source, changes)
    with atomic_folder(output) as folder:
        checkpoint.save(restored, folder)
        (folder / "stream").mkdir()
        export_stream(restored, folder / "stream", platforms, size)
    return Path(output)


def export_stream(
    restored: Restored, folder: Path, platforms: tuple[str, ...] = PLATFORMS,
    size: tuple[int, int] | None = None,
) -> None:
    """Writes the programs of S streams into a folder; the layout is `exported.Stream`'s.

    S is symbolic. The frames' size is not: the capacity of a memory, and which pixels stay in it,
    are numbers that follow from the size when the program is made.

    Streams advance together where they can. They take turns where each has convolution kernels of
    its own, made by a sentence or by adaptation: XLA groups convolutions by a known number only.
    """
    try:
        _export(_together, restored, folder, platforms, size)
    except NotImplementedError:   # what jax says of such a group
        _export(_in_turns, restored, folder, platforms, size)


def _together(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function(variables, *inputs)` for inputs with a leading axis of streams."""
    return lambda variables, *inputs: jax.vmap(function, (None, *(0 for _ in inputs)))(
        variables, *inputs)


def _in_turns(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, one stream after another."""
    return lambda variables, *inputs: jax.lax.map(lambda one: function(variables, *one), inputs)


def _export(
    over_streams: Callable[..., Any], restored: Restored, folder: Path,
    platforms: tuple[str, ...], size: tuple[int, int] | None,
) -> None:
    model = restored.model
    leaves, tree = jax.tree.flatten_with_path(restored.variables)
    names = [path_name(path) for path, _ in leaves]
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for _, a in leaves]
    frame, prompt = _inputs(restored, size)
    inputs = list(prompt.values())
    finds = model.task == "vis"
    seen: dict[str, Any] = {}   # the state's structure, known once `start` is traced

    def started(function, arrays, frame, inputs):
        return over_streams(function)(
            jax.tree.unflatten(tree, arrays), frame, dict(zip(prompt, inputs, strict=True)))

    def start(arrays, frame, inputs):
        state = started(model.start, arrays, frame, inputs)
        seen["tree"] = jax.tree.structure(state)
        seen["names"] = [path_name(path) for path, _ in jax.tree.leaves_with_path(state)]
        return jax.tree.leaves(state)

    def first_step(arrays, frame, inputs):
        state, prediction = started(model.first_step, arrays, frame, inputs)
        return jax.tree.leaves(state), list(_fields(prediction).values())

    def step(arrays, state, frame, inputs=None):
        given = () if inputs is None else (dict(zip(prompt, inputs, strict=True)),)
        state, prediction = over_streams(model.step)(
            jax.tree.unflatten(tree, arrays), jax.tree.unflatten(seen["tree"], state), frame,
            *given)
        seen["fields"] = list(_fields(prediction))
        return jax.tree.leaves(state), list(_fields(prediction).values())

    state = jax.eval_shape(start, shapes, frame, inputs)
    prediction = jax.eval_shape(step, shapes, state, frame)[1]
    first = {"first_step": (first_step, frame, inputs)} if finds else {"start": (start, frame, inputs)}
    programs = {**first, "step": (step, state, frame)}
    if prompt and model.task != "rvos":
        programs["step_prompt"] = (step, state, frame, inputs)
    used: dict[str, list[int]] = {}
    for name, (function, *arguments) in programs.items():
        used[name] = _used(function, shapes, arguments)
        program = jax.export.export(
            jax.jit(_only(function, used[name], shapes)), platforms=platforms
        )([shapes[i] for i in used[name]], *arguments)
        (folder / f"{name}.bin").write_bytes(program.serialize())
    # numpy's format knows no bfloat16 and its like: these are stored as bytes beside their dtype.
    kept = sorted({i for indices in used.values() for i in indices})
    np.savez(folder / "variables.npz", **{names[i]: _plain(leaves[i][1]) for i in kept})
    description = {
        "version": exported.VERSION, "delay": model.delay, "platforms": list(platforms),
        "frame": _entry(frame), "prompt": [{"name": k, **_entry(v)} for k, v in prompt.items()],
        "state": [{"name": k, **_entry(v)} for k, v in zip(seen["names"], state, strict=True)],
        "prediction": [{"name": k, **_entry(v)} for k, v in zip(seen["fields"], prediction, strict=True)],
        "categories": list(restored.categories),
        "variables": {name: [(names[i], str(shapes[i].dtype)) for i in indices]
                      for name, indices in used.items()},
    }
    (folder / "stream.json").write_text(json.dumps(description, indent=1) + "\n")


def _fields(prediction: Any) -> dict[str, Any]:
    return {field.name: getattr(prediction, field.name)
            for field in dataclasses.fields(prediction)}


def _inputs(restored: Restored, size: tuple[int, int] | None) -> tuple[Any, dict[str, Any]]:
    """Shapes of the streams' frames and prompts."""
    if restored.model.task == "vos":
        height, width = size or restored.about["batch"]["frames"][0][2:4]
        prompt = {"mask": ((height, width), np.uint8)}
    else:
        height, width = restored.clip.height, restored.clip.width
        if size not in (None, (height, width)):
            raise ValueError(f"size is {size}; this model sees its clips' size, {height, width}")
        prompt = {}
        if restored.model.task == "rvos":
            length = restored.tokenizer.length
            prompt = {"tokens": ((length,), np.int32), "tokens_valid": ((length,), np.bool_)}
        elif restored.model.uses_audio:
            prompt = {"audio": (vis.PATCH, np.float32), "audio_valid": ((), np.bool_)}
    streams, = jax.export.symbolic_shape(exported.STREAMS)
    channels = 6 if reads_flow(restored.model) else 3
    return (jax.ShapeDtypeStruct((streams, height, width, channels), np.uint8),
            {name: jax.ShapeDtypeStruct((streams, *shape), dtype)
             for name, (shape, dtype) in prompt.items()})


def _used(function: Any, shapes: list[Any], inputs: list[Any]) -> list[int]:
    """Which arrays a program reads; a training's queues and second encoders stay behind."""
    # Of a number of streams: where it is symbolic, jax keeps every argument.
    inputs = jax.tree.map(lambda x: jax.ShapeDtypeStruct((2, *x.shape[1:]), x.dtype), inputs)
    program = jax.export.export(jax.jit(function))(shapes, *inputs)
    return [i for i in program.module_kept_var_idx if i < len(shapes)]


def _only(function: Any, indices: list[int], shapes: list[Any]) -> Any:
    """The function of the arrays at `indices` alone."""

    def of_few(arrays, *inputs):
        everything: list[Any] = [jax.numpy.zeros(s.shape, s.dtype) for s in shapes]
        for i, array in zip(indices, arrays, strict=True):
            everything[i] = array
        return function(everything, *inputs)

    return of_few


def _plain(array: Any) -> np.ndarray:
    array = np.asarray(array)
    return array if array.dtype.isbuiltin else array.view(np.dtype(f"u{array.dtype.itemsize}"))


def _entry(array: Any) -> dict[str, Any]:
    return {"shape": [n if isinstance(n, int) else str(n) for n in array.shape],
            "dtype": str(array.dtype)}
