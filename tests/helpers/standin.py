"""A tiny model with the interface of all models, and a tiny dataset, for tests of inference.

It marks pixels whose color, averaged over a window of three frames, is like the learned color of
the query's words. It is so simple that its predictions can be computed by hand.
"""

import collections
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.input_pipeline.records import (
    Dataset,
    Expression,
    Object,
    Record,
    encode_image,
    encode_mask,
    index_entry,
)
from vseg_jax.input_pipeline.samples import ReferringSamples
from vseg_jax.input_pipeline.settings import ClipConfig
from vseg_jax.input_pipeline.text import WordTokenizer
from vseg_jax.models.base import Prediction

WORDS = ["blue", "green", "red"]
COLORS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}
CLIP = ClipConfig(length=3, stride=1, target=1, height=16, width=16)
WEIGHTS = (0.25, 0.5, 0.25)
TRACES = collections.Counter()


@dataclasses.dataclass(frozen=True)
class StandinConfig:
    gain: float = 16.0


@dataclasses.dataclass(frozen=True)
class Standin:
    config: StandinConfig = dataclasses.field(default_factory=StandinConfig)
    task = "rvos"
    delay: int = 1

    def init(self, key, batch):
        table = [(0, 0, 0), (0, 0, 0), *((np.array(COLORS[w]) / 127.5 - 1) / 3 for w in WORDS)]
        return {"params": {"color": jnp.array(table, jnp.float32), "bias": jnp.array(-0.5)}}

    def pretrained(self, variables):
        return variables

    def loss(self, variables, batch, key, step):
        raise NotImplementedError

    def _logits(self, variables, window, tokens, valid):
        params = variables["params"]
        color = (params["color"][tokens] * valid[:, None]).sum(0)
        mean = jnp.einsum("t,thwc->hwc", jnp.array(WEIGHTS), window.astype(jnp.float32))
        return self.config.gain * ((mean / 127.5 - 1) @ color + params["bias"])

    def predict(self, variables, batch):
        TRACES["predict"] += 1
        logits = jax.vmap(lambda w, t, v: self._logits(variables, w, t, v))(
            batch["frames"], batch["tokens"], batch["tokens_valid"])
        return self._prediction(logits[:, None], batch["target"])

    def _prediction(self, logits, frame):
        probability = jax.nn.sigmoid(logits)
        return Prediction(logits, probability.max((-2, -1)), jnp.asarray(frame))

    def start(self, variables, frame, prompt):
        TRACES["start"] += 1
        return {"window": jnp.stack([frame] * 3), "count": jnp.array(0), "prompt": prompt}

    def step(self, variables, state, frame):
        TRACES["step"] += 1
        window = jnp.concatenate([state["window"][1:], frame[None]])
        count = state["count"] + 1
        prompt = state["prompt"]
        logits = self._logits(variables, window, prompt["tokens"], prompt["tokens_valid"])
        prediction = self._prediction(logits[None], count - self.delay)
        return {"window": window, "count": count, "prompt": prompt}, prediction


def variables(seed=0):
    return Standin().init(jax.random.key(seed), None)


def tokenizer(length=4):
    return WordTokenizer(WORDS, length)


def segmenter(delay=1):
    return Segmenter(Standin(delay=delay), variables(), tokenizer(), CLIP)


class MemoryDataset(Dataset):
    """Records in memory with the interface of `vseg_jax.input_pipeline.records.Dataset`."""

    def __init__(self, records):
        self.name = "toy"
        self.records = records
        self.index = [index_entry(r, "toy") for r in records]

    def __len__(self):
        return len(self.records)

    def __getitem__(self, i):
        return self.records[i]


def square_frames(number, size=(24, 32), side=8, step=1, seed=0):
    """Returns frames, uint8 [number, h, w, 3], of a red and a blue square, and index masks."""
    generator = np.random.default_rng(seed)
    frames = np.full((number, *size, 3), 40, np.uint8)
    masks = np.zeros((number, *size), np.uint8)
    top = generator.integers(0, size[0] // 2 - side // 2, 2)
    for t in range(number):
        for k, color in enumerate(("red", "blue")):
            y = int(top[k]) + (size[0] // 2 if k else 0)
            x = (2 + 9 * k + step * t) % (size[1] - side)
            y = min(y, size[0] - side)
            frames[t, y : y + side, x : x + side] = COLORS[color]
            masks[t, y : y + side, x : x + side] = k + 1
    return frames, masks


def samples(videos=3, frames=4, clip=CLIP, size=(24, 32)):
    """Videos of two objects with an expression each; every second frame is annotated."""
    records = []
    for number in range(videos):
        rgb, masks = square_frames(frames, size, seed=number)
        records.append(Record(
            video_id=f"video{number}", frames=[encode_image(f) for f in rgb],
            masks=[encode_mask(m) if t % 2 == 0 else b"" for t, m in enumerate(masks)],
            height=size[0], width=size[1], fps=10.0,
            objects=[Object(1, "square"), Object(2, "box")],
            expressions=[Expression("the red square", 1, differs_in="color"),
                         Expression("blue", 2, differs_in="motion" if number else "")],
        ))
    return ReferringSamples(MemoryDataset(records), clip, tokenizer(), train=False)
