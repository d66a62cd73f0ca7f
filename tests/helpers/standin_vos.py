"""A tiny model with the interface of those that propagate masks, for tests of inference.

It keeps the mean color of every object, and of the background, where they are first marked, and
gives each pixel to the nearest of them. It is so simple that its predictions are known.
"""

import collections
import dataclasses

import jax
import jax.numpy as jnp

from vseg_jax.tasks import vos
from vseg_jax.tasks.slots import slot_masks

TRACES = collections.Counter()


@dataclasses.dataclass(frozen=True)
class FollowerConfig:
    objects: int = 3


@dataclasses.dataclass(frozen=True)
class Follower:
    config: FollowerConfig = dataclasses.field(default_factory=FollowerConfig)
    task = "vos"
    delay = 0

    def init(self, key, batch):
        return {"params": {"gain": jnp.array(40.0)}}

    def pretrained(self, variables):
        return variables

    def loss(self, variables, batch, key, step):
        raise NotImplementedError

    def predict(self, variables, batch):
        raise NotImplementedError

    def start(self, variables, frame, prompt):
        TRACES["start"] += 1
        colors, present = self._colors(frame, prompt["mask"], background=True)
        return {"colors": colors, "present": present, "count": jnp.array(0)}

    def step(self, variables, state, frame, prompt=None):
        TRACES["step" if prompt is None else "step with masks"] += 1
        colors, present = state["colors"], state["present"]
        prompted = jnp.zeros((self.config.objects, *frame.shape[:2]))
        if prompt is not None:
            new, marked = self._colors(frame, prompt["mask"], background=False)
            colors = jnp.where(marked[:, None], new, colors)
            present |= marked
            prompted = slot_masks(prompt["mask"], self.config.objects)
        distance = jnp.linalg.norm(frame[None] / 255.0 - colors[:, None, None], axis=-1)
        score = jnp.where(present[:, None, None], -variables["params"]["gain"] * distance, -1e9)
        probability = jax.nn.softmax(score, axis=0)[1:]
        probability = jnp.where(prompted.any(0), prompted, probability)
        count = state["count"] + 1
        return ({"colors": colors, "present": present, "count": count},
                vos.SlotMasks(probability, probability.max((-2, -1)), count))

    def _colors(self, frame, mask, background):
        """[1 + N, 3] mean colors and [1 + N] whether there is such a pixel."""
        objects = slot_masks(mask, self.config.objects)
        masks = jnp.concatenate([(mask == 0)[None] * background, objects])
        pixels = masks.sum((1, 2))
        sums = jnp.einsum("nhw,hwc->nc", masks.astype(jnp.float32), frame / 255.0)
        return sums / jnp.maximum(pixels, 1)[:, None], pixels > 0


def variables():
    return Follower().init(jax.random.key(0), None)
