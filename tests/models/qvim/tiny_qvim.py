"""A qvim small enough to compile in a test, and batches for it."""

import functools

import tiny_models

from vseg_jax.models.qvim import Qvim, QvimConfig

SMALL = {
    "backbone": "resnet18", "resnet_width": 4, "text": "words", "vocabulary": 20, "word_width": 6,
    "channels": 8, "decoder_channels": (4,) * 5, "sa_kv_max": 4, "max_words": 5, "queue": 12,
    "contrast_dim": 4, "clip_length": 3, "clip_stride": 2, "clip_target": 1, "total_steps": 10,
}
make_batch = functools.partial(tiny_models.clip_batch, size=4)


def build(**changes) -> Qvim:
    return Qvim(QvimConfig(**{**SMALL, **changes}))
