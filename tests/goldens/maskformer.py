"""Writes tests/goldens/maskformer.npz from the public PyTorch code of MaskFormer.

    PYTHONPATH=.:tests/parity python tests/goldens/maskformer.py --references DIR

Repository, commit and the layout of DIR: tests/parity/maskformer_public.py and docs/parity.md. The
head (transformer encoder, FPN, transformer decoder, classes, masks of every layer) on seeded maps.
Weights and maps follow from names and seeds, so only the public keys with their shapes, and samples
of the results, are stored.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import maskformer_public
import numpy as np
import seeded
import torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--references", required=True)
    root = parser.parse_args().references
    torch.set_grad_enabled(False)
    head = maskformer_public.load(root)
    shapes = fill(head)
    results = run(head, maskformer_public.maps())
    code = maskformer_public.positions(root)(torch.zeros(1, 64, 5, 7))[0]
    results["positions"] = np.moveaxis(code.numpy(), 0, -1).reshape(35, 64)
    results = {name: seeded.sample(x) for name, x in results.items()}
    path = Path(__file__).with_suffix(".npz")
    np.savez_compressed(path, shapes=json.dumps(shapes), **results)
    print(path.name, path.stat().st_size, "bytes")


def fill(head: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Loads the seeded weights into the public head; returns their shapes."""
    shapes = {k: tuple(v.shape) for k, v in head.state_dict().items()}
    head.load_state_dict({k: torch.from_numpy(v) for k, v in seeded.state_dict(shapes).items()})
    return shapes


def run(head: torch.nn.Module, maps: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the public head's outputs for maps, channels last."""
    pyramid = {
        name: torch.from_numpy(np.moveaxis(x, -1, 1).copy())
        for name, x in zip(maskformer_public.PYRAMID, maps, strict=True)
    }
    return {name: x.numpy() for name, x in head(pyramid).items()}


if __name__ == "__main__":
    main()
