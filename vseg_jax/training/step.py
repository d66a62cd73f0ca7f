"""One optimizer step as a pure function of state and batch."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from vseg_jax.models.base import Batch, Model, Variables
from vseg_jax.tasks import Means
from vseg_jax.training import optimizer as optim
from vseg_jax.training.settings import TrainConfig
from vseg_jax.training.state import TrainState

StepFn = Callable[[TrainState, Batch], tuple[TrainState, Means]]


def make(
    model: Model, optimizer: optax.GradientTransformationExtraArgs, config: TrainConfig
) -> StepFn:
    """Returns the step, to be jitted.

    The batch is split into `config.accumulate` micro-batches, which run one after another: each
    passes its collections (batch statistics, queue) to the next, as small steps would, while
    gradients and losses are averaged. The weight of a micro-batch is the count of its "loss" metric
    (the number of valid samples, pixels, ...), or 1 for models that do not report it. With a single
    micro-batch the step is a plain one.

    The metrics are the model's (sum, count) pairs, and in addition "loss" (the scalar that is
    minimized), "gradient_norm" (before clipping) and "learning_rate" (of parameters with
    multiplier 1).
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Means]:
        trained, frozen = optim.split(state.params, config)
        key = jax.random.fold_in(state.key, state.step)

        def loss(trained, collections, batch, key):
            variables = {"params": optim.unflatten({**frozen, **trained}), **collections}
            value, updates, metrics = model.loss(variables, batch, key, state.step)
            weight = metrics["loss"][1] if "loss" in metrics else 1.0
            return value, (updates, metrics, jnp.asarray(weight, jnp.float32))

        grad = jax.value_and_grad(loss, has_aux=True)
        if config.accumulate == 1:
            (value, (collections, metrics, _)), gradient = grad(
                trained, state.collections, batch, key)
        else:
            value, collections, metrics, gradient = _accumulate(
                grad, trained, state.collections, batch, key, config.accumulate)

        updates, opt_state = optimizer.update(gradient, state.opt_state, trained, value=value)
        params = optim.unflatten({**frozen, **optax.apply_updates(trained, updates)})
        ema = state.ema
        if config.ema:
            ema = jax.tree.map(lambda a, p: config.ema * a + (1 - config.ema) * p, ema, params)
        one = jnp.ones((), jnp.float32)
        metrics = {
            **metrics,
            "loss": (value.astype(jnp.float32), one),
            "gradient_norm": (optim.global_norm(gradient), one),
            "learning_rate": (optim.current_rate(config, state.step, opt_state), one),
        }
        # The model may return only the collections it changes.
        collections = {**state.collections, **collections}
        return state.replace(step=state.step + 1, params=params, collections=collections,
                             opt_state=opt_state, ema=ema), metrics

    return step


def _accumulate(
    grad: Callable[..., Any], trained: optim.Flat, collections: Variables, batch: Batch,
    key: jax.Array, number: int,
) -> tuple[jax.Array, Variables, Means, optim.Flat]:
    """Averages loss and gradient over `number` micro-batches and sums metrics.

    Micro-batch i takes every `number`-th sample from the i-th on, so that a batch whose samples
    lie in blocks on the devices is split without moving any of them.
    """
    micro = jax.tree.map(
        lambda x: jnp.moveaxis(x.reshape(x.shape[0] // number, number, *x.shape[1:]), 1, 0), batch)

    def body(carry, inputs):
        collections, gradients, losses, weights = carry
        index, part = inputs
        (value, (updates, metrics, weight)), gradient = grad(
            trained, collections, part, jax.random.fold_in(key, index))
        gradients = jax.tree.map(lambda total, g: total + weight * g, gradients, gradient)
        carry = ({**collections, **updates}, gradients, losses + weight * value, weights + weight)
        return carry, metrics

    zero = jnp.zeros((), jnp.float32)
    start = (collections, jax.tree.map(jnp.zeros_like, trained), zero, zero)
    (collections, gradients, losses, weights), metrics = jax.lax.scan(
        body, start, (jnp.arange(number), micro))
    weights = jnp.maximum(weights, jnp.finfo(jnp.float32).tiny)
    gradients = jax.tree.map(lambda g: g / weights, gradients)
    return losses / weights, collections, jax.tree.map(lambda m: m.sum(0), metrics), gradients
