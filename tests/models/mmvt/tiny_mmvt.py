"""An mmvt small enough to compile in a test, and batches for it."""

import jax
import numpy as np

from vseg_jax.models.mmvt import Mmvt, MmvtConfig

SMALL = {
    "depth": 18, "flow_depth": 18, "width": 2, "backbone_norm": "frozen", "text": "words",
    "vocabulary": 20, "word_width": 6, "channels": 8, "layers": 2, "heads": 2, "head_width": 4,
    "hidden": 8, "align_channels": 4, "align_chunk": 5, "dropout": 0.0, "aspp_dropout": 0.0,
}


def build(**changes) -> Mmvt:
    return Mmvt(MmvtConfig(**{**SMALL, **changes}))


def make_batch(seed=0, size=2, length=3, side=32, words=5):
    """Random frames; the named object is a bright rectangle; sentences of different lengths."""
    random = np.random.default_rng(seed)
    frames = random.integers(0, 256, (size, length, side, side, 3), np.uint8)
    masks = np.zeros((size, length, side, side), np.uint8)
    for sample in range(size):
        y, x = random.integers(0, side // 2, 2)
        masks[sample, :, y : y + side // 2, x : x + side // 3] = 1
    frames[masks == 1] = 250
    lengths = random.integers(2, words, size)
    valid = np.arange(words) < lengths[:, None]
    return {
        "frames": frames,
        "flow": random.integers(0, 256, frames.shape, np.uint8),
        "masks": masks,
        "masks_valid": np.ones((size, length), bool),
        "target": np.full(size, 1, np.int32),
        "object_id": np.ones(size, np.int32),
        "tokens": np.where(valid, random.integers(2, 20, valid.shape), 0).astype(np.int32),
        "tokens_valid": valid,
        "video": np.arange(size, dtype=np.int32),
        "sample": np.arange(size, dtype=np.int32),
        "valid": np.ones(size, bool),
        "geometry": np.tile(np.float32([1, 1, 0, 0]), (size, 1)),
    }


def quick_jit(function):
    """jit that compiles quickly and runs slowly."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})
