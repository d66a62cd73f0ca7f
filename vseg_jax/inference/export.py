"""Writes a trained model down for use elsewhere: a checkpoint, and its stream as programs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

from vseg_jax.inference import checkpoint, exported
from vseg_jax.inference.checkpoint import Restored
from vseg_jax.inference.files import whole_folder
from vseg_jax.training.checkpoints import path_name

PLATFORMS = ("cpu", "cuda", "tpu")
ANSWER = ("logits", "scores", "frame")   # of vseg_jax.models.base.Prediction


def export(
    source: str | os.PathLike, output: str | os.PathLike, *, platforms: tuple[str, ...] = PLATFORMS
) -> Path:
    """Writes the newest checkpoint of a training into a new folder, whole or not at all.

    The folder is what `vseg_jax.load` reads (`about.json`, `tokenizer/`, `variables/`: an orbax
    checkpoint without the optimiser), and `stream/`, the model's `start` and `step` with the memory
    between them as `jax.export` programs, which `vseg_jax.inference.exported` runs without any code
    of the model.

    Args:
      source: a training's working directory, or an exported folder.
      output: must not be there.
      platforms: that the programs are to run on. Layers that choose their algorithm by the device
        choose for the one that exports, so export where it is to be fast.

    Raises:
      ValueError: `source` cannot be read, `output` is there already.
    """
    restored = checkpoint.restore(source)
    with whole_folder(output) as folder:
        checkpoint.save(restored, folder)
        (folder / "stream").mkdir()
        export_stream(restored, folder / "stream", platforms)
    return Path(output)


def export_stream(restored: Restored, folder: Path, platforms: tuple[str, ...] = PLATFORMS) -> None:
    """Writes `start` and `step` of one stream into a folder; the layout is `exported.Stream`'s."""
    model, clip = restored.model, restored.clip
    leaves, tree = jax.tree.flatten_with_path(restored.variables)
    names = [path_name(path) for path, _ in leaves]
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for _, a in leaves]
    frame = jax.ShapeDtypeStruct((clip.height, clip.width, 3), np.uint8)
    length = restored.tokenizer.length
    prompt = {"tokens": jax.ShapeDtypeStruct((length,), np.int32),
              "tokens_valid": jax.ShapeDtypeStruct((length,), np.bool_)}
    seen: dict[str, Any] = {}   # the state's structure, known once `start` is traced

    def start(arrays, frame, inputs):
        state = model.start(jax.tree.unflatten(tree, arrays), frame,
                            dict(zip(prompt, inputs, strict=True)))
        seen["tree"] = jax.tree.structure(state)
        seen["names"] = [path_name(path) for path, _ in jax.tree.leaves_with_path(state)]
        return jax.tree.leaves(state)

    def step(arrays, state, frame):
        state, answer = model.step(jax.tree.unflatten(tree, arrays),
                                   jax.tree.unflatten(seen["tree"], state), frame)
        return jax.tree.leaves(state), [getattr(answer, name) for name in ANSWER]

    state = jax.eval_shape(start, shapes, frame, list(prompt.values()))
    answer = jax.eval_shape(step, shapes, state, frame)[1]
    used: dict[str, list[int]] = {}
    for name, function, *inputs in (("start", start, frame, list(prompt.values())),
                                    ("step", step, state, frame)):
        used[name] = _used(function, shapes, inputs)
        program = jax.export.export(
            jax.jit(_only(function, used[name], shapes)), platforms=platforms
        )([shapes[i] for i in used[name]], *inputs)
        (folder / f"{name}.bin").write_bytes(program.serialize())
    # numpy's format knows no bfloat16 and its like: these are stored as bytes beside their dtype.
    kept = sorted({i for indices in used.values() for i in indices})
    np.savez(folder / "variables.npz", **{names[i]: _plain(leaves[i][1]) for i in kept})
    description = {
        "version": exported.VERSION, "delay": model.delay, "platforms": list(platforms),
        "frame": _entry(frame), "prompt": [{"name": k, **_entry(v)} for k, v in prompt.items()],
        "state": [{"name": k, **_entry(v)} for k, v in zip(seen["names"], state, strict=True)],
        "prediction": [{"name": k, **_entry(v)} for k, v in zip(ANSWER, answer, strict=True)],
        "variables": {name: [(names[i], str(shapes[i].dtype)) for i in indices]
                      for name, indices in used.items()},
    }
    (folder / "stream.json").write_text(json.dumps(description, indent=1) + "\n")


def _used(function: Any, shapes: list[Any], inputs: list[Any]) -> list[int]:
    """Which arrays a program reads; a training's queues and second encoders stay behind."""
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
    return {"shape": list(array.shape), "dtype": str(array.dtype)}
