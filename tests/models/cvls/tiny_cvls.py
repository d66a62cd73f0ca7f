"""A cvls small enough to compile in a test, and batches for it."""

import functools

import tiny_models

from vseg_jax.models.cvls import Cvls, CvlsConfig

SMALL = {
    "backbone": "resnet18", "resnet_width": 4, "vocabulary": 20, "word_width": 6,
    "word_init": "normal", "lstm_width": 5, "channels": 8, "max_objects": 3,
    "projection_hidden": 10, "projection_dim": 6,
}
make_batch = functools.partial(tiny_models.clip_batch, length=2, objects=2)


def build(**changes) -> Cvls:
    return Cvls(CvlsConfig(**{**SMALL, **changes}))
