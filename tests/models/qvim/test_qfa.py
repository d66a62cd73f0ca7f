import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vseg_jax.models.qvim import qfa
from vseg_jax.models.qvim.config import QvimConfig

CONFIG = QvimConfig(total_steps=101, qfa_start=0.2, qfa_beta_min=0.0, qfa_beta_max=0.5)


@pytest.mark.parametrize(
    ("step", "active", "beta"),
    [(0, False, 0), (19, False, 0), (20, True, 0), (60, True, 0.25), (100, True, 0.5),
     (1000, True, 0.5)],
)
def test_schedule(step, active, beta):
    on, value = qfa.schedule(jnp.int32(step), CONFIG)
    assert bool(on) == active
    np.testing.assert_allclose(value, beta, atol=1e-6)


def test_beta_starts_at_its_least_and_never_falls():
    config = dataclasses.replace(CONFIG, qfa_beta_min=0.1)
    values = [float(qfa.schedule(jnp.int32(s), config)[1]) for s in range(0, 101, 5)]
    assert values[0] == pytest.approx(0.1)
    assert values == sorted(values)


@pytest.mark.parametrize(("schedule", "start"), [("constant", 20), ("from_start", 0)])
def test_without_progressive_manner_beta_is_constant(schedule, start):
    config = dataclasses.replace(CONFIG, qfa_schedule=schedule, qfa_beta_min=0.1)
    for step in (0, 19, 20, 60, 100):
        active, beta = qfa.schedule(jnp.int32(step), config)
        assert bool(active) == (step >= start) and float(beta) == 0.5


@pytest.mark.parametrize("schedule", ["progressive", "constant", "from_start"])
def test_the_warm_up_does_not_depend_on_the_schedule(schedule):
    config = dataclasses.replace(CONFIG, qfa_schedule=schedule)
    assert [bool(qfa.warmed_up(jnp.int32(s), config)) for s in (0, 19, 20, 100)] == [
        False, False, True, True
    ]


def test_peak():
    weights = jnp.asarray([[[0.1, 0.4], [0.3, 0.2]]])
    np.testing.assert_allclose(qfa.peak(weights), [[[0.25, 1], [0.75, 0.5]]])


def test_relative():
    weights = jnp.asarray([[[0.1, 0.4], [0.3, 0.2]]])
    np.testing.assert_allclose(qfa.relative(weights), [[[0.4, 1.6], [1.2, 0.8]]], rtol=1e-6)


# One row of four pixels with one channel; beta 0.5 keeps the first two.
Y = jnp.asarray([[[[1.0], [2.0], [3.0], [4.0]]]])
OTHER = jnp.asarray([[[[10.0], [20.0], [30.0], [40.0]]]])
A = jnp.asarray([[[1.0, 0.6, 0.5, 0.1]]])
A_OTHER = jnp.asarray([[[0.2, 0.4, 1.0, 0.75]]])


@pytest.mark.parametrize(
    ("switches", "wanted"),
    [
        ({}, [1, 2, 0, 10]),                                   # (1 - 1) * 30, (1 - 0.75) * 40
        ({"augment_matrix": False}, [1, 2, 30, 40]),
        ({"foreground": False}, [8 + 1, 12 + 2, 0, 10]),       # 0.8 * 10 + 1, 0.6 * 20 + 2
        ({"foreground": False, "augment_matrix": False}, [11, 22, 30, 40]),
    ],
)
def test_equation_by_hand(switches, wanted):
    out = qfa.augment(Y, OTHER, A, A_OTHER, jnp.float32(0.5), **switches)
    np.testing.assert_allclose(out[0, 0, :, 0], wanted, rtol=1e-6)


def test_r_f_may_hold_the_scores():
    out = qfa.augment(Y, OTHER, 3 * A, A_OTHER, jnp.float32(1.5), keep_scores=True)
    np.testing.assert_allclose(out[0, 0, :, 0], [1, 2 * 0.6, 0, 10], rtol=1e-6)


def test_beta_0_changes_nothing():
    np.testing.assert_array_equal(qfa.augment(Y, OTHER, A, A_OTHER, jnp.float32(0)), Y)


def test_other_sample_is_never_the_same_video_nor_padding():
    video = jnp.asarray([7, 8, 7, 9])
    valid = jnp.asarray([True, True, True, False])
    shifts = set()
    for seed in range(20):
        shift, usable = qfa.other_sample(jax.random.key(seed), video, valid)
        other, other_valid = jnp.roll(video, shift), jnp.roll(valid, shift)
        np.testing.assert_array_equal(usable, (other != video) & other_valid & valid)
        shifts.add(int(shift))
    assert shifts == {1, 2, 3}


def test_a_batch_of_one_is_rejected():
    with pytest.raises(ValueError, match="batch size of 2 or more"):
        qfa.other_sample(jax.random.key(0), jnp.zeros(1, jnp.int32), jnp.ones(1, bool))


def test_replaced_background_and_object_by_hand():
    weights = jnp.array([[[1.0, 0.2], [0.4, 0.6]]])
    mask, counts = jnp.array([[[1.0, 1.0], [0.0, 0.0]]]), jnp.array([[[1.0, 1.0], [1.0, 0.0]]])
    rest, named = qfa.replaced(weights, jnp.float32(0.5), mask, counts)
    assert (float(rest[0]), float(rest[1])) == (1, 1)     # 0.4; unannotated cells do not count
    assert (float(named[0]), float(named[1])) == (1, 2)   # 0.2 of 1.0 and 0.2
    assert all(float(gone) == 0 for gone, _ in qfa.replaced(weights, jnp.float32(-1), mask, counts))
