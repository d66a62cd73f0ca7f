"""A tiny model with every kind of state, and a tiny grain pipeline."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import grain
import jax
import jax.numpy as jnp
import numpy as np


class _Network(nn.Module):
    dropout: float
    dtype: object

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.Dense(8, dtype=self.dtype, name="encoder")(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=self.dtype)(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(nn.gelu(x))
        return nn.Dense(4, dtype=self.dtype, name="head")(x)


class OnlyTrained:
    """The part of the model interface that training never calls."""

    task = "rvos"
    delay = 0
    config = None

    def pretrained(self, variables):
        return variables

    def predict(self, variables, batch):
        raise NotImplementedError

    def start(self, variables, frame, prompt):
        raise NotImplementedError

    def step(self, variables, state, frame):
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Toy(OnlyTrained):
    """Regression to `y` plus a loss term that compares with a queue of past outputs (FIFO)."""

    dropout: float = 0.3
    dtype: object = jnp.float32
    slots: int = 32

    @property
    def network(self):
        return _Network(self.dropout, self.dtype)

    def init(self, key, batch):
        variables = self.network.init(key, batch["x"], train=False)
        queue = jax.random.normal(jax.random.fold_in(key, 1), (self.slots, 4))
        return {**variables, "queue": {"keys": queue, "next": jnp.zeros((), jnp.int32)}}

    def loss(self, variables, batch, key, step):
        queue = variables["queue"]
        out, updates = self.network.apply(
            {k: v for k, v in variables.items() if k != "queue"}, batch["x"], train=True,
            mutable=["batch_stats"], rngs={"dropout": key})
        out = out.astype(jnp.float32)
        error = jnp.sum((out - batch["y"]) ** 2, -1) * batch["valid"]
        count = jnp.sum(batch["valid"].astype(jnp.float32))
        pull = jnp.mean(jax.nn.logsumexp(out @ queue["keys"].T, axis=-1))
        loss = jnp.sum(error) / jnp.maximum(count, 1) + 0.01 * pull
        size = out.shape[0]
        keys = jax.lax.dynamic_update_slice(
            queue["keys"], jax.lax.stop_gradient(out), (queue["next"], 0))
        updates["queue"] = {"keys": keys, "next": (queue["next"] + size) % self.slots}
        return loss, updates, {"loss": (jnp.sum(error), count), "error": (jnp.sum(error), count)}


class _Jitter(grain.transforms.RandomMap):
    def random_map(self, element, rng):
        x = np.random.default_rng(element).normal(size=6).astype(np.float32)
        noisy = x + rng.normal(size=6).astype(np.float32) * 0.1
        return {"x": noisy, "y": np.tanh(x[:4]), "valid": np.bool_(True)}


def batches(size=8, seed=0, index=0, count=1, hook=None):
    """Returns endless, shuffled, randomly jittered batches for process `index` of `count`.

    The first process gets the first share of each batch, so that several processes together see
    what a single one would see. `hook` is called before each batch.
    """
    data = grain.MapDataset.range(0, 48).seed(seed).shuffle().repeat()
    data = data.random_map(_Jitter()).batch(size)
    share = size // count

    def take(batch):
        if hook:
            hook()
        return {k: v[index * share:(index + 1) * share] for k, v in batch.items()}

    read = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    return iter(data.map(take).to_iter_dataset(read))


def named(tree):
    """Returns {path: numpy array} of a tree, PRNG keys as their data."""
    def plain(leaf):
        if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        return np.array(leaf)

    return {jax.tree_util.keystr(path, simple=True, separator="/"): plain(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
