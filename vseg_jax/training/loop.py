"""The training loop, the same for all models."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from vseg_jax.config import shallow
from vseg_jax.models.base import Model, Variables
from vseg_jax.tasks import Means
from vseg_jax.training import sharding
from vseg_jax.training import workdir as workdirs
from vseg_jax.training.checkpoints import Checkpoints
from vseg_jax.training.reports import Reporter, last_report, read_metrics
from vseg_jax.training.runtime import Preemption, versions
from vseg_jax.training.settings import TrainConfig
from vseg_jax.training.setup import Setup
from vseg_jax.training.state import TrainState

Evaluate = Callable[[Variables, int], dict[str, Any]]

BEST = "best"  # folder in the working directory, see `train`


class Trained(NamedTuple):
    """The result of a run.

    Attributes:
      variables: the model's variables, with averaged parameters where the run averages; as
        `sharding.gather` leaves them.
      step: steps done.
      finished: False when SIGTERM or Ctrl-C ended the run early; its checkpoint has been written.
      metrics: the result of the last evaluation; empty without one.
    """

    variables: Variables
    step: int
    finished: bool
    metrics: dict[str, float]


class NonFiniteLoss(FloatingPointError):
    """The loss or the gradient is not finite; the message names the step."""


def train(
    model: Model,
    batches: Any,
    config: TrainConfig,
    workdir: str | Path,
    *,
    evaluate: Evaluate | None = None,
    choose_by: str = "",
    description: dict[str, Any] | None = None, notes: Mapping[str, Any] | None = None,
    initial: Variables | None = None,
) -> Trained:
    """Trains `model`; resumes from the last checkpoint in `workdir`, if there is one.

    Args:
      model: see models/base.py.
      batches: grain iterator (`get_state`, `set_state`) over dicts of numpy arrays, this process's
        share of each global batch; endless.
      config: the run.
      workdir: gets `config.json`, `run.json`, `parameters.txt`, `metrics.jsonl`, `tensorboard/`,
        `checkpoints/`, and `best/` with `choose_by`.
      evaluate: (variables, step) -> {name: value}, called every `evaluate_every` steps and at the
        end, on all processes, with variables as `sharding.gather` leaves them; a value is a number
        or an image ([H, W, 3] or [N, H, W, 3]).
      choose_by: one of these names: the checkpoint with the highest value, the first of equal ones,
        is kept in `workdir/best`, which can be used like a workdir. Step 0 removes an older one.
      description: the resolved config as plain values, with `config` under "train"; saved, and
        compared when a run resumes.
      notes: more plain values to save with each checkpoint; not compared.
      initial: variables to initialize from, in place of random and public ones.

    Raises:
      NonFiniteLoss: the loss or the gradient's norm is not finite.
      ValueError: `workdir` holds a run of another config or model, a pattern or the mesh does not
        fit, the evaluation has no value named `choose_by`, or the disk is full.
    """
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    sample = _peek(batches)
    _check_batch(sample, config)
    setup = Setup.build(model, sample, config)
    about = {
        "config": workdirs.plain(description or {"train": shallow(config)}), **(notes or {}),
        "versions": versions(), "processes": jax.process_count(),
        "batch": {k: [list(v.shape), str(v.dtype)] for k, v in sample.items()},
    }
    with Preemption() as preemption, Checkpoints(workdir, config.keep) as checkpoints:
        if checkpoints.steps():
            workdirs.check_config(workdir, about["config"])
        restored = checkpoints.restore(setup.sharded_shapes(), batches)
        state = restored[0] if restored else setup.initial_state(initial)
        if not restored:
            _remove_best(workdir)
        means = _RunningMeans(restored[1]["window"] if restored else {})
        workdirs.save_description(workdir, about)
        with Reporter(workdir, int(state.step), config.steps, config.batch_size * _frames(sample),
                      getattr(model, "progress", {}), config.profile) as reporter:
            run = _Run(setup, checkpoints, preemption, reporter, evaluate, choose_by, about)
            state, finished = run(state, batches, means)
        return Trained(sharding.gather(state.averaged()), int(state.step), finished,
                       last_report(workdir, "evaluation"))


def initial_variables(
    model: Model, batches: Any, config: TrainConfig, initial: Variables | None = None
) -> Variables:
    """Returns the variables that `train` starts from with the same arguments."""
    return Setup.build(model, _peek(batches), config).initial_variables(initial)


@dataclasses.dataclass(frozen=True)
class _Run:
    """Takes steps, reports, saves and evaluates until the run ends."""

    setup: Setup
    checkpoints: Checkpoints
    preemption: Preemption
    reporter: Reporter
    evaluate: Evaluate | None
    choose_by: str
    about: dict[str, Any]  # saved with each checkpoint

    def __call__(
        self, state: TrainState, batches: Any, means: _RunningMeans
    ) -> tuple[TrainState, bool]:
        """Trains from `state` to the last step, or to SIGTERM or Ctrl-C.

        Returns:
          state: the last one.
          finished: whether all steps are done.
        """
        first, steps, reporter = int(state.step), self.setup.config.steps, self.reporter
        reporter.write_parameters(state.params)
        self._evaluate_if_missing(state, batches)
        if first >= steps:
            reporter.print(f"the run in {reporter.workdir} is finished: step {first} of {steps}; "
                           "raise train.steps to continue it")
            return state, True
        reporter.print(f"{'resuming from' if first else 'starting at'} step {first} of {steps} in "
                       f"{reporter.workdir}")
        state, finished = self._steps(state, batches, means)
        if not finished:
            reporter.print(f"stopped; the checkpoint of step {int(state.step)} is "
                           "written, run the same command again to resume")
        return state, finished

    def _steps(
        self, state: TrainState, batches: Any, means: _RunningMeans
    ) -> tuple[TrainState, bool]:
        config, first = self.setup.config, int(state.step)
        step_fn = self.setup.jit_step()
        pending = collections.deque()  # results not read yet: at most one step runs ahead
        saved = first
        for step in itertools.count(first + 1):
            state, result = step_fn(state, self.setup.put_batch(next(batches)))
            pending.append((step, result))
            stop = self.preemption.requested(step)
            log, save, evaluate = (self._due(step, every) for every in (
                config.log_every, config.checkpoint_every, config.evaluate_every))
            wait = log or save or evaluate or stop or step == first + 1
            while len(pending) > (0 if wait else 1):
                means.add(*pending.popleft(), saved)
            self.reporter.advance(step)
            if log:
                self.reporter.write(step, means.take())
            if save or stop:
                self.checkpoints.save(step, state, batches, {**self.about, "window": means.sums})
                saved = step
            if evaluate and not stop:
                self._evaluate(state, step, batches)
            if save or evaluate:
                self.reporter.restart_clock(step)
            if step == first + 1:  # it compiled the program; the bar's speed is measured from here
                self.reporter.restart_clock(step, bar=True)
            if stop or step == config.steps:
                return state, not stop

    def _due(self, step: int, every: int) -> bool:
        return step == self.setup.config.steps or bool(every and step % every == 0)

    def _evaluate(self, state: TrainState, step: int, batches: Any) -> None:
        if self.evaluate:
            metrics = self.evaluate(sharding.gather(state.averaged()), step)
            lacking = self.choose_by and self.choose_by not in metrics
            if self.choose_by and not lacking:
                self._keep_best(state, step, batches, float(metrics[self.choose_by]))
            self.reporter.write(step, metrics, kind="evaluation")
            if lacking:
                raise ValueError(
                    f"evaluation.choose_by is '{self.choose_by}', which the evaluation lacks; it "
                    f"has {', '.join(sorted(metrics))}")

    def _keep_best(self, state: TrainState, step: int, batches: Any, score: float) -> None:
        if not np.isfinite(score):
            logging.warning("%s is %s at step %d; this checkpoint cannot become the best one",
                            self.choose_by, score, step)
            return
        folder = self.reporter.workdir / BEST
        with Checkpoints(folder, keep=1) as best:
            before = best.about()
        if before.get("choose_by") != self.choose_by:  # the two scores cannot be compared
            _remove_best(self.reporter.workdir)
            before = {}
        if score > before.get("score", -np.inf):
            with Checkpoints(folder, keep=1) as best:
                best.save(step, state, batches, {
                    **self.about, "window": {}, "score": score, "choose_by": self.choose_by})

    def _evaluate_if_missing(self, state: TrainState, batches: Any) -> None:
        """Evaluates a restored state whose run was killed between saving and evaluating."""
        step = int(state.step)
        done = {line["step"] for line in read_metrics(self.reporter.workdir)
                if line["kind"] == "evaluation"}
        if step and step not in done and self._due(step, self.setup.config.evaluate_every):
            self._evaluate(state, step, batches)


class _RunningMeans:
    """The (sum, count) pairs since the last report, by name.

    They are float64, so that the means of a resumed run equal those of an unbroken one to the last
    bit.
    """

    def __init__(self, sums: dict[str, list[float]]):
        self.sums = {name: list(pair) for name, pair in sums.items()}

    def add(self, step: int, metrics: Means, saved: int) -> None:
        """Waits for the metrics of `step` and adds them; `saved` is the last checkpoint's step.

        Raises:
          NonFiniteLoss: the loss or the gradient's norm is not finite.
        """
        values = jax.device_get(metrics)
        for name in ("loss", "gradient_norm"):
            if not np.isfinite(values[name][0]):
                parts = ", ".join(f"{k}={float(s) / max(float(n), 1e-30):.4g}"
                                  for k, (s, n) in values.items())
                raise NonFiniteLoss(
                    f"{name.replace('_', ' ')} is {float(values[name][0])} at step {step} "
                    f"({parts}); the last checkpoint is of step {saved}; try a lower "
                    "train.learning_rate, train.clip_norm or a longer train.warmup")
        for name, (total, count) in values.items():
            pair = self.sums.setdefault(name, [0.0, 0.0])
            pair[0] += float(total)
            pair[1] += float(count)

    def take(self) -> dict[str, float]:
        """Returns the means and resets them; names with a count of 0 are left out."""
        means = {name: total / count for name, (total, count) in self.sums.items() if count}
        self.sums = {}
        return means


def _remove_best(workdir: Path) -> None:
    """Removes the best checkpoint, but no run that somebody keeps in a folder of this name."""
    if jax.process_index() == 0 and not (workdir / BEST / "config.json").exists():
        shutil.rmtree(workdir / BEST, ignore_errors=True)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("removed the best checkpoint")


def _peek(batches: Any) -> dict[str, np.ndarray]:
    """Returns the next batch and leaves the iterator where it was."""
    place = batches.get_state()
    sample = next(batches)
    batches.set_state(place)
    return sample


def _check_batch(sample: dict[str, np.ndarray], config: TrainConfig) -> None:
    share = config.batch_size // jax.process_count()
    wrong = {k: np.shape(v) for k, v in sample.items() if np.shape(v)[:1] != (share,)}
    if wrong or share * jax.process_count() != config.batch_size:
        raise ValueError(
            f"train.batch_size is {config.batch_size} over {jax.process_count()} processes, but "
            f"this process's batches have the shapes {wrong or share}; the leading axis must be "
            "batch_size / processes in all of them")


def _frames(sample: dict[str, np.ndarray]) -> int:
    """Returns the frames of a sample; 1 for batches without clips."""
    shape = np.shape(sample.get("frames", ()))
    return shape[1] if len(shape) == 5 else 1
