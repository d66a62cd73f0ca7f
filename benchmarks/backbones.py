"""I3D and ResNet-50, forward and with backward, compared with public PyTorch code.

    PYTHONPATH=. python benchmarks/backbones.py --references DIR [--output rows.json]

DIR holds the reference repositories; docs/parity.md describes the layout.
"""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks import harness
from tests.parity import references
from vseg_jax.backbones.i3d import I3D
from vseg_jax.backbones.resnet import ResNet


def main() -> None:
    parser = harness.arguments(__doc__.splitlines()[0])
    parser.add_argument("--references", required=True)
    parser.add_argument("--only", default="", help="only rows whose name contains this")
    parser.add_argument("--size", type=int, default=320)
    args = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    rng = np.random.default_rng(0)
    clip = rng.normal(size=(1, 8, args.size, args.size, 3)).astype(np.float32)
    image = rng.normal(size=(4, args.size, args.size, 3)).astype(np.float32)
    peer_i3d = freeze_norm(references.i3d(root=args.references))
    peer_resnet = freeze_norm(references.resnet(50, root=args.references))
    rows = [
        *pair("I3D 8x320x320", I3D(), peer_i3d, clip, args),
        *pair("ResNet-50 4x320x320", ResNet(50), peer_resnet, image, args),
    ]
    harness.report(rows, args.output)


def pair(name: str, ours, peer, x: np.ndarray, args) -> list[harness.Row]:
    """Returns two rows: forward, and the gradient of a sum of squares by all parameters."""
    if args.only not in name:
        return []
    variables = jax.jit(lambda x: ours.init(jax.random.key(0), x, train=False))(x)
    x_ours, x_peer = jnp.asarray(x), torch.from_numpy(np.moveaxis(x, -1, 1).copy())
    forward = jax.jit(lambda v, x: ours.apply(v, x, train=False))
    backward = jax.jit(jax.grad(
        lambda p, v, x: (ours.apply({**v, "params": p}, x, train=False)[-1] ** 2).sum()
    ))

    def peer_forward():
        with torch.no_grad():
            return peer(x_peer)

    def peer_backward():
        peer.zero_grad()
        (peer(x_peer)[-1] ** 2).sum().backward()

    work = {
        f"{name}, forward": (lambda: forward(variables, x_ours), peer_forward),
        f"{name}, with backward": (
            lambda: backward(variables["params"], variables, x_ours), peer_backward
        ),
    }
    return [
        harness.compare(title, *functions, repeats=args.repeats)
        for title, functions in work.items()
    ]


def freeze_norm(network: torch.nn.Module) -> torch.nn.Module:
    """Uses running statistics and no gradient for scale and shift, like `norm="frozen"`."""
    network.eval()
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.requires_grad_(False)
    return network


if __name__ == "__main__":
    main()
