"""Imports public PyTorch code to compare with, from a folder of checked-out repositories.

docs/parity.md describes the folder; `VSEG_REFERENCES` names it.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

# Folder name -> (repository, commit that the numbers in docs/parity.md are from).
REPOSITORIES = {
    "kinetics_i3d_pytorch": (
        "hassony2/kinetics_i3d_pytorch", "786fbae06a6fd5df419e1961cd32e32fbe8b396d",
    ),
    "pytorch-i3d": ("piergiaj/pytorch-i3d", "05783d11f9632b25fe3d50395a9c9bb51f848d6d"),
    "ACGA": ("haowang1992/ACGA", "85b436e36b2cf99826bb67b44dd1db7cf54455d8"),
    "CSTM": ("RyanHTR/CSTM", "8a183fd34c9d77c518811a49c32925b1cbf75ff0"),
    "EfficientNet-Lite-PyTorch": (
        "ml-illustrated/EfficientNet-Lite-PyTorch", "dd7132c8f902994f9e0de823bcd30229bcd546b6",
    ),
    "STM": ("seoungwugoh/STM", "905f11492a6692dd0d0fa395881a8ec09b211a36"),
    "SwiftNet": ("haochenheheda/SwiftNet", "02c7f449787f4c1c1ad4d21136c3870049725848"),
}
I3D_STAGES = ("conv3d_1a_7x7", "conv3d_2c_3x3", "mixed_3c", "mixed_4f", "mixed_5c")


def folder() -> Path | None:
    """Returns the folder of references, or None where the variable is not set."""
    value = os.environ.get("VSEG_REFERENCES")
    return Path(value) if value else None


def load(repository: str, file: str, root: str | Path | None = None) -> ModuleType:
    """Imports a single file of a reference repository.

    Raises:
      ValueError: the file does not exist.
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
    """Runs the named children of `network` in turn; returns the outputs of `kept`."""

    def __init__(self, network: torch.nn.Module, names: Sequence[str], kept: Sequence[str]):
        super().__init__()
        self.network, self.names, self.kept = network, names, kept

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        outputs = {}
        for name in self.names:
            x = outputs[name] = self.network._modules[name](x)
        return [outputs[name] for name in self.kept]


def i3d(repository: str = "kinetics_i3d_pytorch", root: str | Path | None = None) -> Steps:
    """Returns an I3D that returns its five stages; its state dict is in `.network`."""
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
    """Returns CSTM's copy of torchvision's ResNet, which returns the stem and the four layers."""
    module = load("CSTM", "models/backbones/resnet.py", root)
    build = getattr(module, f"resnet{depth}")
    return build(pretrained=False, replace_stride_with_dilation=list(dilations))


class _Strides(torch.nn.Module):
    """An EfficientNet that returns its map at each stride."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        network, outputs = self.network, []
        x = network._swish(network._bn0(network._conv_stem(x)))
        for block, after in zip(network._blocks, [*network._blocks[1:], None], strict=True):
            x = block(x)
            if after is None or after._depthwise_conv.stride[0] == 2:
                outputs.append(x)
        return outputs


def efficientnet(root: str | Path | None = None) -> _Strides:
    """Returns an EfficientNet-Lite0 that returns its five maps; its state dict is in `.network`."""
    name = "EfficientNet-Lite-PyTorch"
    package = (Path(root) if root else folder()) / name / "efficientnet_lite_pytorch"
    if not package.is_dir():
        raise ValueError(f"{package} is missing: check out {' at '.join(REPOSITORIES[name])}")
    sys.path.insert(0, str(package.parent))
    try:
        module = importlib.import_module(package.name)
    finally:
        sys.path.remove(str(package.parent))
    return _Strides(module.EfficientNet.from_name("efficientnet-lite0"))


def propagation(repository: str, root: str | Path | None = None) -> torch.nn.Module:
    """Returns STM or SwiftNet in evaluation mode, on the CPU, with CSTM's ResNet."""
    resnets = ModuleType("torchvision.models")
    for depth in (18, 50):
        build = lambda pretrained=False, depth=depth: resnet(depth, root=root)  # noqa: E731
        setattr(resnets, f"resnet{depth}", build)
    torchvision = ModuleType("torchvision")
    torchvision.models = resnets
    stand_ins = {"torchvision": torchvision, "torchvision.models": resnets}
    before = {name: sys.modules.get(name) for name in (*stand_ins, "helpers")}
    sys.modules.update(stand_ins)
    try:
        sys.modules["helpers"] = load(repository, "helpers.py", root)
        file = {"STM": "model.py", "SwiftNet": "swiftnet.py"}[repository]
        module = load(repository, file, root)
    finally:
        for name, value in before.items():
            sys.modules.pop(name, None)
            if value is not None:
                sys.modules[name] = value
    module.ToCuda = lambda x: x
    return getattr(module, repository)().eval()


