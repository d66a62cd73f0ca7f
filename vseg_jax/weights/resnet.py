"""Weights of ResNets in torchvision's layout.

Its segmentation networks (DeepLab, FCN) hold one under `backbone.`, next to heads that are dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vseg_jax.weights.convert import Rule, StateDict, batch_norm, convert, kernel, read, unwrapped

RULES = [
    Rule(r"conv1\.weight", "params/conv1/kernel", kernel),
    *batch_norm(r"bn1", "norm1"),
    Rule(r"layer(\d)\.(\d+)\.conv(\d)\.weight", r"params/layer\1_\2/conv\3/kernel", kernel),
    *batch_norm(r"layer(\d)\.(\d+)\.bn(\d)", r"layer\1_\2/norm\3"),
    Rule(r"layer(\d)\.(\d+)\.downsample\.0\.weight", r"params/layer\1_\2/skip_conv/kernel", kernel),
    *batch_norm(r"layer(\d)\.(\d+)\.downsample\.1", r"layer\1_\2/skip_norm"),
    Rule(r"fc\..*", None),
]


def load(path: str | Path, like: Mapping[str, Any]) -> dict[str, Any]:
    """Loads the variables of a `ResNet` from a file (see `read`).

    Args:
      path: a public checkpoint.
      like: the network's present variables, or their shapes.

    Raises:
      ValueError: the file cannot be read or does not fit; the message names the first faults.
    """
    return from_torchvision(unwrapped(read(path)), like)


def from_torchvision(state_dict: StateDict, like: Mapping[str, Any]) -> dict[str, Any]:
    """Converts a state dict that has already been read; see `load`."""
    if any(key.startswith("backbone.") for key in state_dict):
        state_dict = {key.removeprefix("backbone."): array for key, array in state_dict.items()
                      if not key.startswith(("classifier.", "aux_classifier."))}
    stages = sum(f"layer{stage}_0" in like["params"] for stage in (1, 2, 3, 4))
    absent = [
        f"{collection}/layer{stage}_"
        for collection in ("params", "batch_stats")
        for stage in range(stages + 1, 5)
    ]
    return convert(state_dict, RULES, like, without=absent)
