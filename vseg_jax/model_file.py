"""One file for a whole model: arrays, config and tokenizer, in the safetensors format.

Each array has the name of its path in the model's variables, such as "params/encoder/stem/kernel"
or "batch_stats/encoder/stem_norm/mean"; `parameters.txt` of a training run lists them. All else is
JSON under the key "vseg_jax" of the file's metadata. A SHA-256 of everything is part of it, because
the format itself notices only a file that is cut off.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from vseg_jax.atomic import atomic_file

SUFFIX = ".safetensors"
VERSION = 1
_KEY = "vseg_jax"     # in the metadata
_DIGEST = "sha256"    # in the JSON below it


@dataclasses.dataclass(frozen=True)
class ModelFile:
    """What a file holds.

    Attributes:
      arrays: by name.
      about: JSON values that describe the model.
      texts: small text files that belong to the model, by name.
    """

    arrays: dict[str, np.ndarray]
    about: dict[str, Any]
    texts: dict[str, str] = dataclasses.field(default_factory=dict)


def write(path: str | os.PathLike, content: ModelFile, half: bool = False) -> None:
    """Writes a file, whole or not at all.

    Args:
      path: must not exist.
      content: what the file will hold.
      half: stores kernels and embeddings (float32 arrays of two or more axes) as float16. Vectors,
        among them all statistics, and arrays with values outside float16's range stay as they are.
        Reading restores the type, and the values to about three decimal digits.

    Raises:
      ValueError: the file exists.
    """
    path = Path(path)
    if path.exists():
        raise ValueError(f"{path} already exists; name a new file or remove it first")
    arrays = {name: np.asarray(array, order="C") for name, array in content.arrays.items()}
    stored = {name: _halved(array) if half else array for name, array in arrays.items()}
    header = {
        "version": VERSION, "about": content.about, "texts": content.texts,
        "dtypes": {name: str(array.dtype) for name, array in arrays.items()
                   if stored[name].dtype != array.dtype},
    }
    header[_DIGEST] = _digest(header, stored)
    with atomic_file(path) as temporary:
        safetensors.numpy.save_file(stored, temporary, {_KEY: json.dumps(header)})


def read(path: str | os.PathLike) -> ModelFile:
    """Returns the content of a file, with the arrays in the types that they had.

    Raises:
      ValueError: the file is damaged, was not written by `write`, or by a later version of it.
    """
    header = _header(path)
    try:
        stored = safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError, KeyError) as error:
        raise ValueError(f"{path} cannot be read ({error}); get the file again") from error
    if _digest(header, stored) != header.get(_DIGEST):
        raise ValueError(f"{path} is damaged: its checksum does not fit its content; get the file "
                         "again")
    for name, dtype in header["dtypes"].items():
        stored[name] = stored[name].astype(dtype)
    return ModelFile(stored, header["about"], header["texts"])


def read_about(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Returns `about` and {name of an array: shape} without reading the arrays.

    Raises:
      ValueError: as `read`, but only the beginning of the file is checked.
    """
    header = _header(path)
    with safetensors.safe_open(path, "numpy") as file:
        names = file.keys()
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    return header["about"], shapes


def _header(path: str | os.PathLike) -> dict[str, Any]:
    """Returns the JSON of a file's metadata."""
    try:
        with safetensors.safe_open(path, "numpy") as file:
            text = (file.metadata() or {}).get(_KEY)
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}); get the file again"
                         ) from error
    if text is None:
        raise ValueError(f"{path} holds arrays without the model that they belong to; `vseg export "
                         f"--output FILE{SUFFIX}` writes files that can be loaded")
    try:
        header = json.loads(text)
        version = header["version"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged: its description cannot be read ({error!r}); get the "
                         "file again") from error
    if version != VERSION:
        raise ValueError(f"{path} has version {version} of the format, but this vseg_jax reads "
                         f"version {VERSION}; update vseg_jax, or export the model again")
    if not {"about", "texts", "dtypes"} <= header.keys():
        raise ValueError(f"{path} is damaged: its description is incomplete; get the file again")
    return header


def _halved(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.float32 or array.ndim < 2:
        return array
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return half if np.isfinite(half).all() else array


def _digest(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Returns the SHA-256 of the arrays and of all of the header but the digest itself."""
    rest = {key: value for key, value in header.items() if key != _DIGEST}
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\n{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data)
    return digest.hexdigest()
