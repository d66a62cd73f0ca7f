"""ResNet weights in torchvision's layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vseg_jax.weights.convert import Foreign, Rule, batch_norm, conv, convert, read, unwrapped

RULES = [
    Rule(r"conv1\.weight", "params/conv1/kernel", conv),
    *batch_norm(r"bn1", "norm1"),
    Rule(r"layer(\d)\.(\d+)\.conv(\d)\.weight", r"params/layer\1_\2/conv\3/kernel", conv),
    *batch_norm(r"layer(\d)\.(\d+)\.bn(\d)", r"layer\1_\2/norm\3"),
    Rule(r"layer(\d)\.(\d+)\.downsample\.0\.weight", r"params/layer\1_\2/skip_conv/kernel", conv),
    *batch_norm(r"layer(\d)\.(\d+)\.downsample\.1", r"layer\1_\2/skip_norm"),
    Rule(r"fc\..*", None),
]


def load(path: str | Path, like: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of a `ResNet` from a file (see `read`); `like` are its present ones.

    Raises:
      ValueError: the file cannot be read, or does not fit; every key at fault is named.
    """
    return from_torchvision(unwrapped(read(path)), like)


def from_torchvision(foreign: Foreign, like: Mapping[str, Any]) -> dict[str, Any]:
    """The same from a state dict already read."""
    stages = sum(f"layer{stage}_0" in like["params"] for stage in (1, 2, 3, 4))
    absent = [
        f"{collection}/layer{stage}_"
        for collection in ("params", "batch_stats")
        for stage in range(stages + 1, 5)
    ]
    return convert(foreign, RULES, like, without=absent)
