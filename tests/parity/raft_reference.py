"""Runs the public RAFT on the CPU, from the folder of references (docs/parity.md)."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import torch

REPOSITORY = "princeton-vl/RAFT"
COMMIT = "2888e15a51fa41140771d3f498ed8023cff098d1"
WEIGHTS = {"small": "raft-small.pth", "large": "raft-sintel.pth"}  # of download_models.sh


def module(root: str | Path, name: str) -> ModuleType:
    """Imports a module of core/, whose files import each other as top-level modules."""
    core = Path(root) / "RAFT" / "core"
    if not core.is_dir():
        raise ValueError(f"{core} is missing: check out {REPOSITORY} at {COMMIT} as {core.parent}")
    known = set(sys.modules)
    sys.path.insert(0, str(core))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(core))
        for new in set(sys.modules) - known:  # "utils" is a common name
            if str(core) in str(getattr(sys.modules[new], "__file__", "")):
                del sys.modules[new]


def network(root: str | Path, variant: str) -> torch.nn.Module:
    """Returns RAFT in evaluation mode, with PyTorch's random weights."""
    args = argparse.Namespace(small=variant == "small", mixed_precision=False)
    return module(root, "raft").RAFT(args).eval()


def public_weights(root: str | Path, variant: str) -> Path:
    """Returns the path at which download_models.sh stores the weights."""
    return Path(root) / "RAFT" / "models" / WEIGHTS[variant]


def flow(
    peer: torch.nn.Module, root: str | Path, frame1: np.ndarray, frame2: np.ndarray,
    iterations: int = 12,
) -> np.ndarray:
    """Returns every iteration's flow [I, B, H, W, 2] of frames [B, H, W, 3] in [0, 255].

    Frames are padded as in the public evaluation.
    """
    images = [torch.from_numpy(np.moveaxis(f, -1, 1).astype(np.float32)) for f in (frame1, frame2)]
    padder = module(root, "utils.utils").InputPadder(images[0].shape)
    with torch.no_grad():
        flows = peer(*padder.pad(*images), iters=iterations)
    return np.stack([np.moveaxis(padder.unpad(f).numpy(), 1, -1) for f in flows])


def synthetic_pair(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns two uint8 [1, H, W, 3]: a texture, and it slightly turned, scaled and shifted."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (height, width, 3), np.uint8)
    texture = cv2.normalize(cv2.GaussianBlur(texture, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 2, 1.03)
    turn[:, 2] += 3, -2
    moved = cv2.warpAffine(texture, turn, (width, height), borderMode=cv2.BORDER_REFLECT)
    return texture[None], moved[None]
