"""RAFT ready to run, for rooms that know models and not what they are made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, UInt8

from vseg_jax.backbones.raft import Variant
from vseg_jax.weights import raft

Frames = UInt8[np.ndarray, "B H W 3"]
Flow = Float[np.ndarray, "B H W 2"]


def load_raft(
    weights: str | Path, iterations: int = 12
) -> tuple[Variant, Callable[[Frames, Frames], Flow]]:
    """The variant that a file of public weights is of, and the function from frames to flow.

    The function takes uint8 RGB frames [B, H, W, 3] twice and gives float32 [B, H, W, 2] (u right,
    v down, pixels); it is compiled once for every size of frames and of batches.

    Raises:
      ValueError: the weights cannot be read or are not RAFT's, or there is no iteration.
    """
    if iterations < 1:
        raise ValueError(f"iterations is {iterations}; RAFT needs at least 1")
    network, variables = raft.load(weights)
    variables = jax.device_put(variables)
    run = jax.jit(lambda v, first, second: network.apply(v, first, second, iterations))
    return network.variant, lambda first, second: np.asarray(run(variables, first, second))
