"""Tests settings and optimizer: hand-computed updates, groups, schedules, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vseg_jax.training import optimizer as optim
from vseg_jax.training.settings import TrainConfig

PARAMS = {"text": {"kernel": jnp.array([1.0, 2.0])}, "head": {"kernel": jnp.array([3.0])}}
GRADIENT = {"text/kernel": jnp.array([0.5, -1.0]), "head/kernel": jnp.array([2.0])}


def updated(config, gradients=(GRADIENT,), value=1.0):
    trained, frozen = optim.split(PARAMS, config)
    optimizer = optim.make(config)
    state = optimizer.init(trained)
    for gradient in gradients:
        gradient = {k: gradient[k] for k in trained}
        updates, state = optimizer.update(gradient, state, trained, value=value)
        trained = {k: trained[k] + updates[k] for k in trained}
    return {**frozen, **trained}, state


def test_sgd_with_a_group_and_weight_decay_by_hand():
    config = TrainConfig(steps=10, optimizer="sgd", momentum=0.0, learning_rate=0.1,
                         weight_decay=0.01, groups=(("^text/", 0.5),))
    params, _ = updated(config)
    np.testing.assert_allclose(params["text/kernel"],
                               [1 - 0.05 * (0.5 + 0.01), 2 - 0.05 * (-1 + 0.02)], rtol=1e-6)
    np.testing.assert_allclose(params["head/kernel"], [3 - 0.1 * (2 + 0.03)], rtol=1e-6)


def test_adamw_decays_apart_from_the_moments():
    config = TrainConfig(steps=10, optimizer="adamw", learning_rate=0.1, weight_decay=0.01)
    params, _ = updated(config)
    # The first step of Adam goes by the sign of the gradient.
    np.testing.assert_allclose(params["text/kernel"], [1 - 0.1 * (1 + 0.01), 2 - 0.1 * (-1 + 0.02)],
                               rtol=1e-5)


def test_frozen_parameters_have_no_state_and_no_part_in_the_norm():
    config = TrainConfig(steps=10, optimizer="sgd", momentum=0.9, learning_rate=1.0, clip_norm=1.0,
                         groups=(("head", 0.0),))
    params, state = updated(config)
    np.testing.assert_array_equal(params["head/kernel"], [3.0])
    np.testing.assert_allclose(params["text/kernel"],
                               np.array([1.0, 2.0]) - np.array([0.5, -1.0]) / np.sqrt(1.25),
                               rtol=1e-6)
    assert {leaf.shape for leaf in jax.tree.leaves(state) if leaf.ndim} == {(2,)}


def test_a_delayed_group_stands_still_and_starts_with_its_moments():
    """Plain steps of 0.1 and 0.1 * 0.5; the text waits for two of three, its momentum does not."""
    config = TrainConfig(steps=10, optimizer="sgd", momentum=0.5, learning_rate=0.1,
                         groups=(("^text/", 0.5),), delays=(("^text/", 2),))
    params, state = updated(config, [GRADIENT] * 2)
    np.testing.assert_array_equal(params["text/kernel"], PARAMS["text"]["kernel"])
    np.testing.assert_allclose(params["head/kernel"], [3 - 0.1 * 2 * (1 + 1.5)], rtol=1e-6)
    params, _ = updated(config, [GRADIENT] * 3)
    np.testing.assert_allclose(params["text/kernel"],
                               [1 - 0.05 * 0.5 * 1.75, 2 + 0.05 * 1.75], rtol=1e-6)
    assert jax.tree.structure(state) != jax.tree.structure(updated(
        TrainConfig(steps=10, optimizer="sgd", groups=(("^text/", 0.5),)))[1])
    with pytest.raises(ValueError, match=r"train\.delays: 'text' matches no trained parameter"):
        optim.split(PARAMS, TrainConfig(steps=1, groups=(("text", 0.0),), delays=(("text", 1),)))
    with pytest.raises(ValueError, match=r"train\.delays is .*steps >= 0"):
        TrainConfig(steps=1, delays=(("text", -1),))


@pytest.mark.parametrize("schedule, expected", [
    (dict(schedule="constant"), [0.0, 0.5, 1.0, 1.0, 1.0]),
    (dict(schedule="cosine"), [0.0, 0.5, 1.0, 0.5, 0.0]),
    (dict(schedule="poly", power=2.0), [0.0, 0.5, 1.0, 0.25, 0.0]),
    (dict(schedule="steps", milestones=(5, 8)), [0.0, 0.5, 1.0, 0.1, 0.01]),
])
def test_schedules_after_a_warm_up(schedule, expected):
    rate = optim.learning_rate(TrainConfig(steps=10, learning_rate=1.0, warmup=2, **schedule))
    # cosine and poly are half-way at step 6; milestones hold from their own step on
    np.testing.assert_allclose([rate(s) for s in (0, 1, 2, 6, 10)], expected, atol=1e-6)


def test_milestones_count_from_the_start_of_the_run():
    rate = optim.learning_rate(TrainConfig(steps=9, learning_rate=1.0, warmup=2, schedule="steps",
                                           milestones=(5,)))
    np.testing.assert_allclose([rate(s) for s in (4, 5)], [1.0, 0.1], rtol=1e-6)


def test_plateau_lowers_the_rate_only_while_the_loss_stands():
    config = TrainConfig(steps=10, optimizer="sgd", momentum=0.0, learning_rate=1.0,
                         schedule="plateau", window=1, patience=2, factor=0.1)
    zero = jax.tree.map(jnp.zeros_like, GRADIENT)


    def moved(stood):
        params, _ = updated(config, [zero] * stood + [GRADIENT], value=1.0)
        return float(PARAMS["head"]["kernel"][0] - params["head/kernel"][0])

    # The first window is the best so far; the second one after it that is no better counts.
    assert [moved(n) for n in (0, 1, 2, 4)] == pytest.approx([2.0, 2.0, 0.2, 0.02])
    _, state = updated(config, [zero] * 3, value=1.0)
    assert float(optim.current_rate(config, jnp.int32(3), state)) == pytest.approx(0.1)


@pytest.mark.parametrize("changes, words", [
    (dict(steps=0), "train.steps is 0"),
    (dict(batch_size=6, accumulate=4), "a multiple of accumulate"),
    (dict(ema=1.0), "train.ema is 1.0"),
    (dict(schedule="steps"), "milestones"),
    (dict(groups=(("(", 1.0),)), "is not a regular expression"),
    (dict(groups=(("a", -1.0),)), "multipliers"),
])
def test_bad_settings_are_refused_by_name(changes, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        TrainConfig(**{"steps": 1, **changes})


def test_a_group_that_matches_nothing_and_a_run_that_trains_nothing_are_refused():
    with pytest.raises(ValueError, match=r"'encodr'.*head/kernel, text/kernel"):
        optim.split(PARAMS, TrainConfig(steps=1, groups=(("encodr", 0.1),)))
    with pytest.raises(ValueError, match="freezes every parameter"):
        optim.split(PARAMS, TrainConfig(steps=1, groups=(("kernel", 0.0),)))


def test_a_group_that_is_frozen_at_random_values_is_named(recwarn):
    fresh = {"visual": {"a": np.zeros(2), "b": np.zeros(2)}, "head": {"a": np.zeros(2)}}
    config = TrainConfig(steps=1, groups=(("^visual/", 0.0), ("^head/", 0.5)))
    read = {**fresh, "visual": {**fresh["visual"], "a": np.ones(2)}}
    optim.warn_of_frozen(fresh, read, config)
    assert not recwarn.list
    optim.warn_of_frozen(fresh, fresh, config)
    [warning] = recwarn.list
    assert "train.groups freezes '^visual/' at random values" in str(warning.message)
