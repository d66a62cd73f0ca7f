"""Settings and public modules of the small Swin and VGGish that are compared."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import seeded

SWIN = {"width": 8, "blocks": (2, 2, 2, 1), "heads": (1, 2, 2, 4), "window": 3}
# Neither strides nor windows divide the sides; the last map is smaller than a window.
IMAGE = (2, 61, 74, 3)
PATCHES = (2, 96, 64)


def mask2former(root: Path, window: int = SWIN["window"]):
    """Returns Swin of facebookresearch/Mask2Former at 9b0651c6c1d5b3af2e6da0589b719c514ec0d69a.

    Stand-ins replace detectron2 and timm, of which a network without drop path needs only names.
    """
    modeling, layers = ModuleType("detectron2.modeling"), ModuleType("timm.models.layers")
    modeling.BACKBONE_REGISTRY = type("Registry", (), {"register": lambda self: lambda c: c})()
    modeling.Backbone, modeling.ShapeSpec = object, None
    layers.DropPath = None
    layers.to_2tuple = lambda x: x if isinstance(x, tuple) else (x, x)
    layers.trunc_normal_ = lambda x, std: x
    names = {"detectron2": ModuleType("detectron2"), "detectron2.modeling": modeling,
             "timm": ModuleType("timm"), "timm.models": ModuleType("timm.models"),
             "timm.models.layers": layers}
    path = root / "Mask2Former/mask2former/modeling/backbone/swin.py"
    module = _imported(path, "mask2former_swin", names)
    network = module.SwinTransformer(
        embed_dim=SWIN["width"], depths=SWIN["blocks"], num_heads=SWIN["heads"],
        window_size=window, drop_path_rate=0.0,
    )
    network.eval()  # returns None
    return network


def torchvggish(root: Path):
    """Returns VGGish of harritaylor/torchvggish at f3f90969ce8fb77a05d984b892ddf662e8466377."""
    package = ModuleType("torchvggish")
    package.__path__ = []
    names = {"torchvggish": package}
    for name in ("vggish_input", "vggish_params"):
        setattr(package, name, ModuleType(name))
        names[f"torchvggish.{name}"] = getattr(package, name)
    path = root / "torchvggish/torchvggish/vggish.py"
    return _imported(path, "torchvggish.vggish", names)._vgg().eval()


def state(network) -> dict[str, np.ndarray]:
    """Seeds a torch network's parameters and returns them."""
    import torch

    arrays = seeded.state_dict({k: tuple(v.shape) for k, v in network.named_parameters()})
    tensors = {k: torch.from_numpy(np.asarray(v)) for k, v in arrays.items()}
    problems = network.load_state_dict(tensors, strict=False)
    assert not problems.unexpected_keys
    return arrays


def _imported(path: Path, name: str, stand_ins: dict[str, ModuleType]) -> ModuleType:
    before = {key: sys.modules.get(key) for key in stand_ins}
    sys.modules.update(stand_ins)
    try:
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        for key, value in before.items():
            sys.modules.pop(key, None)
            if value is not None:
                sys.modules[key] = value
    return module
