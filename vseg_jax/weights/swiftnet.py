"""Weights of the public STM and SwiftNet, and of a torchvision ResNet as their encoder.

`STM_weights.pth` of github.com/seoungwugoh/STM (ResNet-50) and `swiftnet_resnet18_old.pth` of
github.com/haochenheheda/SwiftNet; both name every key with DataParallel's "module." before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vseg_jax.weights import efficientnet, resnet
from vseg_jax.weights.convert import (
    Foreign,
    Rule,
    batch_norm,
    conv,
    convert,
    part,
    read,
    unwrapped,
    with_part,
)


def _layer(pattern: str, target: str) -> list[Rule]:
    """A convolution with or without bias."""
    return [
        Rule(rf"{pattern}\.weight", f"params/{target}/kernel", conv),
        Rule(rf"{pattern}\.bias", f"params/{target}/bias"),
    ]


def _encoder(pattern: str, target: str) -> list[Rule]:
    """A ResNet, its stages called res2, res3 and res4; the color statistics are our model's."""
    rules = [
        *_layer(rf"{pattern}\.conv1", f"{target}/conv1"),
        *batch_norm(rf"{pattern}\.bn1", f"{target}/norm1"),
        Rule(rf"{pattern}\.(mean|std)", None),
    ]
    for stage in (1, 2, 3):
        foreign, ours = rf"{pattern}\.res{stage + 1}\.(\d+)", rf"{target}/layer{stage}_\1"
        rules += [
            *_layer(rf"{foreign}\.conv(\d)", rf"{ours}/conv\2"),
            *batch_norm(rf"{foreign}\.bn(\d)", rf"{ours}/norm\2"),
            *_layer(rf"{foreign}\.downsample\.0", rf"{ours}/skip_conv"),
            *batch_norm(rf"{foreign}\.downsample\.1", rf"{ours}/skip_norm"),
        ]
    return rules


def _masks(pattern: str, target: str) -> list[Rule]:
    """The two convolutions of an object's mask and of the others'."""
    return [
        Rule(rf"{pattern}_m\.weight", f"params/{target}/mask", conv),
        Rule(rf"{pattern}_o\.weight", f"params/{target}/others", conv),
    ]


_SHARED = [
    rule
    for foreign, ours in (("M", "memory_kv"), ("Q", "query_kv"))
    for name in ("Key", "Value")
    for rule in _layer(rf"KV_{foreign}_r4\.{name}", f"{ours}/{name.lower()}")
] + [
    *_layer(r"Decoder\.convFM", "decoder/reduce"),
    *_layer(r"Decoder\.ResMM\.conv(\d)", r"decoder/block/conv\1"),
    *_layer(r"Decoder\.RF(\d)\.convFS", r"decoder/refine\1/skip"),
    *_layer(r"Decoder\.RF(\d)\.ResFS\.conv(\d)", r"decoder/refine\1/skip_block/conv\2"),
    *_layer(r"Decoder\.RF(\d)\.ResMM\.conv(\d)", r"decoder/refine\1/block/conv\2"),
    *_layer(r"Decoder\.pred2", "decoder/predict"),
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
    *_layer(r"LAE\.conv_fusion(\d)", r"aggregation/fuse\1"),
    *_encoder("Encoder", "encoder"),
    *_layer(r"aspp\.aspp(\d)\.atrous_conv", r"aspp/branch_\1"),
    *_layer(r"aspp\.conv1", "aspp/join"),
    *_SHARED,
]


def load(path: str | Path, like: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of an StmNetwork or a SwiftNetwork from a file (see `read`).

    Args:
      path: a public checkpoint of the same network.
      like: the network's present variables; their tree says which of the two it is.

    Raises:
      ValueError: the file cannot be read, or does not fit; every key at fault is named.
    """
    return from_public(unwrapped(read(path)), like)


def from_public(foreign: Foreign, like: Mapping[str, Any]) -> dict[str, Any]:
    """The same from a state dict already read."""
    return convert(foreign, STM if "memory_encoder" in like["params"] else SWIFTNET, like)


def load_backbone(path: str | Path, like: Mapping[str, Any]) -> dict[str, Any]:
    """`like` with a public backbone in the encoder: torchvision's ResNet, in STM's second one too,
    or an EfficientNet-Lite0.

    Raises:
      ValueError: as `load`.
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
