"""Writes tests/goldens/{stm,swiftnet}.npz from the public PyTorch code of STM and SwiftNet.

    PYTHONPATH=.:tests/parity python tests/goldens/swiftnet.py --references DIR

Repositories, commits and the layout of DIR: docs/parity.md (tests/parity/references.py lists
them). Weights, video and masks follow from names and seeds (tests/parity/propagation.py), so only
the public keys with their shapes, and samples of the results, are stored.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import propagation
import references
import seeded
import torch

HERE = Path(__file__).parent
SIZE = (32, 48)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--references", required=True)
    root = parser.parse_args().references
    torch.set_grad_enabled(False)
    for repository in ("STM", "SwiftNet"):
        write(repository, references.propagation(repository, root))


def write(repository: str, peer: torch.nn.Module) -> None:
    """Writes samples of all maps of two frames: the first is memorized, the second reads it."""
    shapes = {k: tuple(v.shape) for k, v in peer.state_dict().items()}
    state = propagation.state_dict(repository, shapes)
    peer.load_state_dict({k: torch.from_numpy(np.asarray(v)) for k, v in state.items()})
    _, maps = references.remember_and_read(peer, *propagation.example(*SIZE))
    maps = {name: seeded.sample(x) for name, x in maps.items()}
    path = HERE / f"{repository.lower()}.npz"
    np.savez_compressed(path, shapes=json.dumps(shapes), **maps)
    print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
