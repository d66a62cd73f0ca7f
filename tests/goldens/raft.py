"""Writes tests/goldens/raft_{small,large}.npz from the public PyTorch code of RAFT.

    PYTHONPATH=.:tests/parity python tests/goldens/raft.py --references DIR

Repository, commit and the layout of DIR: docs/parity.md. Weights and frames follow from names and
seeds (tests/parity/seeded.py, `frames`), so only the public keys with their shapes, and samples of
every iteration's flow, are stored.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import raft_reference
import seeded
import torch
from raft_example import ITERATIONS, frames, state_dict

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--references", required=True)
    root = parser.parse_args().references
    torch.set_num_threads(1)
    for variant in ("small", "large"):
        peer = raft_reference.network(root, variant)
        shapes = {k: tuple(v.shape) for k, v in peer.state_dict().items()}
        state = state_dict(shapes)
        peer.load_state_dict({k: torch.from_numpy(np.asarray(v)) for k, v in state.items()})
        flows = raft_reference.flow(peer, root, *frames(), ITERATIONS)
        path = HERE / f"raft_{variant}.npz"
        samples = np.stack([seeded.sample(flow) for flow in flows])
        np.savez_compressed(path, shapes=json.dumps(shapes), flows=samples)
        print(path, path.stat().st_size, "bytes; mean length of each iteration's flow:",
              *np.hypot(flows[..., 0], flows[..., 1]).mean((1, 2, 3)).round(3))


if __name__ == "__main__":
    main()
