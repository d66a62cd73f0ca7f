"""From settings to an optax transformation over the parameters that are trained.

Parameters are seen flat, `{"encoder/conv/kernel": array}`: groups are then a look-up by name, and
frozen parameters are simply absent, from the gradient, from its norm and from the moments.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import traverse_util

from vseg_jax.training.settings import TrainConfig

Flat = dict[str, Any]


def flatten(params: Mapping[str, Any]) -> Flat:
    """Nested parameters as `{"a/b/kernel": leaf}`."""
    return traverse_util.flatten_dict(params, sep="/")


def unflatten(flat: Flat) -> dict[str, Any]:
    """The inverse of `flatten`."""
    return traverse_util.unflatten_dict(flat, sep="/")


def multipliers(paths: Iterable[str], config: TrainConfig) -> dict[str, float]:
    """The learning-rate multiplier of each parameter; 0 means frozen.

    Raises:
      ValueError: a pattern of `groups` finds no parameter, or all parameters are frozen.
    """
    paths = list(paths)
    for pattern, _ in config.groups:
        if not any(re.search(pattern, path) for path in paths):
            beginnings = sorted({"/".join(path.split("/")[:2]) for path in paths})
            raise ValueError(
                f"train.groups: no parameter's path has {pattern!r} in it; they begin with "
                f"{', '.join(beginnings)}; correct the pattern or take it out"
            )
    found = {
        path: next((m for pattern, m in config.groups if re.search(pattern, path)), 1.0)
        for path in paths
    }
    if not any(found.values()):
        raise ValueError("train.groups freezes every parameter; leave one that can be trained")
    return found


def split(params: Mapping[str, Any], config: TrainConfig) -> tuple[Flat, Flat]:
    """(trained, frozen) parameters, both flat."""
    flat = flatten(params)
    scale = multipliers(flat, config)
    trained = {path: leaf for path, leaf in flat.items() if scale[path]}
    return trained, {path: leaf for path, leaf in flat.items() if not scale[path]}


def learning_rate(config: TrainConfig) -> optax.Schedule:
    """Step -> learning rate before the group's multiplier; the plateau factor comes on top."""
    base, warmup, steps = config.learning_rate, config.warmup, config.steps
    decaying = max(steps - warmup, 1)
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(base, decaying)
    elif config.schedule == "poly":
        after = optax.polynomial_schedule(base, 0.0, config.power, decaying)
    elif config.schedule == "steps":
        # Milestones count from the start of the run; joined schedules count from the warm-up's end.
        after = optax.piecewise_constant_schedule(
            base, {max(m - warmup, 0): config.factor for m in config.milestones})
    else:
        after = optax.constant_schedule(base)
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, base, warmup), after], [warmup])


def make(config: TrainConfig) -> optax.GradientTransformationExtraArgs:
    """The optimizer over flat, trained parameters; `update` takes `value=loss` as well.

    Order: clip, L2 term, moments, decoupled decay, group multiplier, plateau factor, learning
    rate.  A group's multiplier therefore scales its decoupled decay too, as a parameter group
    with its own rate does in PyTorch.
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
    if config.schedule == "plateau":
        parts.append(optax.contrib.reduce_on_plateau(
            factor=config.factor, patience=config.patience, accumulation_size=config.window))
    parts.append(optax.scale_by_learning_rate(learning_rate(config)))
    return optax.with_extra_args_support(optax.chain(*parts))


def _scale_groups(config: TrainConfig) -> optax.GradientTransformation:
    def update(updates: Flat, state: Any, params: Flat | None = None):
        del params
        scale = {
            path: next((m for pattern, m in config.groups if re.search(pattern, path)), 1.0)
            for path in updates
        }
        return {path: leaf * scale[path] for path, leaf in updates.items()}, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def current_rate(config: TrainConfig, step: jax.Array, opt_state: Any) -> jax.Array:
    """The learning rate of step `step`, the plateau factor included, a group's multiplier not."""
    rate = jnp.asarray(learning_rate(config)(step), jnp.float32)
    if config.schedule == "plateau":
        rate = rate * optax.tree.get(opt_state, "scale")
    return rate


def global_norm(gradient: Flat) -> jax.Array:
    """The gradient's L2 norm over all leaves, in float32."""
    return optax.tree.norm(jax.tree.map(lambda g: g.astype(jnp.float32), gradient))
