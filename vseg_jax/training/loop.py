"""The one training loop of all systems."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vseg_jax.atomic import write_text
from vseg_jax.config import shallow
from vseg_jax.models.base import Model, Variables
from vseg_jax.training import optimizer as optim
from vseg_jax.training import sharding
from vseg_jax.training import state as train_state
from vseg_jax.training import step as train_step
from vseg_jax.training.checkpoints import Checkpoints, compare, describe
from vseg_jax.training.reports import Reporter, last_evaluation, read_metrics
from vseg_jax.training.runtime import Preemption, versions
from vseg_jax.training.settings import MAY_CHANGE, TrainConfig

Evaluate = Callable[[Variables, int], dict[str, Any]]


class Trained(NamedTuple):
    """How a run ended.

    Attributes:
      variables: the model's variables, averaged parameters where the run averages; as
        `sharding.gather` leaves them.
      step: steps done.
      finished: False when a SIGTERM ended the run early; its checkpoint is written.
      metrics: what the last evaluation said; empty without one.
    """

    variables: Variables
    step: int
    finished: bool
    metrics: dict[str, float]


class NonFiniteLoss(FloatingPointError):
    """The loss or the gradient stopped being a number; the message names the step."""


def train(
    model: Model,
    batches: Any,
    config: TrainConfig,
    workdir: str | Path,
    *,
    evaluate: Evaluate | None = None,
    description: dict[str, Any] | None = None,
    initial: Variables | None = None,
) -> Trained:
    """Trains `model`, from where `workdir` stands.

    Args:
      model: see models/base.py.
      batches: grain iterator (`get_state`, `set_state`) over dicts of numpy arrays, this process's
        share of each global batch; endless.
      config: the run.
      workdir: gets `config.json`, `run.json`, `parameters.txt`, `metrics.jsonl`, `tensorboard/` and
        `checkpoints/`; a run that was stopped goes on from the last checkpoint.
      evaluate: (variables, step) -> {name: value}, called every `evaluate_every` steps and at the
        end, on all processes, with variables as `sharding.gather` leaves them; a value is a number
        or an image ([H, W, 3] or [N, H, W, 3]).
      description: the resolved config as plain values, with `config` under "train"; saved, and
        compared when the run goes on.
      initial: variables to begin with in place of random and public ones.

    Raises:
      NonFiniteLoss: the loss or the gradient's norm is not finite.
      ValueError: `workdir` holds a run of another config or model, a pattern or a mesh does not
        fit, the disk is full.
    """
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    description = _plain(description or {"train": shallow(config)})
    mesh = sharding.make_mesh(config)
    optimizer = optim.make(config)
    place = batches.get_state()
    sample = next(batches)
    batches.set_state(place)
    _check_batch(sample, config)
    abstract = train_state.abstract(model, sharding.global_shapes(sample), optimizer, config)
    shardings = sharding.state_shardings(abstract, config, mesh)
    like = jax.tree.map(lambda leaf, where: jax.ShapeDtypeStruct(
        leaf.shape, leaf.dtype, sharding=where), abstract, shardings)

    with Preemption() as preemption, Checkpoints(workdir, config.keep) as checkpoints:
        _check_config(workdir, description, bool(checkpoints.steps()))
        restored = checkpoints.restore(like, batches)
        if restored:
            state, about = restored
            window = about["window"]
        else:
            state, window = begin(
                model, sample, optimizer, config, shardings, initial), {}
        run = _Run(model, optimizer, config, workdir, mesh, shardings, checkpoints, preemption,
                   evaluate)
        run.about = {
            "config": description, "versions": versions(), "processes": jax.process_count(),
            "batch": {k: [list(v.shape), str(v.dtype)] for k, v in sample.items()},
        }
        _save_description(workdir, description, run.about)
        return run.go(state, batches, window)


@dataclasses.dataclass
class _Run:
    """What stays the same during a run, and its steps."""

    model: Model
    optimizer: Any
    config: TrainConfig
    workdir: Path
    mesh: jax.sharding.Mesh
    shardings: Any
    checkpoints: Checkpoints
    preemption: Preemption
    evaluate: Evaluate | None
    about: dict[str, Any] = dataclasses.field(default_factory=dict)

    def go(self, state: train_state.TrainState, batches: Any, window: dict) -> Trained:
        """From `state` to the end of the run, or to a SIGTERM."""
        config, first = self.config, int(state.step)
        with Reporter(self.workdir, first, config.steps, config.batch_size * self._frames(),
                      config.profile) as reporter:
            reporter.overview(state.params)
            self._catch_up(state, reporter)
            if first >= config.steps:
                reporter.say(f"the run in {self.workdir} is finished: step {first} of "
                             f"{config.steps}; raise train.steps to go on")
                return self._end(state, True)
            reporter.say(f"{'going on from' if first else 'starting at'} step {first} of "
                         f"{config.steps} in {self.workdir}")
            state, finished = self._steps(state, batches, window, reporter)
            if not finished:
                reporter.say(f"stopped by SIGTERM; step {int(state.step)} is saved, start again to "
                             "go on")
        return self._end(state, finished)

    def _end(self, state: train_state.TrainState, finished: bool) -> Trained:
        return Trained(sharding.gather(state.averaged()), int(state.step), finished,
                       last_evaluation(self.workdir))

    def _steps(self, state, batches, window, reporter):
        config, first = self.config, int(state.step)
        step_fn = jit_step(self.model, self.optimizer, config, self.mesh, self.shardings)
        by_sample = sharding.batch_sharding(self.mesh)
        window = _Means(window)
        pending = collections.deque()  # results not looked at yet: at most one step runs ahead
        saved = first
        for step in itertools.count(first + 1):
            state, result = step_fn(state, sharding.put_batch(next(batches), by_sample))
            pending.append((step, result))
            stop = self.preemption.requested(step)
            log, save, evaluate = (self._due(step, every) for every in (
                config.log_every, config.checkpoint_every, config.evaluate_every))
            wait = log or save or evaluate or stop or step == first + 1
            while len(pending) > (0 if wait else 1):
                window.add(*pending.popleft(), saved)
            reporter.advance(step)
            if log:
                reporter.write(step, window.take())
            if save or stop:
                self.checkpoints.save(step, state, batches, {**self.about, "window": window.sums})
                saved = step
            if evaluate and not stop:
                self._evaluate(state, step, reporter)
            if save or evaluate:
                reporter.resume_clock(step)
            if step == first + 1:  # the step was compiled: the bar's speed is counted from here
                reporter.resume_clock(step, bar=True)
            if stop or step == config.steps:
                return state, not stop

    def _due(self, step: int, every: int) -> bool:
        return step == self.config.steps or bool(every and step % every == 0)

    def _evaluate(self, state, step: int, reporter: Reporter) -> None:
        if self.evaluate:
            metrics = self.evaluate(sharding.gather(state.averaged()), step)
            reporter.write(step, metrics, kind="evaluation")

    def _catch_up(self, state, reporter: Reporter) -> None:
        """The evaluation that a kill between saving and evaluating left out."""
        step = int(state.step)
        done = {line["step"] for line in read_metrics(self.workdir)
                if line["kind"] == "evaluation"}
        if step and step not in done and self._due(step, self.config.evaluate_every):
            self._evaluate(state, step, reporter)

    def _frames(self) -> int:
        """Frames of a sample; 1 where a batch has no clips."""
        shape = self.about["batch"].get("frames", [[]])[0]
        return shape[1] if len(shape) == 5 else 1


def jit_step(model, optimizer, config: TrainConfig, mesh, shardings):
    """The compiled step: state laid out by `shardings` and donated, samples over the data axis."""
    return jax.jit(
        train_step.make(model, optimizer, config),
        in_shardings=(shardings, sharding.batch_sharding(mesh)), out_shardings=(shardings, None),
        donate_argnums=0)


class _Means:
    """Running (sum, count) pairs since the last report, in float64 so that a restored run's means
    are those of an unbroken one to the last bit."""

    def __init__(self, sums: dict[str, list[float]]):
        self.sums = {name: list(pair) for name, pair in sums.items()}

    def add(self, step: int, metrics: train_step.Metrics, saved: int) -> None:
        """Waits for a step's results and adds them.

        Raises:
          NonFiniteLoss: they cannot be trained with.
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
        """The means, and begins anew; what was never counted is left out."""
        means = {name: total / count for name, (total, count) in self.sums.items() if count}
        self.sums = {}
        return means


