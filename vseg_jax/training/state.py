"""The train state: everything that a run needs to resume as if it had never stopped."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from vseg_jax.models.base import Model, Variables
from vseg_jax.training import optimizer as optim
from vseg_jax.training.settings import TrainConfig


@struct.dataclass
class TrainState:
    """All arrays of a run; fields are `Any` because they also hold shapes or shardings.

    Attributes:
      step: [] int32, optimizer steps done.
      params: the model's parameters, float32.
      collections: every other collection of the model: batch statistics, queues, momentum encoders.
      opt_state: optax's state over the trained parameters only.
      ema: averaged parameters, shaped like `params`; empty when averaging is off.
      key: typed PRNG key of the run; each step folds its number into it.
    """

    step: Any
    params: Any
    collections: Any
    opt_state: Any
    ema: Any
    key: Any

    def variables(self) -> Variables:
        """Returns the variables that the model trains with."""
        return {"params": self.params, **self.collections}

    def averaged(self) -> Variables:
        """Returns the variables to evaluate and use: averaged parameters where the run averages."""
        return {"params": self.ema or self.params, **self.collections}


def create(
    variables: Variables, optimizer: optax.GradientTransformation, config: TrainConfig
) -> TrainState:
    """Returns the state at step 0 for the model's variables."""
    params = variables["params"]
    trained, _ = optim.split(params, config)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        collections={name: value for name, value in variables.items() if name != "params"},
        opt_state=optimizer.init(trained),
        ema=jax.tree.map(jnp.copy, params) if config.ema else {},
        key=jax.random.key(config.seed),
    )


def abstract(
    model: Model,
    batch: dict[str, Any],
    optimizer: optax.GradientTransformation,
    config: TrainConfig,
) -> TrainState:
    """Returns the state's shapes and dtypes; computes nothing."""
    return jax.eval_shape(
        lambda key, b: create(model.init(key, b), optimizer, config),
        jax.random.key(config.seed), batch,
    )
