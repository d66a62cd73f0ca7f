"""Estimators of optical flow: RAFT with public weights, and OpenCV's DIS, which needs none."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
from jaxtyping import Float, UInt8

from vseg_jax.input_pipeline.flow import dis_flows
from vseg_jax.weights import raft

Frames = UInt8[np.ndarray, "B H W 3"]
Flow = Float[np.ndarray, "B H W 2"]


@dataclasses.dataclass(frozen=True)
class Estimator:
    """A method of computing flow.

    Attributes:
      provenance: provenance to store with the flow: method, version, weights and so on.
      pairs: maps two batches of uint8 RGB frames [B, H, W, 3] to the flow from the first to the
        second, float32 [B, H, W, 2] (u right, v down, in pixels).
    """

    provenance: dict[str, Any]
    pairs: Callable[[Frames, Frames], Flow]


def dis_estimator() -> Estimator:
    """Returns OpenCV's DIS, see `dis_flows`."""
    return Estimator({"method": "dis", "version": f"opencv {cv2.__version__}"}, dis_flows)


def raft_estimator(weights: str | Path, iterations: int = 12) -> Estimator:
    """Returns RAFT with the public weights of a file, which determine the variant.

    It is compiled once for every size of frames and of batches.

    Raises:
      ValueError: the weights cannot be read or are not RAFT's, or `iterations` is less than 1.
    """
    if iterations < 1:
        raise ValueError(f"iterations is {iterations}; RAFT needs at least 1")
    network, variables = raft.load(weights)
    variables = jax.device_put(variables)
    run = jax.jit(lambda v, first, second: network.apply(v, first, second, iterations))
    provenance = {
        "method": f"raft-{network.variant}",
        "version": f"vseg_jax {importlib.metadata.version('vseg_jax')}",
        "iterations": iterations,
        "weights": Path(weights).name,
        "weights_blake2b": hashlib.blake2b(Path(weights).read_bytes(), digest_size=16).hexdigest(),
    }
    return Estimator(provenance, lambda first, second: np.asarray(run(variables, first, second)))