def begin(model, sample, optimizer, config, shardings, initial=None) -> train_state.TrainState:
    """The state at step 0.  The variables are made whole on each process (public weights are read
    by host code), then laid out; the optimizer's state is made where it will lie."""
    shapes = sharding.global_shapes(sample)
    init = jax.jit(lambda key: model.init(
        key, {name: jnp.zeros(s.shape, s.dtype) for name, s in shapes.items()}))
    key = jax.random.fold_in(jax.random.key(config.seed), 0x1717)
    if initial is None:
        variables = model.pretrained(init(key))
    else:
        compare(describe(initial), describe(jax.eval_shape(init, key)), "of init_from")
        variables = initial
    layout = {"params": shardings.params, **shardings.collections}
    if variables.keys() != layout.keys():
        raise ValueError(f"the model's pretrained() returned the collections {sorted(variables)}, "
                         f"its init() {sorted(layout)}; they must be the same")
    variables = sharding.put_tree(variables, layout)
    return jax.jit(lambda v: train_state.create(v, optimizer, config),
                   out_shardings=shardings)(variables)


def _check_batch(sample: dict[str, np.ndarray], config: TrainConfig) -> None:
    share = config.batch_size // jax.process_count()
    wrong = {k: np.shape(v) for k, v in sample.items() if np.shape(v)[:1] != (share,)}
    if wrong or share * jax.process_count() != config.batch_size:
        raise ValueError(
            f"train.batch_size is {config.batch_size} over {jax.process_count()} processes, but "
            f"this process's batches have the shapes {wrong or share}; the leading axis must be "
            "batch_size / processes in all")


