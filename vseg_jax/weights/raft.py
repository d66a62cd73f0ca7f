"""Weights of the public RAFT (github.com/princeton-vl/RAFT): raft-small.pth, raft-sintel.pth ..."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from vseg_jax.backbones.raft import Raft
from vseg_jax.weights.convert import Rule, StateDict, batch_norm, convert, layer, read, unwrapped


def _encoder(pattern: str, target: str) -> list[Rule]:
    theirs, ours = rf"{pattern}\.layer(\d)\.(\d)", rf"{target}/layer\1_\2"
    return [
        *layer(rf"{pattern}\.conv1", f"{target}/stem"),
        *batch_norm(rf"{pattern}\.norm1", f"{target}/stem_norm"),
        *layer(rf"{pattern}\.conv2", f"{target}/out"),
        *layer(rf"{theirs}\.conv(\d)", rf"{ours}/conv\3"),
        *layer(rf"{theirs}\.downsample\.0", rf"{ours}/skip_conv"),
        *batch_norm(rf"{theirs}\.downsample\.1", rf"{ours}/skip_norm"),
        # The norm of the residual connection again, under its name as a field of the block.
        Rule(rf"{pattern}\.layer\d\.0\.norm3\..*", None),
        *batch_norm(rf"{theirs}\.norm(\d)", rf"{ours}/norm\3"),
    ]


RULES = [
    *_encoder("fnet", "features"),
    *_encoder("cnet", "context"),
    *layer(r"update_block\.encoder\.convc(\d)", r"update/correlation\1"),
    *layer(r"update_block\.encoder\.convf(\d)", r"update/flow\1"),
    *layer(r"update_block\.encoder\.conv", "update/motion"),
    *layer(r"update_block\.gru\.conv([zrq]\d?)", r"update/\1"),
    *layer(r"update_block\.flow_head\.conv(\d)", r"update/head\1"),
    *layer(r"update_block\.mask\.0", "mask1"),
    *layer(r"update_block\.mask\.2", "mask2"),
]


def load(path: str | Path) -> tuple[Raft, dict[str, Any]]:
    """Returns the network whose weights a file holds (see `read`), and its variables.

    Raises:
      ValueError: the file cannot be read or is not of RAFT; the message names the first faults.
    """
    state_dict = unwrapped(read(path))
    # Only the small variant's blocks have three convolutions.
    network = Raft("small" if "fnet.layer1.0.conv3.weight" in state_dict else "large")
    return network, from_public(state_dict, shapes(network))


def from_public(state_dict: StateDict, like: Mapping[str, Any]) -> dict[str, Any]:
    """Converts the state dict of a `Raft`; `like` are its present variables, or their shapes."""
    return convert(state_dict, RULES, like)


def shapes(network: Raft) -> dict[str, Any]:
    """Returns the shapes of a network's variables; computes nothing."""
    frame = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.uint8)
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(lambda k, f: network.init(k, f, f, 1), key, frame)
