"""Sessions in files: one .npz with the model's state, the frames that wait, and all numbers.

A file belongs to a model: its class, config and weights, and the settings of the segmenter that
change what the model sees. It holds arrays and JSON only, so reading it executes nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vseg_jax.atomic import atomic_file
from vseg_jax.inference.engine import Engine
from vseg_jax.training.checkpoints import path_name

VERSION = 1
_HEADER = "header"   # entry with the JSON


def write(
    path: Path, engine: Engine, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray],
    state: Any,
) -> None:
    """Writes a file atomically.

    Args:
      path: replaced if it exists.
      engine: that the session belongs to.
      header: values for JSON.
      arrays: of the session.
      state: of the model.
    """
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(state))
    header = {"version": VERSION, "model": _model(engine), **header,
              "state": [[path_name(place), str(leaf.dtype)] for place, leaf in leaves]}
    entries: dict[str, Any] = {_HEADER: np.frombuffer(json.dumps(header).encode(), np.uint8)}
    entries |= arrays
    entries |= {f"state/{i}": _plain(np.asarray(leaf)) for i, (_, leaf) in enumerate(leaves)}
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **entries)


def read(path: Path, engine: Engine) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns the header and the arrays of a file.

    Raises:
      ValueError: the file is missing, damaged, or belongs to another model or version.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(arrays.pop(_HEADER).tobytes())
        version, model = header["version"], header["model"]
    except FileNotFoundError as error:
        raise ValueError(f"there is no saved session {path}") from error
    except (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError,
            NotImplementedError, zlib.error, zipfile.BadZipFile) as error:
        raise damaged(path, error) from error
    if version != VERSION:
        raise ValueError(f"{path} has version {version}, but this code reads version {VERSION}; "
                         "start the session again")
    ours = json.loads(json.dumps(_model(engine)))
    differing = [f"{key}: {model.get(key)!r} in the file, {ours.get(key)!r} here"
                 for key in sorted({*model, *ours}) if model.get(key) != ours.get(key)]
    if differing:
        raise ValueError(f"{path} was saved with another model; load the one that it was saved "
                         "with\n" + "\n".join(f"  {line}" for line in differing))
    return header, arrays


def damaged(path: Path, error: Exception) -> ValueError:
    """Returns the error for a file that is not what `write` wrote."""
    return ValueError(f"{path} is not a saved session, or is damaged ({error}); it must be what "
                      "Session.save wrote")


def state_of(
    path: Path, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray], shapes: Any
) -> Any:
    """Returns the model's state, on the device.

    Args:
      path: of the file, for messages.
      header, arrays: from `read`.
      shapes: of the state that the model makes; only its structure counts.

    Raises:
      ValueError: the state in the file has another structure.
    """
    wanted, structure = jax.tree_util.tree_flatten_with_path(shapes)
    # Sizes depend on what the session has seen: the report on adaptation has as many objects as the
    # first mask.
    ours = [(path_name(place), str(leaf.dtype), leaf.ndim) for place, leaf in wanted]
    theirs = [(name, dtype, arrays[f"state/{i}"].ndim)
              for i, (name, dtype) in enumerate(header["state"])]
    differing = [f"{a[0]}: {a[1:]} in the file, {b[1:]} here" if a[0] == b[0] else
                 f"{a[0]} in the file, {b[0]} here" for a, b in zip(theirs, ours, strict=False)
                 if a != b]
    if differing or len(theirs) != len(ours):
        raise ValueError(f"the state in {path} is not that of this model; it was saved by another "
                         f"version of it: {'; '.join(differing[:3]) or 'the number of arrays'}")
    leaves = [arrays[f"state/{i}"].view(np.dtype(dtype))
              for i, (_, dtype) in enumerate(header["state"])]
    return jax.device_put(jax.tree_util.tree_unflatten(structure, leaves))


def _model(engine: Engine) -> dict[str, Any]:
    """Returns what the states of two engines must have in common, as flat values for JSON."""
    config = dataclasses.asdict(engine.model.config)
    clip = None if engine.clip is None else dataclasses.asdict(engine.clip)
    return {"class": type(engine.model).__name__, "short_side": engine.short_side, "clip": clip,
            "weights": engine.fingerprint, "delay": engine.model.delay,
            **{f"config.{key}": value for key, value in config.items()}}


def model_digest(engine: Engine) -> str:
    """Returns a hash of the model, its weights and what else determines its predictions."""
    text = json.dumps(_model(engine), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _plain(array: np.ndarray) -> np.ndarray:
    # numpy's format does not know bfloat16 and similar types.
    return array if array.dtype.isbuiltin else array.view(np.dtype(f"u{array.dtype.itemsize}"))