def remember_and_read(
    peer: torch.nn.Module, frame: np.ndarray, masks: np.ndarray, others: np.ndarray,
    query: np.ndarray,
) -> tuple[torch.Tensor, dict[str, np.ndarray]]:
    """Runs STM or SwiftNet on a second frame, after a first one with masks.

    Args:
      peer: from `propagation`.
      frame: [1, H, W, 3] in [0, 1]; H and W are multiples of 16.
      masks: [1, N, H, W].
      others: masks of the other objects, in the same form.
      query: the second frame.

    Returns:
      probability: [N, H, W], differentiable.
      maps: intermediate results by name, channels last, and the probability.
    """
    stm, count = hasattr(peer, "Encoder_M"), masks.shape[1]
    dtype = next(peer.parameters()).dtype
    frame, query = (channels_first(x).to(dtype) for x in (frame, query))
    m, o = (torch.from_numpy(x[0]).to(dtype) for x in (masks, others))
    same = frame.expand(count, -1, -1, -1)
    if stm:
        x, *_ = peer.Encoder_M(same, m, o)
        r4, r3, r2, c1, _ = peer.Encoder_Q(query)
    else:
        first = peer.Encoder(same)
        x, *_ = peer.LAE(*first[:4], m, o)
        r4, r3, r2, c1, _ = peer.Encoder(query)
    key, value = peer.KV_M_r4(x)
    query_key, query_value = peer.KV_Q_r4(r4)
    several = [t.expand(count, -1, -1, -1) for t in (query_key, query_value, r3, r2)]
    if stm:
        read, _ = peer.Memory(key[:, :, None], value[:, :, None], *several[:2])
    else:
        read = peer.Memory(key.flatten(2), value.flatten(2), *several[:2])
    entered = read if stm else peer.aspp(read)
    logits = peer.Decoder(entered, *several[2:])
    probability = torch.softmax(logits, 1)[:, 1]
    maps = {"r4": r4, "r3": r3, "r2": r2, "c1": c1, "fused": x, "memory key": key,
            "memory value": value, "query key": query_key, "query value": query_value}
    maps = {k: channels_last(v) for k, v in maps.items()}
    return probability, maps | {"probability": probability.detach().numpy()}


def follow(
    peer: torch.nn.Module, frames: np.ndarray, mask: np.ndarray, every: int = 5
) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Runs a video as the public evaluation does (eval_DAVIS.py, eval.py: Run_video).

    Args:
      peer: from `propagation`.
      frames: [T, H, W, 3] in [0, 1].
      mask: [H, W], objects 1 ... N of the first frame.
      every: interval of the frames that stay in the memory.

    Returns:
      probabilities: [T - 1, N, H, W] after the aggregation.
      kept: frame -> positions [N, K] of the pixels that SwiftNet keeps, in rising order.
    """
    stm, count = hasattr(peer, "Encoder_M"), int(mask.max())
    images, number = channels_first(frames).float(), torch.tensor([count])
    masks = torch.from_numpy(mask == np.arange(11)[:, None, None]).float()[None]
    probabilities, kept, rest, memory = [], {}, [None] * 4, None
    for t in range(1, len(images)):
        if stm:
            previous = peer(images[t - 1 : t], masks, number)
        else:
            previous = peer(
                images[t - 1 : t], masks, *rest, number, first_frame_flag=t == 1
            )
        now = previous
        if t > 1:
            both = zip(memory, previous, strict=True)
            now = [torch.cat(pair, dim=3 if stm else 2) for pair in both]
        out = peer(images[t : t + 1], *now, number)
        logit, *rest = (out,) if stm else out
        if (t - 1) % every == 0:
            memory = now
            if t > 1 and not stm:
                before = memory[0].shape[2] - previous[0].shape[2]
                memory = [x[:, :, :before] for x in now]
                memory = peer.Memory_update(*memory, *previous)
                added = memory[0][:, :, before:]
                same = (previous[0][..., None] == added[:, :, None]).all(1)
                kept[t - 1] = same.float().argmax(1).numpy()
        masks = torch.softmax(logit, dim=1)
        probabilities.append(masks[0, 1 : count + 1].numpy())
    return np.stack(probabilities), kept


def channels_last(x: torch.Tensor) -> np.ndarray:
    return np.moveaxis(x.detach().numpy(), 1, -1)


def channels_first(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.moveaxis(x, -1, 1).copy())
