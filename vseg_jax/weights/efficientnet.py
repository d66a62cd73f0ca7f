"""Weights of EfficientNet-Lite0 in the layout of lukemelas' EfficientNet-PyTorch.

Public ports of the lite models (efficientnet_lite_pytorch, for example) use the same keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vseg_jax.backbones.efficientnet import LAST, STAGES
from vseg_jax.weights.convert import Rule, StateDict, batch_norm, convert, kernel, read, unwrapped

RULES = [
    Rule(r"_conv_stem\.weight", "params/stem/kernel", kernel),
    *batch_norm(r"_bn0", "stem_norm"),
    *(
        Rule(rf"_blocks\.(\d+)\._{part}_conv\.weight", rf"params/block\1_{part}/kernel", kernel)
        for part in ("expand", "depthwise", "project")
    ),
    *batch_norm(r"_blocks\.(\d+)\._bn(\d)", r"block\1_norm\2"),
    Rule(r"(_conv_head|_bn1|_fc)\..*", None),
]


def load(path: str | Path, like: Mapping[str, Any]) -> dict[str, Any]:
    """Loads the variables of an `EfficientNetLite` from a file (see `read`).

    Args:
      path: a public checkpoint.
      like: the network's present variables, or their shapes.

    Raises:
      ValueError: the file cannot be read or does not fit; the message names the first faults.
    """
    return from_pytorch(unwrapped(read(path)), like)


def from_pytorch(state_dict: StateDict, like: Mapping[str, Any]) -> dict[str, Any]:
    """Converts a state dict that has already been read; see `load`."""
    ends = [sum(stage[0] for stage in STAGES[: last + 1]) for last in LAST]
    blocks = next(end for end in ends if f"block{end}_project" not in like["params"])
    absent = [
        f"{collection}/block{block}_"
        for collection in ("params", "batch_stats")
        for block in range(blocks, ends[-1])
    ]
    return convert(state_dict, RULES, like, without=absent)
