"""A cvls small enough to compile in a test, and batches for it."""

import jax
import numpy as np

from vseg_jax.models.cvls import Cvls, CvlsConfig

SMALL = {
    "backbone": "resnet18", "resnet_width": 4, "vocabulary": 20, "word_width": 6, "lstm_width": 5,
    "channels": 8, "max_objects": 3, "projection_hidden": 10, "projection_dim": 6,
}


def build(**changes) -> Cvls:
    return Cvls(CvlsConfig(**{**SMALL, **changes}))


def make_batch(seed=0, size=2, length=2, side=32, words=5):
    """Random frames with two bright rectangles; the first of them is named."""
    random = np.random.default_rng(seed)
    frames = random.integers(0, 256, (size, length, side, side, 3), np.uint8)
    masks = np.zeros((size, length, side, side), np.uint8)
    for sample in range(size):
        y, x = random.integers(0, side // 4, 2)
        masks[sample, :, y : y + side // 2, x : x + side // 4] = 1
        masks[sample, :, y : y + side // 3, side // 2 + x :] = 2
    frames[masks == 1], frames[masks == 2] = 250, 10
    lengths = random.integers(2, words, size)
    valid = np.arange(words) < lengths[:, None]
    return {
        "frames": frames,
        "masks": masks,
        "masks_valid": np.ones((size, length), bool),
        "target": np.full(size, length - 1, np.int32),
        "object_id": np.ones(size, np.int32),
        "tokens": np.where(valid, random.integers(2, 20, valid.shape), 0).astype(np.int32),
        "tokens_valid": valid,
        "video": np.arange(size, dtype=np.int32),
        "sample": np.arange(size, dtype=np.int32),
        "valid": np.ones(size, bool),
        "geometry": np.tile(np.float32([1, 1, 0, 0]), (size, 1)),
    }


def quick_jit(function, **options):
    """jit that compiles quickly and runs slowly."""
    return jax.jit(function, **options, compiler_options={"xla_backend_optimization_level": 0})
