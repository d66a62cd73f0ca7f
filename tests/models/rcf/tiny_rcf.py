"""An rcf small enough to compile in a test, and synthetic clips for it."""

import jax
import jax.numpy as jnp
import numpy as np

from vseg_jax.models.rcf import Rcf, RcfConfig

SMALL = {
    "categories": 3, "depth": 18, "width": 4, "channels": 16, "heads": 2, "hidden": 16,
    "encoder_layers": 1, "decoder_layers": 2, "queries": 4, "mask_channels": 8,
    "dropout": 0.0, "backbone_norm": "batch",
}
WITH_AUDIO = {"audio": True, "vggish_width": 1, "audio_features": 8, "audio_hidden": 4,
           "vggish_frozen": False}


def build(**changes) -> Rcf:
    return Rcf(RcfConfig(**{**SMALL, **changes}))


def make_clip(length=2, height=64, width=64, seed=0):
    """Returns two bright rectangles moving over noise: frames [T, H, W, 3], masks [T, H, W]."""
    random = np.random.default_rng(seed)
    frames = random.integers(0, 90, (length, height, width, 3), np.uint8)
    masks = np.zeros((length, height, width), np.uint8)
    for t in range(length):
        masks[t, 4 + t : 30 + t, 6:30] = 1
        masks[t, 28 : 60, 34 - t : 60 - t] = 2
    frames[masks == 1] = (250, 60, 60)
    frames[masks == 2] = (60, 60, 250)
    return frames, masks


def make_batch(size=2, length=2, objects=3, audio=False, **kind):
    """Returns clips with two objects each, of categories 0 and 2, in the first two slots."""
    clips = [make_clip(length, seed=s, **kind) for s in range(size)]
    frames, masks = (np.stack(x) for x in zip(*clips, strict=True))
    visible = np.stack([(masks == n).any((2, 3)) for n in range(1, objects + 1)], axis=-1)
    there = visible.any(1)
    batch = {
        "frames": frames, "frames_valid": np.ones((size, length), bool),
        "masks": masks, "masks_valid": np.ones((size, length), bool),
        "objects": there, "visible": visible,
        "classes": np.where(there, np.array([0, 2, 0], np.int32)[:objects], 0).astype(np.int32),
        "ids": np.where(there, np.arange(1, objects + 1), 0).astype(np.int32),
        "video": np.arange(size, dtype=np.int32), "sample": np.arange(size, dtype=np.int32),
        "valid": np.ones(size, bool), "geometry": np.tile(np.float32([1, 1, 0, 0]), (size, 1)),
    }
    if audio:
        random = np.random.default_rng(9)
        batch["audio"] = random.standard_normal((size, length, 96, 64)).astype(np.float32)
        batch["audio_valid"] = np.ones((size, length), bool)
    return batch


def random_variables(model, batch):
    """Returns random variables without compiling `init`."""
    random = np.random.default_rng(0)

    def make(path, leaf):
        if path[-1].key in ("scale", "var"):
            return np.ones(leaf.shape, np.float32)
        size = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 4
        return (random.standard_normal(leaf.shape) / np.sqrt(size)).astype(np.float32)

    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
    return jax.tree.map(jnp.asarray, jax.tree_util.tree_map_with_path(make, shapes))


def quick_jit(function):
    """Jits with little optimization: compiles quickly, runs slowly."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})
