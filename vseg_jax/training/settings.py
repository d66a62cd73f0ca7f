"""Settings of a training run, apart from the model and the data."""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

# Keys of `TrainConfig` that may change when a run resumes: none of them changes what a step
# computes. `steps` moves the end of a decaying schedule, of which the loop warns.
MAY_CHANGE = (
    "steps", "checkpoint_every", "keep", "log_every", "evaluate_every", "profile",
    "data_parallel", "model_parallel", "sharding",
)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Settings of one training run.

    Raises:
      ValueError: a value is out of range; the message names the key.
    """

    steps: int  # optimizer steps of the whole run
    batch_size: int = 8  # samples per optimizer step, over all processes and devices
    seed: int = 0  # of the initial parameters and of every random draw inside a step

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    beta1: float = 0.9  # adam, adamw
    beta2: float = 0.999  # adam, adamw
    epsilon: float = 1e-8  # adam, adamw
    momentum: float = 0.9  # sgd
    weight_decay: float = 0.0  # adamw: decoupled; adam and sgd: L2 term in the gradient
    clip_norm: float = 0.0  # gradient clipping: largest global norm; 0 = off

    learning_rate: float = 1e-4
    schedule: Literal["constant", "cosine", "poly", "steps", "plateau"] = "constant"
    warmup: int = 0  # steps of linear warm-up from 0, part of `steps`
    milestones: tuple[int, ...] = ()  # schedule="steps": the rate is multiplied by `factor` at each
    factor: float = 0.1  # schedule="steps" and "plateau"
    power: float = 0.9  # schedule="poly": (1 - step/steps) ** power
    patience: int = 2  # schedule="plateau": windows without a better loss before the rate drops
    window: int = 1000  # schedule="plateau": steps whose mean losses are compared

    # (regex, learning-rate multiplier) on the parameter's path, such as "text_encoder/"; the first
    # match (re.search) counts, other parameters have 1. 0 freezes: no gradient, no optimizer state.
    groups: tuple[tuple[str, float], ...] = ()
    # (regex, step) on the path: such parameters stand still before that step, while their moments
    # and the norm of the gradient already count them. The first match counts.
    delays: tuple[tuple[str, int], ...] = ()

    accumulate: int = 1  # micro-batches of a batch, run one after another
    ema: float = 0.0  # decay of the averaged parameters, which are evaluated and returned; 0 = off

    data_parallel: int = 0  # devices along the mesh's `data` axis; 0 = all that remain
    model_parallel: int = 1  # devices along the mesh's `model` axis
    # (regex, axes) on the path of a leaf of the state, such as ("mlp/.*/kernel", (None, "model"));
    # the first match counts, other leaves are replicated. Moments, averages and momentum encoders
    # whose paths end in the same way get the same layout. "fsdp": arrays of two or more axes are
    # split over the devices of the `data` axis, so that each holds its share of the state.
    sharding: tuple[tuple[str, tuple[str | None, ...]], ...] | Literal["fsdp"] = ()

    checkpoint_every: int = 1000  # steps; a last one is always written at the end
    keep: int = 2  # how many of the latest checkpoints are kept
    log_every: int = 50  # steps
    evaluate_every: int = 0  # steps; 0 = only at the end
    profile: tuple[int, int] = (0, 0)  # (step to start after, number of steps) to trace

    def __post_init__(self):
        positive = ("steps", "batch_size", "accumulate", "model_parallel", "checkpoint_every",
                    "keep", "log_every", "window", "patience")
        for name in positive:
            _check(self, name, getattr(self, name) >= 1, "at least 1")
        for name in ("weight_decay", "clip_norm", "learning_rate", "warmup", "data_parallel",
                     "evaluate_every", "power", "seed"):
            _check(self, name, getattr(self, name) >= 0, "not negative")
        for name in ("beta1", "beta2", "momentum", "ema"):
            _check(self, name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        _check(self, "batch_size", self.batch_size % self.accumulate == 0,
               f"a multiple of accumulate ({self.accumulate})")
        _check(self, "milestones", self.schedule != "steps" or bool(self.milestones),
               "set with schedule='steps'")
        rules = () if self.sharding == "fsdp" else self.sharding
        for name, patterns in (("groups", self.groups), ("delays", self.delays),
                               ("sharding", rules)):
            for pattern, _ in patterns:
                try:
                    re.compile(pattern)
                except re.error as error:
                    raise ValueError(f"train.{name}: {pattern!r} is not a regular expression: "
                                     f"{error}") from error
        for pattern, multiplier in self.groups:
            _check(self, "groups", multiplier >= 0, f"made of multipliers >= 0 ({pattern!r})")
        for pattern, step in self.delays:
            _check(self, "delays", step >= 0, f"made of steps >= 0 ({pattern!r})")


def _check(config: TrainConfig, name: str, good: bool, wanted: str) -> None:
    if not good:
        raise ValueError(f"train.{name} is {getattr(config, name)!r}; it must be {wanted}")