def _plain(value: Any) -> Any:
    """As it comes back from JSON: tuples are lists, keys are strings."""
    return json.loads(json.dumps(value, default=str))


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {k: v for name, inner in value.items()
            for k, v in _flat(inner, f"{prefix}.{name}" if prefix else name).items()}


def _may_change(key: str) -> bool:
    return (key in {f"train.{name}" for name in MAY_CHANGE} or key.startswith("evaluation.")
            # Where the data lies; a model's own copy of train.steps.
            or key.rsplit(".", 1)[-1] in ("source", "prepared", "total_steps"))


def _check_config(workdir: Path, description: dict[str, Any], started: bool) -> None:
    path = workdir / "config.json"
    if not started or not path.exists():
        return
    try:
        before = _flat(json.loads(path.read_text(encoding="utf-8")))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not JSON ({error.msg}); restore it from "
                         "`config` in a checkpoint's `about`, or use another workdir") from error
    now = _flat(description)
    differ = [
        f"{key}: {before.get(key, 'not set')!r} there, {now.get(key, 'not set')!r} here"
        for key in sorted(before.keys() | now.keys())
        if before.get(key, KeyError) != now.get(key, KeyError) and not _may_change(key)
    ]
    if differ:
        raise ValueError(
            f"{workdir} holds a run of another config; use another workdir, or the config in "
            f"{path}. What differs:\n  " + "\n  ".join(differ))
    if before.get("train.steps") != now.get("train.steps") and \
            now.get("train.schedule") in ("cosine", "poly"):
        logging.warning("train.steps was %s and is %s: the %s schedule now ends there",
                        before.get("train.steps"), now.get("train.steps"), now["train.schedule"])


def _save_description(workdir: Path, description: dict[str, Any], about: dict[str, Any]) -> None:
    """`config.json` and, with versions and shapes, `run.json`; written by the first process."""
    if jax.process_index() == 0:
        write_text(workdir / "config.json", json.dumps(description, indent=2) + "\n")
        write_text(workdir / "run.json", json.dumps(about, indent=2) + "\n")
