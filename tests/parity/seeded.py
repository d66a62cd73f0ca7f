"""Random weights that are equal on both sides: each array follows from its key and shape."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np


def state_dict(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Returns key -> array: He-scaled kernels, and statistics of norms that are not 0 and 1."""
    return {key: _array(key, tuple(shape)) for key, shape in shapes.items()}


def inputs(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns standard normal float32, determined by `name`."""
    return _rng(name).standard_normal(shape, np.float32)


def sample(x: np.ndarray, count: int = 200) -> np.ndarray:
    """Returns `count` entries of `x`, at positions determined by its size, and its mean."""
    x = np.asarray(x).ravel()
    places = _rng(str(x.size)).integers(0, x.size, count)
    return np.append(x[places], x.mean())


def _array(key: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = _rng(key)
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith("running_var") or (len(shape) == 1 and key.endswith("weight")):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if len(shape) == 1:
        return 0.1 * rng.standard_normal(shape, np.float32)
    return np.sqrt(2 / np.prod(shape[1:])).astype(np.float32) * rng.standard_normal(
        shape, np.float32
    )


def _rng(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))
