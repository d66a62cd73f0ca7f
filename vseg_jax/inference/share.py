"""The parts of a model that travel in one file: its arrays by name, and its small text files.

Arrays that a package of public weights holds unchanged (`vseg_jax.packages`) can stay out of the
file: the model's own `pretrained` puts them back.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from vseg_jax import models
from vseg_jax.models.base import Variables
from vseg_jax.packages import SCHEME

LEFT_OUT = "left_out"   # in `about`: {name of an array that is not in the file: shape}


def flat(variables: Variables) -> dict[str, Any]:
    """Returns the arrays of a model by name."""
    return traverse_util.flatten_dict(dict(variables), sep="/")


def without_paths(value: Any) -> Any:
    """Returns JSON values with absolute paths cut to their last part: "/home/me/DAVIS" to "DAVIS".

    A file that is passed on need not tell how its author's machine is laid out, and nothing in it
    is read from these paths. The section `train` has patterns and no paths, and stays as it is.
    """
    if isinstance(value, Mapping):
        return {key: part if key == "train" else without_paths(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(part) for part in value]
    return Path(value).name if isinstance(value, str) and os.path.isabs(value) else value


def public_arrays(config: Mapping[str, Any], wanted: Variables) -> dict[str, np.ndarray]:
    """Returns the arrays of a model that installed packages of public weights fill.

    Args:
      config: with the keys `system` and `model`; fields of the model that end in "_weights" name
        public weights. Those that name a file of some machine are not read.
      wanted: shapes and dtypes of the model's variables.

    Raises:
      ValueError: a package is missing, or holds other weights than it should.
    """
    sources = {name: value if str(value).startswith(SCHEME) else ""
               for name, value in config["model"].items() if name.endswith("_weights")}
    if not any(sources.values()):
        return {}
    model = models.build(config["system"], {**config["model"], **sources})
    unknown = jax.tree.map(
        lambda x: np.full(x.shape, math.nan if jax.numpy.issubdtype(x.dtype, jax.numpy.floating)
                          else 0, x.dtype), wanted)
    found, before = flat(model.pretrained(unknown)), flat(unknown)
    return {name: np.asarray(array) for name, array in found.items() if array is not before[name]}


def without_public(
    arrays: Mapping[str, np.ndarray], public: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, list[int]]]:
    """Returns the arrays that differ from the public ones, and the shapes of those that do not."""
    same = {name for name, array in public.items() if np.array_equal(arrays[name], array)}
    return ({name: array for name, array in arrays.items() if name not in same},
            {name: list(arrays[name].shape) for name in sorted(same)})


def with_public(variables: Variables, about: Mapping[str, Any], wanted: Variables) -> Variables:
    """Returns the variables of a file together with the arrays that were left out of it.

    Raises:
      ValueError: a package of public weights is missing, or does not hold them.
    """
    public = public_arrays(about["config"], wanted)
    missing = sorted(about[LEFT_OUT].keys() - public.keys())
    if missing:
        raise ValueError("the packages of public weights that the config names do not hold "
                         + ", ".join(missing[:5]))
    left_out = {name: public[name] for name in about[LEFT_OUT]}
    return traverse_util.unflatten_dict({**flat(variables), **left_out}, sep="/")


def texts_in(folder: Path) -> dict[str, str]:
    """Returns the text files below a folder by name.

    Raises:
      ValueError: a file is not text.
    """
    texts = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        try:
            texts[name] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"the tokenizer's file {name} is not text, so it does not fit into "
                             "one file; export to a folder instead") from error
    return texts


def unpack(texts: Mapping[str, str], folder: Path) -> None:
    """Writes text files below a folder; their names come from a file that anybody may have made.

    Raises:
      ValueError: a name leads out of the folder.
    """
    for name, text in texts.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
            raise ValueError(f"the file names a text file {name!r}, which is outside of the model; "
                             "do not use it")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
