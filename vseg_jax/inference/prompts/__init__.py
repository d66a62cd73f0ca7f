"""One module per task: how its prompts are checked and encoded, and its predictions decoded.

A new task is one class here, a `TaskStreams`, and its line in `STREAMS`.
"""

from __future__ import annotations

from vseg_jax.inference.prompts.base import TaskStreams
from vseg_jax.inference.prompts.rvos import QueryStreams
from vseg_jax.inference.prompts.vis import InstanceStreams
from vseg_jax.inference.prompts.vos import MaskStreams
from vseg_jax.models.base import Model

STREAMS: dict[str, type[TaskStreams]] = {
    "rvos": QueryStreams,
    "vis": InstanceStreams,
    "vos": MaskStreams,
}


def streams_of(model: Model) -> type[TaskStreams]:
    """Returns the class that serves the streams of the model's task."""
    return STREAMS[model.task]
