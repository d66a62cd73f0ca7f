"""MaskFormer's public head, with seeded weights and maps for it and for rcf without references.

github.com/facebookresearch/MaskFormer at da3e60d85fdeedcb31476b5edd7d328826ce56cc, as the folder
MaskFormer of the references (docs/parity.md): mask_former/modeling/heads/pixel_decoder.py and
mask_former/modeling/transformer/*.py. Stand-ins replace what it needs of detectron2 and fvcore: a
convolution that includes its norm, and registries. Two things differ on purpose: the filters have
two layers instead of three, as in rcf's paper; at 64 channels group norm has groups of 8, like
detectron2's 32 groups at 256 channels. `load` needs torch; the rest of this file does not.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections import namedtuple
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import seeded

from vseg_jax.models.rcf.config import RcfConfig
from vseg_jax.models.rcf.network import Network
from vseg_jax.weights.convert import Rule, convert, kernel, layer, norm

CONFIG = RcfConfig(
    categories=7, references=0, channels=64, heads=8, hidden=96, encoder_layers=2, decoder_layers=2,
    queries=5, mask_channels=24, dropout=0.0,
)
PYRAMID = {"res2": (16, 24, 16), "res3": (8, 12, 24), "res4": (4, 6, 32), "res5": (2, 3, 40)}


def load(root: str | Path) -> Any:
    """Returns the public head: maps [B, C, h, w] by name -> {classes, masks} of all layers."""
    import torch

    c = CONFIG
    with _stand_ins():
        decoder = _read(root, "heads/pixel_decoder", "heads").TransformerEncoderPixelDecoder
        predictor = _read(root, "transformer/transformer_predictor", "transformer")
    shape = namedtuple("ShapeSpec", "channels stride")
    shapes = {n: shape(s[2], 2 ** int(n[-1])) for n, s in PYRAMID.items()}
    common = {"dropout": 0.0, "nheads": c.heads, "dim_feedforward": c.hidden, "pre_norm": False}

    class Head(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.pixel_decoder = decoder(
                shapes, conv_dim=c.channels, mask_dim=c.mask_channels, norm="GN",
                transformer_enc_layers=c.encoder_layers,
                **{f"transformer_{name}": value for name, value in common.items()},
            )
            self.predictor = predictor.TransformerPredictor(
                c.channels, num_classes=c.categories, hidden_dim=c.channels,
                num_queries=c.queries, enc_layers=0, dec_layers=c.decoder_layers,
                deep_supervision=True, mask_dim=c.mask_channels, enforce_input_project=False,
                **common,
            )
            self.predictor.mask_embed = predictor.MLP(c.channels, c.channels, c.mask_channels, 2)

        def forward(self, maps):
            finest, tokens = self.pixel_decoder.forward_features(maps)
            out = self.predictor(tokens, finest)
            layers = [*out["aux_outputs"], out]
            return {
                "classes": torch.stack([x["pred_logits"] for x in layers]),
                "masks": torch.stack([x["pred_masks"] for x in layers]),
            }

    return Head().eval()


def positions(root: str | Path) -> Any:
    """Returns the public module of position codes for 64 channels."""
    module = _read(root, "transformer/position_encoding", "transformer")
    return module.PositionEmbeddingSine(32, normalize=True)


def maps() -> list[np.ndarray]:
    """Returns the pyramid, channels last, the largest map first."""
    return [seeded.inputs(name, (2, *shape)) for name, shape in PYRAMID.items()]


def variables(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Converts the seeded weights of the public network to our variables."""
    state_dict: dict[str, np.ndarray] = {}
    for key, value in seeded.state_dict(shapes).items():
        if "in_proj_" in key:  # queries, keys and values in one
            for name, part in zip(("query", "key", "value"), np.split(value, 3), strict=True):
                state_dict[key.replace("in_proj_", f"{name}.")] = part
        else:
            state_dict[key] = value
    like = jax.eval_shape(
        lambda: Network(CONFIG).init(
            jax.random.key(0), tuple(jnp.asarray(x) for x in maps()), None, None, None, train=False
        )
    )
    return convert(state_dict, RULES, like)


def prediction(variables: Mapping[str, Any], pyramid: list[Any]) -> dict[str, Any]:
    """Returns our outputs, by the same names."""
    out = Network(CONFIG).apply(
        variables, tuple(pyramid), None, None, None, train=False, layers=True
    )
    return {"classes": out.classes, "masks": out.masks}


