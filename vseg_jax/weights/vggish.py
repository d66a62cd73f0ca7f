"""Weights of VGGish in the layout of the PyTorch port github.com/harritaylor/torchvggish."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vseg_jax.weights.convert import Rule, StateDict, convert, layer, read, unwrapped


def load(path: str | Path, like: Mapping[str, Any]) -> dict[str, Any]:
    """Loads the variables of a `Vggish` from a file (see `read`).

    Args:
      path: a public checkpoint.
      like: the network's present variables, or their shapes.

    Raises:
      ValueError: the file cannot be read or does not fit; the message names the first faults.
    """
    return from_public(unwrapped(read(path)), like)


def from_public(state_dict: StateDict, like: Mapping[str, Any]) -> dict[str, Any]:
    """Converts a state dict that has already been read; see `load`."""
    return convert(state_dict, RULES, like, without=("params/dense3",))


# Positions of the convolutions and dense layers among the ReLUs and poolings.
_CONVOLUTIONS = {0: "1_1", 3: "2_1", 6: "3_1", 8: "3_2", 11: "4_1", 13: "4_2"}
RULES = [
    rule
    for number, name in _CONVOLUTIONS.items()
    for rule in layer(rf"features\.{number}", f"conv{name}")
] + [
    rule
    for number, name in {0: 1, 2: 2, 4: 3}.items()
    for rule in layer(rf"embeddings\.{number}", f"dense{name}")
]
RULES.append(Rule(r"pproc\..*", None))  # whitening and 8 bits of the released embeddings
