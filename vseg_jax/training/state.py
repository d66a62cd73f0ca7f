"""The train state: all that a checkpoint has to hold for a run to go on as if never stopped."""

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
    """Also holds its own shapes or shardings, leaf by leaf, which is why no type is written.

    Attributes:
      step: [] int32, optimizer steps done.
      params: the model's parameters, float32.
      collections: every other collection of the model: batch statistics, queues, momentum encoders.
      opt_state: optax's state over the trained parameters only.
      ema: averaged parameters, shaped like `params`; empty when averaging is off.
      key: typed PRNG key of the run; a step folds its number into it.
    """

    step: Any
    params: Any
    collections: Any
    opt_state: Any
    ema: Any
    key: Any

    def variables(self) -> Variables:
        """What the model trains with."""
        return {"params": self.params, **self.collections}

    def averaged(self) -> Variables:
        """What is evaluated and handed out: averaged parameters where there are any."""
        return {"params": self.ema or self.params, **self.collections}


def create(
    variables: Variables, optimizer: optax.GradientTransformation, config: TrainConfig
) -> TrainState:
    """The state at step 0 around the model's variables."""
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
    """The state's shapes and dtypes; nothing is computed."""
    return jax.eval_shape(
        lambda key, b: create(model.init(key, b), optimizer, config),
        jax.random.key(config.seed), batch,
    )
