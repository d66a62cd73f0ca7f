"""A SwiftNet small enough to compile in a test, and synthetic clips for it."""

import jax
import numpy as np

from vseg_jax.models.swiftnet import Swiftnet, SwiftnetConfig

SMALL = {"depth": 18, "width": 4, "objects": 2, "dropout": 0.0, "every": 2, "capacity": 2,
         "share": 0.3}


def build(**changes) -> Swiftnet:
    return Swiftnet(SwiftnetConfig(**{**SMALL, **changes}))


def make_clip(length=3, height=40, width=44, seed=0):
    """Returns two bright rectangles moving over noise: frames [T, H, W, 3], masks [T, H, W]."""
    random = np.random.default_rng(seed)
    frames = random.integers(0, 90, (length, height, width, 3), np.uint8)
    masks = np.zeros((length, height, width), np.uint8)
    for t in range(length):
        masks[t, 4 + t : 20 + t, 6 : 20] = 1
        masks[t, 18 : 34, 24 - t : 40 - t] = 2
    frames[masks == 1] = (250, 60, 60)
    frames[masks == 2] = (60, 60, 250)
    return frames, masks


def make_batch(size=2, objects=2, **kind):
    clips = [make_clip(seed=s, **kind) for s in range(size)]
    frames, masks = (np.stack(x) for x in zip(*clips, strict=True))
    return {
        "frames": frames, "masks": masks, "masks_valid": np.ones(masks.shape[:2], bool),
        "objects": np.stack([(masks[:, 0] == n).any((1, 2)) for n in range(1, objects + 1)], 1),
        "video": np.arange(size, dtype=np.int32), "sample": np.arange(size, dtype=np.int32),
        "valid": np.ones(size, bool),
    }


def quick_jit(function, **options):
    """Jits with little optimization: compiles quickly, runs slowly."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0}, **options)
