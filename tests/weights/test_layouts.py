"""Weights that do not fit say what they are and which command takes them."""

import importlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from vseg_jax.weights.convert import Rule, convert
from vseg_jax.weights.layouts import LAYOUTS, place_of

GOLDENS = Path(__file__).parents[1] / "goldens"


def public(name, prefix="module."):
    """The keys of a public network, as DataParallel saves them."""
    return {f"{prefix}{key}": np.zeros(1)
            for key in json.loads(str(np.load(GOLDENS / f"{name}.npz")["shapes"]))}


@pytest.mark.parametrize(("name", "place"), [
    ("stm", "STM with a ResNet-50 (vseg import --config swiftnet:stm)"),
    ("swiftnet", "SwiftNet with a ResNet-18 (vseg import --config swiftnet:swiftnet18)"),
    ("mmvt", "mmvt (vseg import --config mmvt:public)"),
    ("raft_small", "RAFT (vseg predict --raft FILE, vseg flow --weights FILE)"),
    ("raft_large", "RAFT (vseg predict --raft FILE, vseg flow --weights FILE)"),
])
def test_public_networks_are_known_by_their_keys(name, place):
    assert place_of(public(name)) == place == place_of(public(name, prefix=""))


def test_stm_with_a_smaller_resnet():
    state_dict = {key: array for key, array in public("stm").items()
                  if ".conv3." not in key and not re.search(r"\.res\d\.([2-9])\.", key)}
    assert place_of(state_dict) == ("STM with a ResNet-18 (vseg import --config swiftnet:stm "
                                    "--config.model.depth=18 --config.model.mdim=256)")


def test_backbones_are_known_by_their_keys():
    for key, place in {
        "embeddings.4.weight": "VGGish", "module._conv_stem.weight": "EfficientNet-Lite0",
        "bert.embeddings.word_embeddings.weight": "BERT", "patch_embed.proj.weight": "Swin",
        "features.1.0.attn.qkv.weight": "Swin", "Mixed_3b.b0.conv3d.weight": "I3D",
        "RGB/inception_i3d/Mixed_3b/Branch_0/Conv3d_0a_1x1/conv_3d/w": "I3D",
    }.items():
        assert place_of({key: np.zeros(1), "other": np.zeros(1)}).split(" (")[0] == place, key
    resnet = {f"backbone.layer3.{block}.conv{k}.weight": 0
              for block in range(23) for k in (1, 2, 3)}
    assert place_of(resnet).startswith("ResNet-101 (a backbone")
    assert place_of({"weight": np.zeros(1)}) == ""


def test_the_configs_that_are_named_exist():
    named = {match for _, place in LAYOUTS for match in re.findall(r"(\w+):(\w+)", place)}
    assert named == {("swiftnet", "stm"), ("swiftnet", "swiftnet18"), ("mmvt", "public")}
    for file, variant in named:
        assert variant in importlib.import_module(f"vseg_jax.configs.{file}").VARIANTS


def test_only_weights_of_another_network_are_recognized():
    rules, state_dict = [], public("swiftnet")
    like = {"params": {str(k): np.zeros(1) for k in range(300)}}
    with pytest.raises(ValueError, match="They look like SwiftNet with a ResNet-18 "):
        convert(state_dict, rules, like)
    rules = [Rule(r".*\.(\d+)", r"params/\1")]
    whole = {f"LAE.conv1_m.weight.{k}": np.zeros(1) for k in range(1, 300)}
    with pytest.raises(ValueError) as error:   # one array is missing
        convert(whole | {"LAE.conv1_m.weight": np.zeros(1)}, [*rules, Rule("LAE.*", None)], like)
    assert "1 arrays missing" in str(error.value) and "look like" not in str(error.value)
