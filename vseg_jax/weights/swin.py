"""Weights of Swin in the layouts of its authors (also of MaskFormer and Mask2Former), timm and
torchvision."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vseg_jax.weights.convert import Rule, StateDict, convert, kernel, layer, norm, read, unwrapped


def load(path: str | Path, like: Mapping[str, Any]) -> dict[str, Any]:
    """Loads the variables of a `Swin` from a file (see `read`).

    Args:
      path: a public checkpoint.
      like: the network's present variables, or their shapes.

    Raises:
      ValueError: the file cannot be read or does not fit; the message names the first faults.
    """
    return from_public(unwrapped(read(path)), like)


def from_public(state_dict: StateDict, like: Mapping[str, Any]) -> dict[str, Any]:
    """Converts a state dict that has already been read; see `load`.

    Classifiers have no norms for the four maps (their last norm belongs to the head and is
    dropped); these keep their initial values, 1 and 0, as in Mask2Former.
    """
    if "features.0.0.weight" in state_dict:
        rules = TORCHVISION
    else:
        # The authors merge patches at the end of a stage, timm at the start of the next one.
        rules = AUTHORS if "layers.0.downsample.reduction.weight" in state_dict else TIMM
    if not any(re.fullmatch(r"norm\d\.weight", key) for key in state_dict):
        maps = [name for name in like["params"] if re.fullmatch(r"norm\d", name)]
        for name in maps:
            key, channels = f"norm{int(name[-1]) - 1}", like["params"][name]["scale"].shape
            ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
            state_dict = {**state_dict, f"{key}.weight": ones, f"{key}.bias": zeros}
    return convert(state_dict, rules, like)


def _block(theirs: str, ours: str, dense1: str, dense2: str) -> list[Rule]:
    return [
        *norm(rf"{theirs}\.norm([12])", rf"{ours}/norm\2"),
        Rule(rf"{theirs}\.attn\.relative_position_bias_table", f"params/{ours}/attention/bias"),
        Rule(rf"{theirs}\.(attn\.relative_position_index|attn_mask)", None),
        *layer(rf"{theirs}\.attn\.qkv", f"{ours}/attention/inputs"),
        *layer(rf"{theirs}\.attn\.proj", f"{ours}/attention/out"),
        *layer(rf"{theirs}\.mlp\.{dense1}", f"{ours}/dense1"),
        *layer(rf"{theirs}\.mlp\.{dense2}", f"{ours}/dense2"),
    ]


def _rules(
    patches: tuple[str, str],
    stage: Callable[[int], str],
    merging: Callable[[int], str],
    mlp: tuple[str, str] = ("fc1", "fc2"),
) -> list[Rule]:
    """Returns all rules.

    Args:
      patches: public names of the patch embedding and its norm.
      stage: stage n = 1 ... 4 -> the public name of its blocks.
      merging: stage n -> the public name of the patch merging before it.
      mlp: public names of the two dense layers of a block.
    """
    rules = [*layer(patches[0], "patches"), *norm(patches[1], "patches_norm")]
    for n in (1, 2, 3, 4):
        rules += _block(rf"{stage(n)}\.(\d+)", rf"stage{n}_\1", *mlp)
        rules += norm(f"norm{n - 1}", f"norm{n}")
        if n > 1:
            rules += norm(rf"{merging(n)}\.norm", f"merging{n}/norm")
            target = f"params/merging{n}/reduction/kernel"
            rules.append(Rule(rf"{merging(n)}\.reduction\.weight", target, kernel))
    return [*rules, Rule(r"norm\.(weight|bias)", None), Rule(r"head\..*", None)]


_PATCHES = (r"patch_embed\.proj", r"patch_embed\.norm")
AUTHORS = _rules(
    _PATCHES, lambda n: rf"layers\.{n - 1}\.blocks", lambda n: rf"layers\.{n - 2}\.downsample"
)
TIMM = _rules(
    _PATCHES,
    lambda n: rf"layers[._]{n - 1}\.blocks",  # "_" in networks built to return features
    lambda n: rf"layers[._]{n - 1}\.downsample",
)
TORCHVISION = _rules(
    (r"features\.0\.0", r"features\.0\.2"),
    lambda n: rf"features\.{2 * n - 1}",
    lambda n: rf"features\.{2 * n - 2}",
    ("0", "3"),
)
