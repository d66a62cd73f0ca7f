"""A PyTorch port of backbones/i3d; see qvim_torch.py."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vseg_jax.backbones.i3d import MIXED


def same(x: Tensor, kernel: tuple[int, ...], strides: tuple[int, ...], value: float) -> Tensor:
    """Applies TensorFlow's SAME padding to the last three axes."""
    pads = []
    for size, k, s in zip(x.shape[2:], kernel, strides, strict=True):
        total = max((-(-size // s) - 1) * s + k - size, 0)
        pads = [total // 2, total - total // 2, *pads]
    return F.pad(x, pads, value=value) if any(pads) else x


def max_pool(x: Tensor, kernel: tuple[int, ...], strides: tuple[int, ...]) -> Tensor:
    return F.max_pool3d(same(x, kernel, strides, -torch.inf), kernel, strides)


class Unit(nn.Module):
    def __init__(self, into: int, out: int, size: int, stride: int, eps: float):
        super().__init__()
        self.size, self.stride = (size,) * 3, (stride,) * 3
        self.conv = nn.Conv3d(into, out, size, stride, bias=False)
        self.norm = nn.BatchNorm3d(out, eps)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(same(x, self.size, self.stride, 0.0))))


class Mixed(nn.Module):
    def __init__(self, into: int, c: tuple[int, ...], eps: float):
        super().__init__()
        self.branch_0 = Unit(into, c[0], 1, 1, eps)
        self.branch_1_a, self.branch_1_b = Unit(into, c[1], 1, 1, eps), Unit(c[1], c[2], 3, 1, eps)
        self.branch_2_a, self.branch_2_b = Unit(into, c[3], 1, 1, eps), Unit(c[3], c[4], 3, 1, eps)
        self.branch_3 = Unit(into, c[5], 1, 1, eps)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([
            self.branch_0(x),
            self.branch_1_b(self.branch_1_a(x)),
            self.branch_2_b(self.branch_2_a(x)),
            self.branch_3(max_pool(x, (3, 3, 3), (1, 1, 1))),
        ], 1)


class I3D(nn.Module):
    STAGES = (("3b", "3c"), ("4b", "4c", "4d", "4e", "4f"), ("5b", "5c"))
    POOLS = (((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((2, 2, 2), (2, 2, 2)))

    def __init__(self, width: float, eps: float):
        super().__init__()

        def scaled(*channels):
            return tuple(max(round(c * width), 1) for c in channels)

        first, second = scaled(64, 192)
        self.conv_1a = Unit(3, first, 7, 2, eps)
        self.conv_2b, self.conv_2c = Unit(first, first, 1, 1, eps), Unit(first, second, 3, 1, eps)
        self.channels, into = [first, second], second
        for names in self.STAGES:
            for name in names:
                c = scaled(*MIXED[name])
                setattr(self, f"mixed_{name}", Mixed(into, c, eps))
                into = c[0] + c[2] + c[4] + c[5]
            self.channels.append(into)

    def forward(self, x: Tensor) -> list[Tensor]:
        stages = [self.conv_1a(x)]
        x = max_pool(stages[0], (1, 3, 3), (1, 2, 2))
        stages.append(self.conv_2c(self.conv_2b(x)))
        for names, pool in zip(self.STAGES, self.POOLS, strict=True):
            x = max_pool(stages[-1], *pool)
            for name in names:
                x = getattr(self, f"mixed_{name}")(x)
            stages.append(x)
        return stages
