"""Writes tests/goldens/{i3d,resnet50,efficientnet,coordinates}.npz from public PyTorch code.

    PYTHONPATH=.:tests/parity python tests/goldens/backbones.py --references DIR

Repositories, commits and the layout of DIR: docs/parity.md (tests/parity/references.py lists
them). Weights and inputs are seeded by their names (tests/parity/seeded.py), so only the public
keys with their shapes, and samples of the results, are stored. Double precision throughout.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import references
import seeded
import torch

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--references", required=True)
    root = parser.parse_args().references
    i3d = references.i3d("kinetics_i3d_pytorch", root)
    write("i3d", i3d.network, i3d, (1, 8, 64, 64, 3), (1, 5, 32, 32, 3), 3)
    resnet = references.resnet(50, root=root)
    write("resnet50", resnet, lambda x: resnet(x)[1:], (1, 64, 64, 3), (1, 32, 32, 3), 2)
    lite = references.efficientnet(root)
    write("efficientnet", lite.network, lite, (1, 64, 96, 3), (1, 32, 64, 3), 3)
    feature = references.load("ACGA", "util/tool.py", root).get_video_spatial_feature(3, 5)
    np.savez_compressed(HERE / "coordinates.npz", feature=np.moveaxis(feature, 0, -1))


def write(name: str, network: torch.nn.Module, run, shape, small_shape, stages: int) -> None:
    """Writes samples of all outputs for `shape`, and of the gradients of `stages` outputs."""
    network.eval().double()
    shapes = {k: tuple(v.shape) for k, v in network.state_dict().items()}
    state = seeded.state_dict(shapes)
    network.load_state_dict({k: torch.from_numpy(np.asarray(v)) for k, v in state.items()})
    golden = {"shapes": json.dumps(shapes)}
    with torch.no_grad():
        for i, output in enumerate(run(to_torch(seeded.inputs("golden", shape)))):
            golden[f"output {i}"] = seeded.sample(to_numpy(output))
    x = to_torch(seeded.inputs("golden", small_shape)).requires_grad_()
    sum((output**2).mean() for output in run(x)[:stages]).backward()
    golden["gradient by input"] = seeded.sample(to_numpy(x.grad))
    for key, parameter in network.named_parameters():
        if parameter.grad is not None:
            golden[f"gradient by {key}"] = parameter.grad.norm().numpy()
    np.savez_compressed(HERE / f"{name}.npz", **golden)
    print(name, (HERE / f"{name}.npz").stat().st_size, "bytes")


def to_torch(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.moveaxis(x, -1, 1).astype(np.float64))


def to_numpy(x: torch.Tensor) -> np.ndarray:
    return np.moveaxis(x.numpy(), 1, -1)


if __name__ == "__main__":
    main()
