"""A tiny model with the interface of those that find objects, for tests of inference.

Its slots are red, blue and green things: a slot fires where some pixel is nearer to its color than
to the others and bright. Red things are of category 0, blue ones of 1, and green ones of 0, but of
1 where the audio is loud. A slot's identity is its number; it gets a new one each time it fires
again. The model is so simple that its predictions are known.
"""

import collections
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.input_pipeline.settings import ClipConfig
from vseg_jax.tasks.vis import Instances

COLORS = np.array([(255, 0, 0), (0, 0, 255), (0, 255, 0)], np.float32)
NAMES = ("square", "big_box")
CLIP = ClipConfig(length=2, stride=1, target=1, height=24, width=32)
TRACES = collections.Counter()


@dataclasses.dataclass(frozen=True)
class FinderConfig:
    categories: int = 2
    mask_threshold: float = 0.5
    audio: bool = False
    first: int = 0      # the smallest identity
    sure: float = 0.75  # probability of the category


@struct.dataclass
class State:
    fired: Any       # [3], in the frame before
    identities: Any  # [3]
    unused: Any      # []
    sums: Any        # [3, 2], probabilities of the slots' present identities
    frames: Any      # [3]
    count: Any       # []


class Summary(NamedTuple):
    identity: Any
    category: Any
    score: Any
    frames: Any


@dataclasses.dataclass(frozen=True)
class Finder:
    config: FinderConfig = dataclasses.field(default_factory=FinderConfig)
    task = "vis"
    delay = 0

    @property
    def uses_audio(self):
        return self.config.audio

    def init(self, key, batch):
        return {"params": {"gain": jnp.array(8.0)}}

    def pretrained(self, variables):
        return variables

    def loss(self, variables, batch, key, step):
        raise NotImplementedError

    def predict(self, variables, batch):
        raise NotImplementedError

    def start(self, variables, frame, prompt=None):
        return self.first_step(variables, frame, prompt)[0]

    def first_step(self, variables, frame, prompt=None):
        TRACES["first_step"] += 1
        none = jnp.arange(3, dtype=jnp.int32) + self.config.first
        state = State(jnp.ones(3, bool), none, jnp.int32(self.config.first + 3), jnp.zeros((3, 2)),
                      jnp.zeros(3, jnp.int32), jnp.int32(0))
        return self._prediction(variables, state, frame, prompt)

    def step(self, variables, state, frame, prompt=None):
        TRACES["step"] += 1
        return self._prediction(variables, state, frame, prompt)

    def _prediction(self, variables, state, frame, prompt):
        color = frame.astype(jnp.float32)
        like = jnp.einsum("hwc,nc->nhw", color - color.mean(-1, keepdims=True), COLORS / 255)
        logits = variables["params"]["gain"] * (like / 127.5 - 0.5)
        fired = (logits > 0).any((1, 2))
        again = fired & ~state.fired
        fresh = state.unused + jnp.cumsum(again) - 1
        identities = jnp.where(again, fresh, state.identities).astype(jnp.int32)
        loud = jnp.array(False)
        if prompt:
            loud = prompt["audio_valid"] & (prompt["audio"].max() > 0)
        green = jnp.where(loud, jnp.array([0.0, 1.0]), jnp.array([1.0, 0.0]))
        classes = jnp.stack([jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]), green])
        sure = self.config.sure
        known = classes * sure + (1 - classes) * (1 - sure) / 2
        probabilities = jnp.concatenate([known, jnp.full((3, 1), (1 - sure) / 2)], axis=-1)
        kept = jnp.where(again[:, None], 0, state.sums)
        frames = jnp.where(again, 0, state.frames) + fired
        state = State(fired, identities, (state.unused + again.sum()).astype(jnp.int32),
                      kept + fired[:, None] * known, frames.astype(jnp.int32), state.count + 1)
        return state, Instances(logits, known.max(-1), state.count - 1, probabilities,
                                jnp.where(fired, identities, -1))

    def summary(self, state):
        mean = state.sums / jnp.maximum(state.frames, 1)[:, None]
        seen = jnp.where(state.frames > 0, state.identities, -1)
        return Summary(seen, mean.argmax(-1), mean.max(-1), state.frames)


def variables():
    return Finder().init(jax.random.key(0), None)


def segmenter(**changes):
    return Segmenter(Finder(FinderConfig(**changes)), variables(), clip=CLIP, categories=NAMES)


def video(frames=6, size=(24, 32), green=()):
    """uint8 [T, h, w, 3]: a red square that moves, a blue one that is away in frames 2 and 3, and a
    green one in the frames `green`; and index masks (red 1, blue 2, green 3)."""
    rgb = np.full((frames, *size, 3), 40, np.uint8)
    masks = np.zeros((frames, *size), np.uint8)
    for t in range(frames):
        masks[t, 2:10, 2 + t : 10 + t] = 1
        if t not in (2, 3):
            masks[t, 14:22, 4:12] = 2
        if t in green:
            masks[t, 14:22, 20:28] = 3
    for k, color in enumerate(COLORS, 1):
        rgb[masks == k] = color
    return rgb, masks
