"""Weights of the public STM and SwiftNet, and of a torchvision ResNet as their encoder.

`STM_weights.pth` of github.com/seoungwugoh/STM (ResNet-50) and `swiftnet_resnet18_old.pth` of
github.com/haochenheheda/SwiftNet; in both, every key starts with DataParallel's "module.".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vseg_jax.weights import efficientnet, resnet
from vseg_jax.weights.convert import (
    Rule,
    StateDict,
    batch_norm,
    convert,
    kernel,
    layer,
    part,
    read,
    unwrapped,
    with_part,
)


def _encoder(pattern: str, target: str) -> list[Rule]:
    """Returns the rules for a ResNet with stages res2, res3 and res4.

    The color statistics are dropped: our model has its own.
    """
    rules = [
        *layer(rf"{pattern}\.conv1", f"{target}/conv1"),
        *batch_norm(rf"{pattern}\.bn1", f"{target}/norm1"),
        Rule(rf"{pattern}\.(mean|std)", None),
    ]
    for stage in (1, 2, 3):
        theirs, ours = rf"{pattern}\.res{stage + 1}\.(\d+)", rf"{target}/layer{stage}_\1"
        rules += [
            *layer(rf"{theirs}\.conv(\d)", rf"{ours}/conv\2"),
            *batch_norm(rf"{theirs}\.bn(\d)", rf"{ours}/norm\2"),
            *layer(rf"{theirs}\.downsample\.0", rf"{ours}/skip_conv"),
            *batch_norm(rf"{theirs}\.downsample\.1", rf"{ours}/skip_norm"),
        ]
    return rules


def _masks(pattern: str, target: str) -> list[Rule]:
    """Returns the rules for the convolutions of an object's mask and of the other objects'."""
    return [
        Rule(rf"{pattern}_m\.weight", f"params/{target}/mask", kernel),
        Rule(rf"{pattern}_o\.weight", f"params/{target}/others", kernel),
    ]


_SHARED = [
    rule
    for theirs, ours in (("M", "memory_kv"), ("Q", "query_kv"))
    for name in ("Key", "Value")
    for rule in layer(rf"KV_{theirs}_r4\.{name}", f"{ours}/{name.lower()}")
] + [
    *layer(r"Decoder\.convFM", "decoder/reduce"),
    *layer(r"Decoder\.ResMM\.conv(\d)", r"decoder/block/conv\1"),
    *layer(r"Decoder\.RF(\d)\.convFS", r"decoder/refine\1/skip"),
    *layer(r"Decoder\.RF(\d)\.ResFS\.conv(\d)", r"decoder/refine\1/skip_block/conv\2"),
    *layer(r"Decoder\.RF(\d)\.ResMM\.conv(\d)", r"decoder/refine\1/block/conv\2"),
    *layer(r"Decoder\.pred2", "decoder/predict"),
]
STM = [
    *_masks(r"Encoder_M\.conv1", "memory_encoder/masks"),
    *_encoder("Encoder_M", "memory_encoder/resnet"),
    *_encoder("Encoder_Q", "encoder"),
    *_SHARED,
]
SWIFTNET = [
    *_masks(r"LAE\.conv1", "aggregation/masks_stem"),
    *_masks(r"LAE\.conv2", "aggregation/masks_r4"),
    *layer(r"LAE\.conv_fusion(\d)", r"aggregation/fuse\1"),
    *_encoder("Encoder", "encoder"),
    *layer(r"aspp\.aspp(\d)\.atrous_conv", r"aspp/branch_\1"),
    *layer(r"aspp\.conv1", "aspp/join"),
    *_SHARED,
]


def load(path: str | Path, like: Mapping[str, Any]) -> dict[str, Any]:
    """Loads the variables of an StmNetwork or a SwiftNetwork from a file (see `read`).

    Args:
      path: a public checkpoint of the same network.
      like: the network's present variables; their tree tells which of the two it is.

    Raises:
      ValueError: the file cannot be read or does not fit; the message names the first faults.
    """
    return from_public(unwrapped(read(path)), like)


def from_public(state_dict: StateDict, like: Mapping[str, Any]) -> dict[str, Any]:
    """Converts a state dict that has already been read; see `load`."""
    return convert(state_dict, STM if "memory_encoder" in like["params"] else SWIFTNET, like)


def load_backbone(path: str | Path, like: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `like` with a public backbone in the encoder.

    The backbone is torchvision's ResNet, which goes into both encoders of STM, or an
    EfficientNet-Lite0.

    Raises:
      ValueError: the file cannot be read or does not fit; the message names the first faults.
    """
    variables = dict(like)
    if "lite" in like["params"]["encoder"]:
        lite = efficientnet.load(path, part(variables, "encoder/lite"))
        return with_part(variables, "encoder/lite", lite)
    encoders = ["encoder"]
    if "memory_encoder" in like["params"]:
        encoders.append("memory_encoder/resnet")
    for name in encoders:
        loaded = resnet.load(path, part(variables, name))
        variables = with_part(variables, name, loaded)
    return variables
