"""An mmvt small enough to compile in a test, and batches for it."""

import functools

import tiny_models

from vseg_jax.models.mmvt import Mmvt, MmvtConfig

SMALL = {
    "depth": 18, "flow_depth": 18, "width": 2, "backbone_norm": "frozen", "text": "words",
    "vocabulary": 20, "word_width": 6, "channels": 8, "layers": 2, "heads": 2, "head_width": 4,
    "hidden": 8, "align_channels": 4, "align_chunk": 5, "dropout": 0.0, "aspp_dropout": 0.0,
}
make_batch = functools.partial(tiny_models.clip_batch, flow=True)


def build(**changes) -> Mmvt:
    return Mmvt(MmvtConfig(**{**SMALL, **changes}))
