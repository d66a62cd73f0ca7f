"""Writes a trained model for use elsewhere: a checkpoint, and its streams as programs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vseg_jax.atomic import atomic_folder
from vseg_jax.export import onnx_step, stream
from vseg_jax.export.programs import Programs, entries, entry, in_turns, stream_inputs, together
from vseg_jax.inference.restore import Restored, restore, save, save_file, save_texts

PLATFORMS = ("cpu", "cuda", "tpu")


def export(
    source: str | os.PathLike, output: str | os.PathLike, *, platforms: tuple[str, ...] = PLATFORMS,
    size: tuple[int, int] | None = None, changes: Mapping[str, Any] | None = None,
) -> Path:
    """Writes the newest checkpoint of a training run into a new folder, atomically.

    The folder holds what `vseg_jax.load` reads (`about.json`; `tokenizer/` for a model of
    expressions; `categories.json` for a model that finds objects by itself; `variables/`, an orbax
    checkpoint without the optimizer), and `stream/`: the model's `start` (or `first_step`) and
    `step` as `jax.export` programs, which `vseg_jax.export.stream` runs without any code of the
    model. `stream/` can be moved alone.

    Args:
      source: see `vseg_jax.load`.
      output: must not exist.
      platforms: to compile the programs for. Layers that choose their algorithm by device choose
        for the exporting one, so export on the kind of device that should run fast.
      size: (height, width) of the programs' frames, for models that take frames of any size; None
        for the size of the training's clips, scaled to the shorter side that the run was evaluated
        at.
      changes: see `vseg_jax.inference.restore.restore`.

    Raises:
      ValueError: `source` cannot be read, or `output` exists.
    """
    restored = restore(source, changes)
    with atomic_folder(output) as folder:
        save(restored, folder)
        (folder / "stream").mkdir()
        export_stream(restored, folder / "stream", platforms, size)
    return Path(output)


def export_onnx(
    source: str | os.PathLike, output: str | os.PathLike, *,
    size: tuple[int, int] | None = None, changes: Mapping[str, Any] | None = None,
) -> Path:
    """Writes the streaming step of a model as one ONNX graph into a new folder, atomically.

    The folder holds `model.onnx`, its description `model.json`, and `tokenizer/` for a model of
    expressions. `docs/guides/export.md` shows how to run it.

    Args:
      source: see `vseg_jax.load`.
      output: must not exist.
      size: see `export`.
      changes: see `vseg_jax.inference.restore.restore`.

    Raises:
      ImportError: the extra "onnx" is not installed.
      ValueError: `source` cannot be read, `output` exists, or the model has no ONNX form; the
        message says why.
    """
    restored = restore(source, changes)
    with atomic_folder(output) as folder:
        onnx_step.write(restored, folder, size)
        save_texts(restored, folder)
    return Path(output)


def export_file(
    source: str | os.PathLike, output: str | os.PathLike, *, half: bool = False,
    slim: bool = False, changes: Mapping[str, Any] | None = None,
) -> list[str]:
    """Writes a model as one `.safetensors` file, which `vseg_jax.load` reads.

    Args:
      source: see `vseg_jax.load`.
      output: must not exist.
      half: stores the kernels in half precision, see `vseg_jax.model_file.write`.
      slim: see `vseg_jax.inference.restore.save_file`.
      changes: see `vseg_jax.inference.restore.restore`.

    Returns:
      The names of the arrays that were left out.

    Raises:
      ValueError: `source` cannot be read, `output` exists, or there is nothing to leave out.
    """
    return save_file(restore(source, changes), output, half=half, slim=slim)


def export_stream(
    restored: Restored, folder: Path, platforms: tuple[str, ...] = PLATFORMS,
    size: tuple[int, int] | None = None,
) -> None:
    """Writes the programs of S streams into a folder that `vseg_jax.export.stream.Stream` reads.

    S is symbolic. The frames' size is not: the capacity of a memory, and the number of pixels that
    it keeps, are computed from the size when the program is built.

    Streams are vmapped where possible. They run in turns if each has its own convolution kernels,
    computed from an expression or by adaptation: XLA's grouped convolutions need a fixed number of
    groups.

    Raises:
      ValueError: `size` is not the size of the frames that the model takes.
    """
    programs, exported = of_streams(restored, platforms, size)
    _write(programs, exported, restored, folder, platforms)


def of_streams(
    restored: Restored, platforms: tuple[str, ...], size: tuple[int, int] | None = None
) -> tuple[Programs, dict[str, tuple[bytearray, list[str]]]]:
    """Returns what `export_stream` writes: the programs, and their `export`."""
    inputs = stream_inputs(restored, size)
    try:
        programs = Programs(restored, inputs, together)
        return programs, programs.export(platforms)
    except NotImplementedError:   # raised by jax for such a group
        programs = Programs(restored, inputs, in_turns)
        return programs, programs.export(platforms)


def _write(
    programs: Programs, exported: dict[str, tuple[bytearray, list[str]]], restored: Restored,
    folder: Path, platforms: tuple[str, ...],
) -> None:
    for name, (program, _) in exported.items():
        (folder / f"{name}.bin").write_bytes(program)
    arrays = programs.arrays
    used = set().union(*(names for _, names in exported.values()))
    # numpy's format does not know bfloat16 and similar types: these are stored as plain integers,
    # next to their dtype.
    np.savez(folder / "variables.npz",
             **{name: _plain(array) for name, array in arrays.items() if name in used})
    description = {
        "version": stream.VERSION, "delay": restored.model.delay, "platforms": list(platforms),
        "frame": entry(programs.inputs.frame), "prompt": entries(programs.inputs.prompt),
        "state": entries(programs.state), "prediction": entries(programs.prediction),
        "categories": list(restored.categories),
        "variables": {program: [(name, str(arrays[name].dtype)) for name in names]
                      for program, (_, names) in exported.items()},
    }
    (folder / "stream.json").write_text(json.dumps(description, indent=1) + "\n")


def _plain(array: Any) -> np.ndarray:
    array = np.asarray(array)
    return array if array.dtype.isbuiltin else array.view(np.dtype(f"u{array.dtype.itemsize}"))
