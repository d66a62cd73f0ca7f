"""Attention, resizing, 1x1 convolution and max pooling, compared with PyTorch.

    PYTHONPATH=. python benchmarks/layers.py [--output rows.json]
"""

from __future__ import annotations

import os
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F

from benchmarks import harness
from vseg_jax.layers import resize
from vseg_jax.layers.attention import attention
from vseg_jax.layers.convolution import matrix_product, max_pool

RNG = np.random.default_rng(0)


def main() -> None:
    args = harness.arguments(__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    heads = [normal(4, 820, 8, 32) for _ in range(3)]
    by_head = [np.moveaxis(x, 2, 1) for x in heads]
    image, kernel = normal(4, 80, 80, 64), normal(64, 256)
    wide = normal(1, 80, 80, 256)
    stem = normal(4, 160, 160, 64)
    cases = {
        "attention 4x820, 8 heads of 32": (
            attention, heads, F.scaled_dot_product_attention, by_head,
        ),
        "bilinear 80x80x256 -> 160x160": (
            lambda x: resize.bilinear(x, (160, 160), align_corners=True), [wide],
            lambda x: F.interpolate(x, (160, 160), mode="bilinear", align_corners=True),
            [first(wide)],
        ),
        "1x1 convolution 4x80x80, 64 -> 256": (
            matrix_product, [image, kernel],
            lambda x, w: F.conv2d(x, w), [first(image), kernel.T[:, :, None, None]],
        ),
        "max pool 4x160x160x64, 3x3 by 2": (
            lambda x: max_pool(x, (3, 3), (2, 2), (1, 1)), [stem],
            lambda x: F.max_pool2d(x, 3, 2, 1), [first(stem)],
        ),
    }
    rows = [row for name, case in cases.items() for row in pair(name, *case, args.repeats)]
    harness.report(rows, args.output)


def pair(
    name: str, ours: Callable, inputs: list, peer: Callable, peer_inputs: list, repeats: int
) -> list[harness.Row]:
    """Returns two rows: forward, and the gradient of a sum of squares by all inputs."""
    inputs = [jnp.asarray(x) for x in inputs]
    peer_inputs = [torch.from_numpy(x.copy()).requires_grad_() for x in peer_inputs]
    forward = jax.jit(ours)
    backward = jax.jit(
        jax.grad(lambda *x: (ours(*x) ** 2).sum(), argnums=tuple(range(len(inputs))))
    )

    def peer_forward() -> torch.Tensor:
        with torch.no_grad():
            return peer(*peer_inputs)

    def peer_backward() -> None:
        torch.autograd.grad((peer(*peer_inputs) ** 2).sum(), peer_inputs)

    return [
        harness.compare(f"{name}, forward", lambda: forward(*inputs), peer_forward, repeats),
        harness.compare(
            f"{name}, with backward", lambda: backward(*inputs), peer_backward, repeats
        ),
    ]


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


def first(x: np.ndarray) -> np.ndarray:
    """Moves the channels to the second axis, as in PyTorch."""
    return np.moveaxis(x, -1, 1)


if __name__ == "__main__":
    main()
