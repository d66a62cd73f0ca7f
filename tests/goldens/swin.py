"""Writes tests/goldens/{swin,vggish}.npz from public PyTorch code.

    PYTHONPATH=.:tests/parity python tests/goldens/swin.py --references DIR

Repositories, commits and the layout of DIR: docs/parity.md. Weights and inputs are seeded by their
names (tests/parity/seeded.py), so only the public keys with their shapes, and samples of the
results, are stored. Double precision throughout.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import seeded
import swin_reference as small
import torch

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--references", required=True, type=Path)
    root = parser.parse_args().references
    write("swin", swin(small.mask2former(root).double()))
    write("vggish", vggish(small.torchvggish(root).double()))


def swin(network) -> dict:
    """Returns all maps, and gradients of the sum of their mean cubes.

    Squares of a normalized map would hardly change. Of the gradient by the image samples are kept,
    of those by the parameters the norms.
    """
    golden = shapes(small.state(network))
    x = np.moveaxis(seeded.inputs("image", small.IMAGE), -1, 1)
    x = torch.from_numpy(x.copy()).double().requires_grad_()
    maps = list(network(x).values())
    for i, value in enumerate(maps):
        golden[f"output {i}"] = seeded.sample(value.movedim(1, -1).detach())
    sum((value**3).mean() for value in maps).backward()
    golden["gradient by input"] = seeded.sample(x.grad.movedim(1, -1))
    for key, parameter in network.named_parameters():
        golden[f"gradient by {key}"] = parameter.grad.norm().numpy()
    return golden


@torch.no_grad()
def vggish(network) -> dict:
    """Returns the input and the output of the last layer."""
    golden = shapes(small.state(network))
    network.embeddings[3].register_forward_hook(
        lambda module, inputs, output: golden.update(features=seeded.sample(output))
    )
    patches = torch.from_numpy(seeded.inputs("patches", small.PATCHES)[:, None]).double()
    golden["embedding"] = seeded.sample(network(patches))
    return golden


def shapes(state) -> dict:
    return {"shapes": json.dumps({k: v.shape for k, v in state.items()})}


def write(name: str, golden: dict) -> None:
    np.savez_compressed(HERE / f"{name}.npz", **golden)
    print(name, (HERE / f"{name}.npz").stat().st_size, "bytes")


if __name__ == "__main__":
    main()
