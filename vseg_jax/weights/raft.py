"""Public weights of RAFT (github.com/princeton-vl/RAFT): raft-small.pth, raft-sintel.pth ..."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from vseg_jax.backbones.raft import Raft
from vseg_jax.weights.convert import Foreign, Rule, batch_norm, conv, convert, read, unwrapped


def _layer(pattern: str, target: str) -> list[Rule]:
    return [
        Rule(rf"{pattern}\.weight", f"params/{target}/kernel", conv),
        Rule(rf"{pattern}\.bias", f"params/{target}/bias"),
    ]


def _encoder(pattern: str, target: str) -> list[Rule]:
    foreign, ours = rf"{pattern}\.layer(\d)\.(\d)", rf"{target}/layer\1_\2"
    return [
        *_layer(rf"{pattern}\.conv1", f"{target}/stem"),
        *batch_norm(rf"{pattern}\.norm1", f"{target}/stem_norm"),
        *_layer(rf"{pattern}\.conv2", f"{target}/out"),
        *_layer(rf"{foreign}\.conv(\d)", rf"{ours}/conv\3"),
        *_layer(rf"{foreign}\.downsample\.0", rf"{ours}/skip_conv"),
        *batch_norm(rf"{foreign}\.downsample\.1", rf"{ours}/skip_norm"),
        # The skip's norm once more, under the name by which the public block holds it.
        Rule(rf"{pattern}\.layer\d\.0\.norm3\..*", None),
        *batch_norm(rf"{foreign}\.norm(\d)", rf"{ours}/norm\3"),
    ]


RULES = [
    *_encoder("fnet", "features"),
    *_encoder("cnet", "context"),
    *_layer(r"update_block\.encoder\.convc(\d)", r"update/correlation\1"),
    *_layer(r"update_block\.encoder\.convf(\d)", r"update/flow\1"),
    *_layer(r"update_block\.encoder\.conv", "update/motion"),
    *_layer(r"update_block\.gru\.conv([zrq]\d?)", r"update/\1"),
    *_layer(r"update_block\.flow_head\.conv(\d)", r"update/head\1"),
    *_layer(r"update_block\.mask\.0", "mask1"),
    *_layer(r"update_block\.mask\.2", "mask2"),
]


def load(path: str | Path) -> tuple[Raft, dict[str, Any]]:
    """The network that a file (see `read`) holds weights of, and its variables.

    Raises:
      ValueError: the file cannot be read, or is not of RAFT; every key at fault is named.
    """
    foreign = unwrapped(read(path))
    # Only the small variant's blocks have three convolutions.
    network = Raft("small" if "fnet.layer1.0.conv3.weight" in foreign else "large")
    return network, from_public(foreign, shapes(network))


def from_public(foreign: Foreign, like: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of a `Raft` from a state dict already read; `like` are its present ones."""
    return convert(foreign, RULES, like)


def shapes(network: Raft) -> dict[str, Any]:
    """The shapes of a network's variables, nothing computed."""
    frame = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.uint8)
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(lambda k, f: network.init(k, f, f, 1), key, frame)
