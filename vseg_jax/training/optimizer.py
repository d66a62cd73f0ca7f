"""Optimizer and schedules: an optax transformation over the trained parameters.

Parameters are flat here, `{"encoder/conv/kernel": array}`: groups are looked up by name, and frozen
parameters are simply absent from the gradient, its norm and the optimizer's moments.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import traverse_util

from vseg_jax.training.settings import TrainConfig

Flat = dict[str, Any]


def flatten(params: Mapping[str, Any]) -> Flat:
    """Flattens nested parameters to `{"a/b/kernel": leaf}`."""
    return traverse_util.flatten_dict(params, sep="/")


def unflatten(flat: Flat) -> dict[str, Any]:
    """Inverts `flatten`."""
    return traverse_util.unflatten_dict(flat, sep="/")


def multipliers(paths: Iterable[str], config: TrainConfig) -> dict[str, float]:
    """Returns the learning-rate multiplier of each parameter; 0 means frozen.

    Raises:
      ValueError: a pattern of `groups` matches no parameter, one of `delays` none that is trained,
        or all parameters are frozen.
    """
    paths = list(paths)
    _check_patterns("groups", [pattern for pattern, _ in config.groups], paths)
    found = {path: _multiplier(path, config) for path in paths}
    trained = [path for path in paths if found[path]]
    if not trained:
        raise ValueError("train.groups freezes every parameter; leave at least one to train")
    _check_patterns("delays", [pattern for pattern, _ in config.delays], trained)
    return found


def _check_patterns(key: str, patterns: Iterable[str], paths: list[str]) -> None:
    for pattern in patterns:
        if not any(re.search(pattern, path) for path in paths):
            prefixes = sorted({"/".join(path.split("/")[:2]) for path in paths})
            raise ValueError(
                f"train.{key}: {pattern!r} matches no {'trained ' if key == 'delays' else ''}"
                f"parameter's path; the paths begin with {', '.join(prefixes)}; correct the "
                "pattern or remove it"
            )


def _multiplier(path: str, config: TrainConfig) -> float:
    return next((m for pattern, m in config.groups if re.search(pattern, path)), 1.0)


def _delay(path: str, config: TrainConfig) -> int:
    return next((step for pattern, step in config.delays if re.search(pattern, path)), 0)


def warn_of_frozen(
    fresh: Mapping[str, Any], params: Mapping[str, Any], config: TrainConfig
) -> None:
    """Warns of groups that are frozen at random values: no public weights have replaced them.

    Args:
      fresh: parameters as they were initialized.
      params: the same after public weights have been read.
      config: the run.
    """
    before, after = flatten(fresh), flatten(params)
    for pattern, multiplier in config.groups:
        mine = [path for path in after if re.search(pattern, path)]
        if multiplier == 0 and mine and all(after[path] is before.get(path) for path in mine):
            warnings.warn(f"train.groups freezes {pattern!r} at random values, because no public "
                          "weights were read for it; name them (config.model.*_weights), or train "
                          "it", stacklevel=2)


def split(params: Mapping[str, Any], config: TrainConfig) -> tuple[Flat, Flat]:
    """Returns (trained, frozen) parameters, both flat."""
    flat = flatten(params)
    scale = multipliers(flat, config)
    trained = {path: leaf for path, leaf in flat.items() if scale[path]}
    return trained, {path: leaf for path, leaf in flat.items() if not scale[path]}


def learning_rate(config: TrainConfig) -> optax.Schedule:
    """Returns step -> learning rate, without the groups' multipliers and the plateau factor."""
    base, warmup, steps = config.learning_rate, config.warmup, config.steps
    decaying = max(steps - warmup, 1)
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(base, decaying)
    elif config.schedule == "poly":
        after = optax.polynomial_schedule(base, 0.0, config.power, decaying)
    elif config.schedule == "steps":
        # Milestones count from the start of the run, joined schedules from the end of the warm-up.
        after = optax.piecewise_constant_schedule(
            base, {max(m - warmup, 0): config.factor for m in config.milestones})
    else:
        after = optax.constant_schedule(base)
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, base, warmup), after], [warmup])


def make(config: TrainConfig) -> optax.GradientTransformationExtraArgs:
    """Returns the optimizer of flat, trained parameters; its `update` also takes `value=loss`.

    Order: gradient clipping, L2 term, moments, decoupled decay, group multiplier, delay, plateau
    factor, learning rate. A group's multiplier therefore also scales its decoupled decay, as in
    PyTorch, where a parameter group has its own rate.
    """
    parts = []
    if config.clip_norm:
        parts.append(optax.clip_by_global_norm(config.clip_norm))
    if config.weight_decay and config.optimizer != "adamw":
        parts.append(optax.add_decayed_weights(config.weight_decay))
    if config.optimizer == "sgd":
        if config.momentum:
            parts.append(optax.trace(config.momentum))
    else:
        parts.append(optax.scale_by_adam(config.beta1, config.beta2, config.epsilon))
    if config.weight_decay and config.optimizer == "adamw":
        parts.append(optax.add_decayed_weights(config.weight_decay))
    if config.groups:
        parts.append(_scale_groups(config))
    if config.delays:
        parts.append(_hold_delayed(config))
    if config.schedule == "plateau":
        parts.append(optax.contrib.reduce_on_plateau(
            factor=config.factor, patience=config.patience, accumulation_size=config.window))
    parts.append(optax.scale_by_learning_rate(learning_rate(config)))
    return optax.with_extra_args_support(optax.chain(*parts))


def _scale_groups(config: TrainConfig) -> optax.GradientTransformation:
    def update(updates: Flat, state: Any, params: Flat | None = None) -> tuple[Flat, Any]:
        del params
        return {path: leaf * _multiplier(path, config) for path, leaf in updates.items()}, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _hold_delayed(config: TrainConfig) -> optax.GradientTransformation:
    """Returns a transformation whose state is the number of steps done."""

    def update(
        updates: Flat, step: jax.Array, params: Flat | None = None
    ) -> tuple[Flat, jax.Array]:
        del params
        held = {path: jnp.where(step < delay, 0, leaf) if (delay := _delay(path, config)) else leaf
                for path, leaf in updates.items()}
        return held, step + 1

    return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)


def current_rate(config: TrainConfig, step: jax.Array, opt_state: Any) -> jax.Array:
    """Returns the learning rate of a step, with the plateau factor, without group multipliers."""
    rate = jnp.asarray(learning_rate(config)(step), jnp.float32)
    if config.schedule == "plateau":
        rate = rate * optax.tree.get(opt_state, "scale")
    return rate


def global_norm(gradient: Flat) -> jax.Array:
    """Returns the gradient's L2 norm over all leaves, in float32."""
    return optax.tree.norm(jax.tree.map(lambda g: g.astype(jnp.float32), gradient))
