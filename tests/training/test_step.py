"""Tests one step: accumulation, averaging, collections, precision."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_model as toy

from vseg_jax.training import optimizer as optim
from vseg_jax.training import state as train_state
from vseg_jax.training import step as train_step
from vseg_jax.training.settings import TrainConfig


@dataclasses.dataclass(frozen=True)
class Line(toy.OnlyTrained):
    """y = w x with a masked squared error, a counter and a record of each call's targets."""

    def init(self, key, batch):
        return {"params": {"w": jnp.ones((3,)), "frozen": jnp.ones((3,))},
                "log": {"calls": jnp.zeros((), jnp.int32), "sums": jnp.zeros((4,))}}

    def loss(self, variables, batch, key, step):
        params, log = variables["params"], variables["log"]
        error = (batch["x"] @ (params["w"] * params["frozen"]) - batch["y"]) ** 2 * batch["valid"]
        count = batch["valid"].sum()
        loss = error.sum() / jnp.maximum(count, 1)
        log = {"calls": log["calls"] + 1,
               "sums": log["sums"].at[log["calls"]].set(batch["y"].sum())}
        one = jnp.ones(())
        return loss, {"log": log}, {"loss": (error.sum(), count), "calls": (one, one)}


def line_batch(rng):
    return {"x": rng.normal(size=(8, 3)).astype(np.float32),
            "y": rng.normal(size=8).astype(np.float32),
            "valid": np.array([1, 1, 1, 1, 1, 0, 0, 1], np.float32)}


def one_step(model, batch, config, state=None):
    optimizer = optim.make(config)
    if state is None:
        variables = jax.jit(model.init)(jax.random.key(0), batch)
        state = train_state.create(variables, optimizer, config)
    return jax.jit(train_step.make(model, optimizer, config))(state, batch)


@pytest.mark.parametrize("number", [2, 4])
def test_accumulated_gradients_weigh_by_valid_samples(number):
    batch = line_batch(np.random.default_rng(0))
    settings = dict(steps=1, batch_size=8, optimizer="sgd", momentum=0.0, learning_rate=0.1)
    whole, whole_metrics = one_step(Line(), batch, TrainConfig(**settings))
    parts, metrics = one_step(Line(), batch, TrainConfig(**settings, accumulate=number))
    np.testing.assert_allclose(parts.params["w"], whole.params["w"], rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"], whole_metrics["loss"], rtol=1e-6)
    np.testing.assert_allclose(metrics["gradient_norm"], whole_metrics["gradient_norm"], rtol=1e-6)
    assert metrics["calls"] == (number, number)


def test_micro_batches_pass_on_their_collections_in_order():
    batch = line_batch(np.random.default_rng(0))
    state, _ = one_step(Line(), batch, TrainConfig(steps=1, batch_size=8, accumulate=4))
    assert int(state.collections["log"]["calls"]) == 4
    expected = [batch["y"][i::4].sum() for i in range(4)]
    np.testing.assert_allclose(state.collections["log"]["sums"], expected, rtol=1e-6)


def test_frozen_parameters_stay_and_are_left_out_of_the_norm():
    batch = line_batch(np.random.default_rng(0))
    config = TrainConfig(steps=1, batch_size=8, groups=(("frozen", 0.0),))
    state, metrics = one_step(Line(), batch, config)
    np.testing.assert_array_equal(state.params["frozen"], np.ones(3))
    error = (batch["x"].sum(1) - batch["y"]) * batch["valid"]
    gradient = 2 * error @ batch["x"] / batch["valid"].sum()
    np.testing.assert_allclose(metrics["gradient_norm"][0], np.linalg.norm(gradient), rtol=1e-5)


def test_averaged_parameters_by_hand():
    batch = line_batch(np.random.default_rng(0))
    config = TrainConfig(steps=2, batch_size=8, ema=0.75, optimizer="sgd", learning_rate=0.1)
    first, _ = one_step(Line(), batch, config)
    second, _ = one_step(Line(), batch, config, first)
    expected = 0.75 * (0.75 * np.ones(3) + 0.25 * first.params["w"]) + 0.25 * second.params["w"]
    np.testing.assert_allclose(second.averaged()["params"]["w"], expected, rtol=1e-6)
    assert second.averaged()["log"] is second.collections["log"]


def test_bfloat16_computes_near_float32_and_keeps_float32_parameters():
    batch = next(toy.batches())
    config = TrainConfig(steps=1, batch_size=8, learning_rate=0.01)
    _, full_metrics = one_step(toy.Toy(dropout=0.0), batch, config)
    half, half_metrics = one_step(toy.Toy(dropout=0.0, dtype=jnp.bfloat16), batch, config)
    leaves = jax.tree.leaves((half.params, half.opt_state))
    assert all(x.dtype == jnp.float32 for x in leaves if x.dtype != jnp.int32)
    assert full_metrics["loss"][0] != half_metrics["loss"][0]
    np.testing.assert_allclose(half_metrics["loss"][0], full_metrics["loss"][0], rtol=0.02)


def test_dropout_draws_differently_at_each_step():
    batch = next(toy.batches())
    config = TrainConfig(steps=1, batch_size=8, learning_rate=0.0)
    first, one = one_step(toy.Toy(), batch, config)
    # With learning rate 0 only the key can change the error (the metric leaves out the queue).
    _, two = one_step(toy.Toy(), batch, config, first)
    assert one["error"][0] != two["error"][0]
    other = first.replace(step=jnp.zeros((), jnp.int32))
    _, again = one_step(toy.Toy(), batch, config, other)
    assert again["error"][0] == one["error"][0]
