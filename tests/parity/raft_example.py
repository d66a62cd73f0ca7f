"""Weights and frames of the stored results of RAFT (tests/goldens/raft.py)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import seeded

ITERATIONS = 3


def state_dict(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Returns seeded weights; both keys of a residual connection's norm hold the same numbers."""
    state = seeded.state_dict(shapes)
    for key in shapes:
        if ".downsample.1." in key:
            state[key.replace("downsample.1", "norm3")] = state[key]
    return state


def frames() -> tuple[np.ndarray, np.ndarray]:
    """Returns two frames, uint8 [1, 130, 139, 3]: not multiples of 8; the public code needs 128."""
    scene = seeded.inputs("raft", (1, 18, 19, 3)).repeat(8, 1).repeat(8, 2)
    scene = np.clip(128 + 60 * scene, 0, 255).astype(np.uint8)
    return scene[:, 4:134, 6:145], scene[:, 6:136, 3:142]
