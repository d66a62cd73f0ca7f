"""Weights of the public mmvt network, and torchvision's ResNets as its streams.

The network is that of github.com/wangbo-zhao/2022CVPR-MMMMTBVS. Its state dict holds the frames'
ResNet twice; layers that its forward pass never reads are dropped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vseg_jax.weights import bert, resnet
from vseg_jax.weights.convert import (
    Rule,
    StateDict,
    batch_norm,
    convert,
    layer,
    norm,
    part,
    read,
    unwrapped,
    with_part,
)

HEAD = "LanguagemodelGuidedSegmentation"  # the public name of everything behind the encoders


def _under(pattern: str, target: str, rules: list[Rule]) -> list[Rule]:
    """Returns the rules of a part, moved to its place in the whole network."""

    def moved(rule: Rule) -> Rule:
        ours = rule.target
        if ours is not None:
            collection, _, rest = ours.partition("/")
            ours = f"{collection}/{target}/{rest}"
        return dataclasses.replace(rule, pattern=pattern + rule.pattern, target=ours)

    return [moved(rule) for rule in rules]


# With basic blocks, stage 4 is a sibling of a ResNet that has three stages.
_LAST_STAGE = [
    dataclasses.replace(rule, pattern=rule.pattern.replace(r"layer(\d)", "layer(4)"))
    for rule in resnet.RULES if rule.pattern.startswith("layer")
]


def _transformer() -> list[Rule]:
    theirs, ours = HEAD + r"\.language_guided_segmentation\.transformer\.layers\.(\d+)\.", "mix"
    rules = []
    for number, name in ((0, "norm1"), (2, "norm2"), (4, "norm3")):
        rules += norm(rf"{theirs}{number}", rf"{ours}/layer_\1/{name}")
    for number, name in ((1, "attention"), (3, "temporal")):
        for their_part, our_part in (("q", "query"), ("k", "key"), ("v", "value"), ("out", "out")):
            rules += layer(
                rf"{theirs}{number}\.to_{their_part}", rf"{ours}/layer_\1/{name}/{our_part}"
            )
    for number, name in ((0, "mlp1"), (3, "mlp2")):
        rules += layer(rf"{theirs}5\.net\.{number}", rf"{ours}/layer_\1/{name}")
    return rules


def _aspp(pattern: str, target: str) -> list[Rule]:
    return [
        *layer(rf"{pattern}\.convs\.4\.1", f"{target}/branch_mean"),
        *batch_norm(rf"{pattern}\.convs\.4\.2", f"{target}/branch_mean_norm"),
        *layer(rf"{pattern}\.convs\.([0-3])\.0", rf"{target}/branch_\1"),
        *batch_norm(rf"{pattern}\.convs\.([0-3])\.1", rf"{target}/branch_\1_norm"),
        *layer(rf"{pattern}\.project\.0", f"{target}/join"),
        *batch_norm(rf"{pattern}\.project\.1", f"{target}/join_norm"),
    ]


def _level(name: str, number: int) -> list[Rule]:
    pattern, target = rf"{HEAD}\.{name}", f"levels_{number}"
    pairs = {
        "vision_f": "vision", "flow_f": "flow", "language_f": "sentence",
        "enhance_vision_f": "vision_join", "enhance_flow_f": "flow_join",
        "vision_to_attention": "vision_gate", "flow_to_attention": "flow_gate", "fuse": "fuse",
    }
    rules = [r for a, b in pairs.items() for r in layer(rf"{pattern}\.{a}", f"{target}/{b}")]
    return rules + layer(rf"{pattern}\.out_conv\.conv(\d)", rf"{target}/block/conv\1")


RULES = [
    Rule(r"model\..*", None),  # the frames' ResNet again
    Rule(r".*\.spatial_pos", None),
    Rule(r".*\.embedding_project\..*", None),  # never read
    Rule(r".*\.pooler\..*", None),             # never read
    *_under(r"Visionmodel\.backbone\.", "vision/resnet", resnet.RULES),
    *_under(r"Flowmodel\.", "flow", _LAST_STAGE),
    *_under(r"Flowmodel\.", "flow/resnet", resnet.RULES),
    *_under(r"Languagemodel\.Languagemodel\.", "text/bert", bert.RULES),
    *layer(rf"{HEAD}\.language_project\.conv", "words/project"),
    *batch_norm(rf"{HEAD}\.language_project\.bn", "words/norm"),
    *_aspp(rf"{HEAD}\.aspp", "vision_aspp"),
    *_aspp(rf"{HEAD}\.flow_aspp", "flow_aspp"),
    *(rule for theirs, ours in (("rgb", "vision"), ("flow", "flow"))
      for number, name in ((0, "conv1"), (2, "conv2"))
      for rule in layer(rf"{HEAD}\.fuse_feature_post_{theirs}\.{number}", f"{ours}_place/{name}")),
    *_transformer(),
    *_level("up_16_16", 0), *_level("up_16_8", 1), *_level("up_8_4", 2),
    *layer(rf"{HEAD}\.conv", "head/conv"),
    *batch_norm(rf"{HEAD}\.bn", "head/norm"),
    *layer(rf"{HEAD}\.conv_2", "head/predict"),
    *(rule for theirs, ours in (("rgb", "vision"), ("flow", "flow"))
      for stride, number in ((16, 0), (8, 1), (4, 2))
      for rule in layer(rf"{HEAD}\.fuse_{theirs}\.f_{stride}\.0", f"align/{ours}_{number}")),
    *layer(r"contrastive\.vision_proj", "align/vision_join"),
    *layer(r"contrastive\.flow_proj", "align/flow_join"),
    *layer(r"contrastive\.language_proj", "align/sentence"),
]


def load(path: str | Path, like: Mapping[str, Any]) -> dict[str, Any]:
    """Loads the variables of the whole network from a public checkpoint (see `read`).

    Raises:
      ValueError: the file cannot be read or does not fit; the message names the first faults.
        The public file fits only the default config (ResNet-101 and ResNet-34, BERT-base, all parts
        on).
    """
    return from_public(unwrapped(read(path)), like)


def from_public(state_dict: StateDict, like: Mapping[str, Any]) -> dict[str, Any]:
    """Converts a state dict that has already been read; see `load`."""
    return convert(state_dict, RULES, like)


def load_stream(path: str | Path, variables: Mapping[str, Any], stream: str) -> dict[str, Any]:
    """Returns `variables` with torchvision's ResNet in `stream`, "vision" or "flow".

    Raises:
      ValueError: the file cannot be read or does not fit; the message names the first faults.
    """
    ours = part(variables, stream)
    like = {name: {**tree["resnet"], **_last_stage(tree)} for name, tree in ours.items()}
    loaded = resnet.load(path, like)
    back = {
        name: {"resnet": {k: tree[k] for k in ours[name]["resnet"]},
               **{k: tree[k] for k in _last_stage(ours[name])}}
        for name, tree in loaded.items()
    }
    return with_part(variables, stream, back)


def _last_stage(stream: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the blocks of stage 4, which are siblings of the ResNet."""
    return {name: block for name, block in stream.items() if name != "resnet"}