def _attention(pattern: str, target: str) -> list[Rule]:
    return [
        *layer(rf"{pattern}\.(query|key|value)", rf"{target}/\2"),
        *layer(rf"{pattern}\.out_proj", f"{target}/out"),
    ]


_ENCODER, _DECODER = (
    (rf"{a}\.layers\.(\d)", rf"{b}/layer\1") for a, b in (
        (r"pixel_decoder\.transformer\.encoder", "fusion/encoder"),
        (r"predictor\.transformer\.decoder", "decoder"),
    )
)
RULES = [
    *layer(r"pixel_decoder\.input_proj", "fusion/target"),
    *_attention(rf"{_ENCODER[0]}\.self_attn", f"{_ENCODER[1]}/attention"),
    *_attention(rf"{_DECODER[0]}\.self_attn", f"{_DECODER[1]}/self_attention"),
    *_attention(rf"{_DECODER[0]}\.multihead_attn", f"{_DECODER[1]}/cross_attention"),
    *(rule for theirs, ours in (_ENCODER, _DECODER) for rule in (
        *layer(rf"{theirs}\.linear([12])", rf"{ours}/dense\2"),
        *norm(rf"{theirs}\.norm(\d)", rf"{ours}/norm\2"),
    )),
    *norm(r"predictor\.transformer\.decoder\.norm", "decoder/norm"),
    Rule(r"predictor\.query_embed\.weight", "params/decoder/queries"),
    *layer(r"predictor\.class_embed", "head/classes"),
    *layer(r"predictor\.mask_embed\.layers\.0", "head/filters1"),
    *layer(r"predictor\.mask_embed\.layers\.1", "head/filters2"),
    Rule(r"pixel_decoder\.adapter_(\d)\.weight", r"params/mask_decoder/lateral\1/kernel", kernel),
    *norm(r"pixel_decoder\.adapter_(\d)\.norm", r"mask_decoder/lateral_norm\1"),
    Rule(r"pixel_decoder\.layer_(\d)\.weight", r"params/mask_decoder/conv\1/kernel", kernel),
    *norm(r"pixel_decoder\.layer_(\d)\.norm", r"mask_decoder/norm\1"),
    *layer(r"pixel_decoder\.mask_features", "mask_decoder/predict"),
]


def _read(root: str | Path, file: str, package: str) -> ModuleType:
    path = Path(root) / "MaskFormer/mask_former/modeling" / f"{file}.py"
    if not path.is_file():
        raise ValueError(f"{path} is missing: check out facebookresearch/MaskFormer as MaskFormer")
    spec = importlib.util.spec_from_file_location(f"maskformer.{package}.{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    if path.stem not in ("position_encoding", "transformer"):
        for name in ("position_encoding", "transformer"):
            _read(root, f"transformer/{name}", "transformer")
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _stand_ins():
    """Replaces the parts of detectron2 and fvcore that the head uses."""
    import torch

    class Conv2d(torch.nn.Conv2d):
        def __init__(self, *inputs, norm=None, activation=None, **options):
            super().__init__(*inputs, **options)
            self.norm, self.activation = norm, activation

        def forward(self, x):
            x = super().forward(x)
            x = x if self.norm is None else self.norm(x)
            return x if self.activation is None else self.activation(x)

    def getnorm(name, channels):
        assert name == "GN"
        return torch.nn.GroupNorm(channels // 8, channels)

    class Registry:
        def register(self):
            return lambda x: x

    def same(x):
        return x

    contents: dict[str, dict[str, Any]] = {
        "fvcore": {}, "fvcore.nn": {},
        "fvcore.nn.weight_init": {"c2_xavier_fill": same},
        "detectron2": {}, "detectron2.config": {"configurable": same},
        "detectron2.layers": {
            "Conv2d": Conv2d, "DeformConv": None, "ShapeSpec": None, "get_norm": get_norm},
        "detectron2.modeling": {"SEM_SEG_HEADS_REGISTRY": Registry()},
        "maskformer": {"__path__": []}, "maskformer.heads": {"__path__": []},
        "maskformer.transformer": {"__path__": []},
    }
    before = dict(sys.modules)
    try:
        for name, values in contents.items():
            sys.modules[name] = ModuleType(name)
            vars(sys.modules[name]).update(values)
            parent, _, last = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], last, sys.modules[name])
        yield
    finally:
        for name in set(sys.modules) - set(before):
            if name.split(".")[0] in ("fvcore", "detectron2", "maskformer"):
                del sys.modules[name]
