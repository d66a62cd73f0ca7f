"""The public PyTorch code of mmvt, in full or reduced size, with seeded weights and inputs.

github.com/wangbo-zhao/2022CVPR-MMMMTBVS at 4e735e662c3318826fd9eb3ef16d0e32ea3202d2, as the folder
MMMMTBVS of the references (docs/parity.md). Its sizes are literals; for small comparisons they
are divided in its source text. CSTM's ResNet replaces torchvision's. Only the functions that return
the public code and its inputs need torch and einops.
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

from vseg_jax.layers.normalization import IMAGENET
from vseg_jax.models.mmvt import Mmvt, MmvtConfig
from vseg_jax.models.mmvt.network import Query
from vseg_jax.text.bert import BertConfig
from vseg_jax.weights import mmvt

BERT = BertConfig(50, 48, 2, 4, 64, 32, pooler=False)
COMPAT = {"bug_compat_mask": True, "bug_compat_gate": True}
SMALL = MmvtConfig(
    depth=50, width=4, bert=BERT, channels=16, head_width=4, hidden=8, align_channels=8,
    align_chunk=24, dropout=0.0, aspp_dropout=0.0, **COMPAT,
)
SAMPLES, FRAMES, WORDS, SIDE = 2, 3, 20, 32
# In the public source: numbers to divide by 16, and sides of maps of an image of 320.
CHANNELS = re.compile(r"\b(2048|1024|768|512|256|128|64)\b")
SPATIAL = re.compile(r"spatial_size=(20|40|80)\b")


def load(
    root: str | Path, *, small: bool, side: int | None = None, exact: bool = False
) -> tuple[Any, Any]:
    """Returns (PropagationNetwork, LossComputer) of the public code.

    Args:
      root: folder of the references.
      small: sizes divided as above, ResNet-50 in place of ResNet-101, `BERT` in place of BERT-base.
      side: of the images, a multiple of 16; 320 in the public code, `SIDE` if small.
      exact: for comparisons in float64, replaces 3.141592 by pi, and the score of padding, 1e-9,
        by 0.
    """
    import torch
    from transformers import BertConfig as TheirConfig
    from transformers import BertModel

    cells = (side or (SIDE if small else 320)) // 16  # side of the coarsest maps
    sizes = [
        ("20:420", f"20:{20 + cells**2}"), ("420:", f"{20 + cells**2}:"),
        ("(20, 20)", f"({cells}, {cells})"),
    ]

    def run(name: str, path: Path, package: str = "") -> ModuleType:
        text = path.read_text()
        if small:
            text = CHANNELS.sub(lambda m: str(int(m[1]) // 16), text).replace("264", "24")
        for old, new in sizes:
            text = text.replace(old, new)
        text = SPATIAL.sub(lambda m: f"spatial_size={int(m[1]) * cells // 20}", text)
        if exact:
            text = text.replace("3.141592", repr(np.pi)).replace("1e-9", "0.0")
        text = text.replace("pretrained=True, model_path=args", "pretrained=False, model_path=args")
        module = ModuleType(name)
        module.__package__ = package
        sys.modules[name] = module
        exec(compile(text, str(path), "exec"), vars(module))
        return module

    class Layers(torch.nn.ModuleDict):
        """Replaces torchvision's IntermediateLayerGetter."""

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
    """Returns public key -> array, without the coordinates, which the public code computes."""
    state = seeded.state_dict({k: s for k, s in shapes.items() if "spatial_pos" not in k})
    for key in state:
        if key.startswith("model."):  # the same ResNet by another name
            state[key] = state["Visionmodel." + key.removeprefix("model.")]
    return {k: v for k, v in state.items() if "position_ids" not in k and "token_type_ids" not in k}


def variables(config: MmvtConfig, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Converts the seeded weights to our variables."""
    tokens = jax.ShapeDtypeStruct((1, WORDS), np.int32)
    like = jax.eval_shape(Mmvt(config).init, jax.random.key(0), {"tokens": tokens})
    return mmvt.from_public(state_dict(shapes), like)


def features(config: MmvtConfig, side: int = SIDE) -> tuple[Any, ...]:
    """Returns seeded maps of both streams [B, T, ...], words with their validity, and a mask."""
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


def batch() -> dict[str, np.ndarray]:
    """Returns random clips of small images, with sentences and masks (tasks/rvos.py)."""
    random = np.random.default_rng(0)
    shape = (SAMPLES, FRAMES, 32, 32)
    frames, flow = (random.integers(0, 256, (*shape, 3), np.uint8) for _ in range(2))
    valid = np.arange(WORDS) < np.array([[7], [12]])
    tokens = np.where(valid, random.integers(1, 50, valid.shape), 0).astype(np.int32)
    return {
        "frames": frames, "flow": flow, "target": np.full(SAMPLES, FRAMES - 1),
        "masks": (random.random(shape) > 0.6).astype(np.uint8),
        "masks_valid": np.ones(shape[:2], bool), "object_id": np.ones(SAMPLES, np.int32),
        "tokens": tokens, "tokens_valid": valid, "valid": np.ones(SAMPLES, bool),
    }


def images(x: np.ndarray, dtype: Any = np.float32) -> Any:
    """Converts frames [B, T, H, W, 3] to the input of the public code."""
    import torch

    x = (x / dtype(255) - np.asarray(IMAGENET[0], dtype)) / np.asarray(IMAGENET[1], dtype)
    return torch.from_numpy(np.moveaxis(x, -1, 2).copy())


def every_frame(x: np.ndarray) -> Any:
    """Repeats tokens or their validity for every frame: [B, T, 1, L]."""
    import torch

    return torch.from_numpy(x.astype(np.int64))[:, None, None].expand(-1, FRAMES, 1, -1)


def predict_from_maps(model: Mmvt, variables: Any, vision: Any, flow: Any, words: Any, valid: Any,
                      **options: Any) -> Any:
    """Runs our network after the streams, for the last frame of each clip."""
    target = jax.numpy.full(words.shape[0], FRAMES - 1)
    side = 4 * vision[0].shape[2]
    return model.network.apply(
        variables, vision, flow, target, Query(words, valid), (side, side),
        method="predict_from_maps", **options,
    )


def summary(output: Any, terms: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the numbers of a forward pass that the goldens store."""
    return {
        "logits": np.asarray(output.logits), "vision": np.asarray(output.embeddings.vision),
        "flow": np.asarray(output.embeddings.flow),
        **{name: np.asarray(each).mean() for name, each in terms.items()},
    }
