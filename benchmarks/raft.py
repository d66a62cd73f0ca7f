"""RAFT, both sizes, 12 iterations: pairs per second, compared with the public PyTorch code.

    PYTHONPATH=.:tests/parity python benchmarks/raft.py [--references DIR] [--output rows.json]

DIR holds the reference repositories as docs/parity.md lays them out; without it there is no peer.
Weights are random on both sides: the time does not depend on them.
"""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import harness
from vseg_jax.backbones.raft import Raft
from vseg_jax.weights.raft import shapes

ITERATIONS = 12


def main() -> None:
    parser = harness.arguments(__doc__.splitlines()[0])
    parser.add_argument("--references")
    parser.add_argument("--only", choices=("small", "large"), help="one of the sizes")
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=856)
    parser.add_argument("--batch", type=int, default=1)
    args = parser.parse_args()
    shape = (args.batch, args.height, args.width, 3)
    frames = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
    variants = [args.only] if args.only else ["small", "large"]
    rows = [row(variant, frames, args) for variant in variants]
    harness.report(rows, args.output)
    for result in rows:
        ours, peer = (args.batch * 1e3 / ms if ms else float("nan")
                      for ms in (result.ours_ms, result.peer_ms))
        print(f"{result.name}: {ours:.2f} pairs/s, peer {peer:.2f}")


def row(variant: str, frames: np.ndarray, args) -> harness.Row:
    network = Raft(variant)
    first, second = map(jnp.asarray, frames)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda x: jnp.asarray(rng.uniform(0, 0.02, x.shape), x.dtype), shapes(network)
    )
    run = jax.jit(lambda v, *pair: network.apply(v, *pair, ITERATIONS))
    name = f"RAFT {variant}, {args.batch}x{args.height}x{args.width}"
    peer = public(variant, frames, args.references) if args.references else None
    return harness.compare(name, lambda: run(variables, first, second), peer, args.repeats)


def public(variant: str, frames: np.ndarray, root: str):
    """Returns the public code on the same frames, whose sides are multiples of 8.

    It upsamples the flow of every iteration, even if (`test_mode`) only the last one is requested;
    ours upsamples only the last.
    """
    import raft_reference
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    network = raft_reference.network(root, variant)
    pair = [torch.from_numpy(np.moveaxis(f, -1, 1).astype(np.float32)) for f in frames]

    def run():
        with torch.no_grad():
            return network(*pair, iters=ITERATIONS, test_mode=True)

    return run


if __name__ == "__main__":
    main()
