"""The public PyTorch code of mmvt, whole or with all sizes divided, and seeded weights and inputs.

github.com/wangbo-zhao/2022CVPR-MMMMTBVS at 4e735e662c3318826fd9eb3ef16d0e32ea3202d2, as the folder
MMMMTBVS of the references (docs/parity.md). Its sizes are literals; for small comparisons they are
divided in its text. CSTM's ResNet stands in for torchvision's. `load` needs torch and einops; the
rest of this file does not.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import jax
import numpy as np
import seeded

from vseg_jax.models.mmvt import Mmvt, MmvtConfig
from vseg_jax.models.mmvt.network import Sentence
from vseg_jax.text.bert import BertConfig
from vseg_jax.weights import mmvt

BERT = BertConfig(50, 48, 2, 4, 64, 32, pooler=False)
COMPAT = {"bug_compat_mask": True, "bug_compat_gate": True}
SMALL = MmvtConfig(
    depth=50, width=4, bert=BERT, channels=16, head_width=4, hidden=8, align_channels=8,
    align_chunk=24, dropout=0.0, aspp_dropout=0.0, **COMPAT,
)
SAMPLES, FRAMES, WORDS, SIDE = 2, 3, 20, 32
# What is divided by 16: channels; the maps of a picture of 32 pixels instead of 320 have a tenth.
CHANNELS = re.compile(r"\b(2048|1024|768|512|256|128|64)\b")
TEXTS = (
    ("264", "24"), ("20:420", "20:24"), ("420:", "24:"), ("(20, 20)", "(2, 2)"),
    ("spatial_size=20)", "spatial_size=2)"), ("spatial_size=40", "spatial_size=4"),
    ("spatial_size=80", "spatial_size=8"),
)


def load(root: str | Path, *, small: bool, exact_pi: bool = False) -> tuple[Any, Any]:
    """(PropagationNetwork, LossComputer) of the public code.

    Args:
      root: folder of the references.
      small: sizes divided as above, ResNet-50 in place of ResNet-101, `BERT` in place of BERT-base.
      exact_pi: pi in place of 3.141592, for comparisons in float64.
    """
    import torch
    from transformers import BertConfig as TheirConfig
    from transformers import BertModel

    def run(name: str, path: Path, package: str = "") -> ModuleType:
        text = path.read_text()
        if small:
            text = CHANNELS.sub(lambda m: str(int(m[1]) // 16), text)
            for old, new in TEXTS:
                text = text.replace(old, new)
        if exact_pi:
            text = text.replace("3.141592", repr(np.pi))
        text = text.replace("pretrained=True, model_path=args", "pretrained=False, model_path=args")
        module = ModuleType(name)
        module.__package__ = package
        sys.modules[name] = module
        exec(compile(text, str(path), "exec"), vars(module))
        return module

    class Layers(torch.nn.ModuleDict):
        """What torchvision calls IntermediateLayerGetter."""

        def __init__(self, network, return_layers):
            names = [n for n, _ in network.named_children()]
            kept = names[: names.index("layer4") + 1]
            super().__init__({n: getattr(network, n) for n in kept})

        def forward(self, x):
            out = {}
            for name, layer in self.items():
                x = layer(x)
                out[name] = x
            return {name: out[name] for name in ("layer1", "layer2", "layer3", "layer4")}

    def bert(_):
        config = {} if not small else {
            k: v for k, v in vars(BERT).items() if k not in ("pooler", "layer_norm_eps")
        }
        return BertModel(TheirConfig(**config))

    def stand_in(name: str, **contents: Any) -> None:
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(contents)

    root = Path(root)
    before = dict(sys.modules)
    try:
        resnets = run("cstm_resnet", root / "CSTM/models/backbones/resnet.py")
        resnet = SimpleNamespace(resnet101=resnets.resnet50 if small else resnets.resnet101)
        stand_in("torchvision")
        stand_in("torchvision.models", resnet=resnet)
        stand_in("torchvision.models._utils", IntermediateLayerGetter=Layers)
        stand_in("torchvision.models.utils", load_state_dict_from_url=None)
        stand_in("transformers", BertModel=SimpleNamespace(from_pretrained=bert))
        stand_in("util")
        run("util.tensor_util", root / "MMMMTBVS/util/tensor_util.py")
        stand_in("public_mmvt", __path__=[])
        for name in ("vision_language", "utils", "vision", "language", "segmentation", "network",
                     "losses"):
            path = root / f"MMMMTBVS/model/{name}.py"
            last = run(f"public_mmvt.{name}", path, "public_mmvt")
        args = dict.fromkeys(("pretrained_dir", "flow_pretrained_dir", "ck_bert"))
        network = sys.modules["public_mmvt.network"].PropagationNetwork(args)
        return network, last.LossComputer(None)
    finally:
        for name in set(sys.modules) - set(before):
            if name.startswith(("torchvision", "util", "public_mmvt", "cstm_resnet")):
                del sys.modules[name]
        sys.modules["transformers"] = before["transformers"]


def state_dict(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Public key -> array; the coordinates keep what the public code computes."""
    state = seeded.state_dict({k: s for k, s in shapes.items() if "spatial_pos" not in k})
    for key in state:
        if key.startswith("model."):  # the same ResNet under another name
            state[key] = state["Visionmodel." + key.removeprefix("model.")]
    return {k: v for k, v in state.items() if "position_ids" not in k and "token_type_ids" not in k}


def variables(config: MmvtConfig, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The seeded weights in our tree."""
    tokens = jax.ShapeDtypeStruct((1, WORDS), np.int32)
    like = jax.eval_shape(Mmvt(config).init, jax.random.key(0), {"tokens": tokens})
    return mmvt.from_public(state_dict(shapes), like)


def features(config: MmvtConfig, side: int = SIDE) -> tuple[Any, ...]:
    """Seeded maps of both streams [B, T, ...], words of BERT with their validity, and a mask."""
    wide = 4 if config.depth >= 50 else 1
    maps = {
        name: tuple(
            np.maximum(seeded.inputs(
                f"{name}{k}", (SAMPLES, FRAMES, side // stride, side // stride, width * 2**k)
            ), 0)
            for k, stride in enumerate((4, 8, 16, 16))
        )
        for name, width in (("vision", wide * config.width), ("flow", config.width))
    }
    words = seeded.inputs("words", (SAMPLES, WORDS, config.bert.hidden_size))
    valid = np.arange(WORDS) < np.array([[7], [12]])[:SAMPLES]
    mask = seeded.inputs("mask", (SAMPLES, side, side)) > 0.3
    return maps["vision"], maps["flow"], words, valid, mask


def answer(model: Mmvt, variables: Any, vision: Any, flow: Any, words: Any, valid: Any,
           **options: Any) -> Any:
    """What follows the streams, for the last frame of each clip."""
    target = jax.numpy.full(words.shape[0], FRAMES - 1)
    side = 4 * vision[0].shape[2]
    return model.network.apply(
        variables, vision, flow, target, Sentence(words, valid), (side, side), method="answer",
        **options,
    )


def summary(output: Any, terms: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What the goldens hold of a forward pass."""
    return {
        "logits": np.asarray(output.logits), "vision": np.asarray(output.embeddings.vision),
        "flow": np.asarray(output.embeddings.flow),
        **{name: np.asarray(each).mean() for name, each in terms.items()},
    }
