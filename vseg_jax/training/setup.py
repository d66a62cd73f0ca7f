"""What is fixed before a run's first array exists: optimizer, mesh, shapes and layout."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vseg_jax.models.base import Model, Variables
from vseg_jax.training import optimizer as optim
from vseg_jax.training import sharding
from vseg_jax.training import state as train_state
from vseg_jax.training import step as train_step
from vseg_jax.training.initial import merge
from vseg_jax.training.settings import TrainConfig
from vseg_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Setup:
    """The parts of a run that follow from model, config and the shapes of a batch.

    Attributes:
      model: see models/base.py.
      config: the run.
      optimizer: over the trained parameters.
      mesh: devices as [data, model].
      batch_shapes: shapes of one global batch.
      state_shapes: shapes and dtypes of the train state.
      shardings: a `NamedSharding` for each leaf of the state.
    """

    model: Model
    config: TrainConfig
    optimizer: Any
    mesh: jax.sharding.Mesh
    batch_shapes: dict[str, jax.ShapeDtypeStruct]
    state_shapes: TrainState
    shardings: Any

    @classmethod
    def build(cls, model: Model, batch: dict[str, Any], config: TrainConfig) -> Setup:
        """Computes shapes only.

        Args:
          model: see models/base.py.
          batch: this process's share of a batch, arrays or `jax.ShapeDtypeStruct`s.
          config: the run.

        Raises:
          ValueError: a pattern or the mesh does not fit the model or the devices.
        """
        mesh, optimizer = sharding.make_mesh(config), optim.make(config)
        shapes = sharding.global_shapes(batch)
        state = train_state.abstract(model, shapes, optimizer, config)
        shardings = sharding.state_shardings(state, config, mesh)
        return cls(model, config, optimizer, mesh, shapes, state, shardings)

    def sharded_shapes(self) -> TrainState:
        """Returns the state's shapes with their shardings, as checkpoints are restored into."""
        return jax.tree.map(
            lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
            self.state_shapes, self.shardings)

    def jit_step(self) -> Any:
        """Returns the jitted step: the state is donated, samples lie along the data axis."""
        return jax.jit(
            train_step.make(self.model, self.optimizer, self.config),
            in_shardings=(self.shardings, sharding.batch_sharding(self.mesh)),
            out_shardings=(self.shardings, None), donate_argnums=0)

    def put_batch(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        """Moves this process's share of a batch to the devices."""
        return sharding.put_batch(batch, sharding.batch_sharding(self.mesh))

    def initial_variables(self, initial: Variables | None = None) -> Variables:
        """Returns the variables at step 0, as a process creates them by itself.

        Args:
          initial: variables to initialize from, in place of random and public ones; see
            `vseg_jax.training.initial.merge`.

        Raises:
          ValueError: `initial` does not fit the model.
        """
        init = jax.jit(lambda key: self.model.init(
            key, {name: jnp.zeros(s.shape, s.dtype) for name, s in self.batch_shapes.items()}))
        key = jax.random.fold_in(jax.random.key(self.config.seed), 0x1717)
        if initial is None:
            fresh = init(key)
            variables = self.model.pretrained(fresh)
            optim.warn_of_frozen(fresh["params"], variables["params"], self.config)
            return variables
        return merge(initial, jax.eval_shape(init, key),
                     lambda: self.model.pretrained(init(key)))

    def initial_state(self, initial: Variables | None = None) -> TrainState:
        """Returns the state at step 0.

        Every process creates the whole variables (public weights are read by host code) and then
        lays them out; the optimizer's state is created in its place.

        Args:
          initial: see `initial_variables`.

        Raises:
          ValueError: `initial` does not fit the model, or the model's `pretrained` returns other
            collections than its `init`.
        """
        variables = self.initial_variables(initial)
        layout = {"params": self.shardings.params, **self.shardings.collections}
        if variables.keys() != layout.keys():
            raise ValueError(
                f"the model's pretrained() returned the collections {sorted(variables)}, its "
                f"init() {sorted(layout)}; they must be the same")
        variables = sharding.put_tree(variables, layout)
        return jax.jit(lambda v: train_state.create(v, self.optimizer, self.config),
                       out_shardings=self.shardings)(variables)
