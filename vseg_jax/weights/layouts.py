"""Tells by its keys what a public state dict belongs to, and where this library takes it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

IMPORT = "vseg import --config"
BACKBONE = "a backbone: name it in model.backbone_weights of a config that has it"
# (a key that only this layout has, behind any prefix; what it is and where it belongs).
LAYOUTS = (
    (r"Encoder_M\.conv1_m\.weight", "STM with a ResNet-{depth} ({import_} swiftnet:stm{stm})"),
    (r"LAE\.conv1_m\.weight", "SwiftNet with a ResNet-{depth} ({import_} swiftnet:swiftnet18)"),
    (r"LanguagemodelGuidedSegmentation\.conv_2\.weight", "mmvt ({import_} mmvt:public)"),
    (r"update_block\.flow_head\.conv1\.weight",
     "RAFT (vseg predict --raft FILE, vseg flow --weights FILE)"),
    (r"embeddings\.word_embeddings\.weight",
     "BERT (name its folder, with config.json, in model.bert_weights)"),
    (r"_conv_stem\.weight", "EfficientNet-Lite0 ({backbone})"),
    (r"(Mixed_3b\.b0\.conv3d\.weight|mixed_3b\.branch_0\.conv3d\.weight"
     r"|Mixed_3b/Branch_0/Conv3d_0a_1x1/conv_3d/w)", "I3D ({backbone})"),
    (r"(patch_embed\.proj\.weight|features\.1\.0\.attn\.qkv\.weight)", "Swin ({backbone})"),
    (r"embeddings\.4\.weight", "VGGish (name it in model.vggish_weights)"),
    (r"layer3\.0\.conv1\.weight", "ResNet-{depth} ({backbone})"),
)


def place_of(state_dict: Mapping[str, Any]) -> str:
    """Returns what the arrays are and where they belong; "" if their layout is not known.

    Args:
      state_dict: public key -> array; only the keys are read.
    """
    for key, place in LAYOUTS:
        pattern = re.compile(rf"(.*[./])?{key}")
        if any(pattern.fullmatch(name) for name in state_dict):
            depth = _resnet_depth(state_dict)
            # STM's public training code has a smaller network, whose decoder is not smaller.
            stm = " --config.model.depth=18 --config.model.mdim=256" if depth == "18" else ""
            return place.format(depth=depth, stm=stm, import_=IMPORT, backbone=BACKBONE)
    return ""


def _resnet_depth(state_dict: Mapping[str, Any]) -> str:
    """Returns the depth of the ResNet that has "layer3" or STM's "res4", as text; "?" if unknown.

    Two ResNets in one network count as one: the blocks are numbered alike.
    """
    blocks = {match[2] for key in state_dict
              if (match := re.search(r"(layer3|res4)\.(\d+)\.conv1\.weight$", key))}
    bottleneck = any(re.search(r"(layer3|res4)\.0\.conv3\.weight$", key) for key in state_dict)
    known = {(2, False): "18", (6, False): "34", (6, True): "50", (23, True): "101"}
    return known.get((len(blocks), bottleneck), "?")
