"""A tiny model with the interface of those that propagate masks, for tests of inference.

It keeps the mean color of every object, and of the background, where they are first marked, and
gives each pixel to the nearest of them. It is so simple that its predictions are known.
"""

import collections
import dataclasses

import jax
import jax.numpy as jnp

from vseg_jax.inference.segmenter import Segmenter
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
        slots = len(prompt["named"]) if "named" in prompt else self.config.objects
        colors, present = self._colors(frame, prompt["mask"], slots, background=True)
        return {"colors": colors, "present": present, "count": jnp.array(0)}

    def step(self, variables, state, frame, prompt=None):
        TRACES["step" if prompt is None else "step with masks"] += 1
        colors, present = state["colors"], state["present"]
        slots = len(present) - 1
        if prompt is not None:
            new, marked = self._colors(frame, prompt["mask"], slots, background=False)
            colors = jnp.where(marked[:, None], new, colors)
            present |= marked
        distance = jnp.linalg.norm(frame[None] / 255.0 - colors[:, None, None], axis=-1)
        score = jnp.where(present[:, None, None], -variables["params"]["gain"] * distance, -1e9)
        probability = jax.nn.softmax(score, axis=0)[1:]
        if prompt is not None:
            probability = vos.corrected(probability, *vos.named_masks(prompt, slots))
        count = state["count"] + 1
        return ({"colors": colors, "present": present, "count": count},
                vos.SlotMasks(probability, probability.max((-2, -1)), count))

    def grow(self, state, slots):
        missing = 1 + slots - len(state["present"])
        return {**state, "colors": jnp.pad(state["colors"], ((0, missing), (0, 0))),
                "present": jnp.pad(state["present"], (0, missing))}

    def remove(self, state, slots):
        return {**state, "present": state["present"].at[1:].set(state["present"][1:] & ~slots)}

    def _colors(self, frame, mask, slots, background):
        """[1 + N, 3] mean colors and [1 + N] whether there is such a pixel."""
        objects = slot_masks(mask, slots)
        masks = jnp.concatenate([(mask == 0)[None] * background, objects])
        pixels = masks.sum((1, 2))
        sums = jnp.einsum("nhw,hwc->nc", masks.astype(jnp.float32), frame / 255.0)
        return sums / jnp.maximum(pixels, 1)[:, None], pixels > 0


def variables():
    return Follower().init(jax.random.key(0), None)


def segmenter(**settings):
    return Segmenter(Follower(), variables(), **settings)
