import jax
import jax.numpy as jnp
import numpy as np

from vseg_jax.models.swiftnet.aggregation import aggregate, others, probabilities


def maps(*values):
    """Returns maps of a single pixel, one value per slot."""
    return jnp.asarray(values, jnp.float32)[:, None, None]


def test_by_hand():
    p = probabilities(aggregate(maps(0.8, 0.5), jnp.asarray([True, True])))[:, 0, 0]
    # Odds: background 0.1 / 0.9, objects 0.8 / 0.2 and 0.5 / 0.5.
    odds = np.array([1 / 9, 4, 1])
    np.testing.assert_allclose(p, (odds / odds.sum())[1:], rtol=1e-5)


def test_an_absent_slot_has_probability_0_and_no_effect():
    present = jnp.asarray([True, False, True])
    with_it = probabilities(aggregate(maps(0.8, 0.99, 0.5), present))[:, 0, 0]
    without = probabilities(aggregate(maps(0.8, 0.5), jnp.ones(2, bool)))[:, 0, 0]
    assert with_it[1] == 0
    np.testing.assert_allclose(with_it[jnp.asarray([0, 2])], without, rtol=1e-6)


def test_extreme_probabilities_stay_finite_and_so_do_gradients():
    def total(p):
        return jax.nn.log_softmax(aggregate(p, jnp.asarray([True, True, False])), axis=0)[0].sum()

    p = maps(1.0, 0.0, 0.3)
    assert np.isfinite(total(p))
    gradient = jax.grad(total)(p)
    assert np.isfinite(gradient).all() and gradient[2] == 0
    p = probabilities(aggregate(maps(1.0, 1.0, 0.3), jnp.ones(3, bool)))[:, 0, 0]
    np.testing.assert_allclose(p, [0.5, 0.5, 0], atol=1e-5)


def test_one_object_keeps_its_own_probability_nearly():
    # With one object the odds are p / (1 - p) and its inverse: p^2 / (p^2 + (1 - p)^2).
    p = probabilities(aggregate(maps(0.7), jnp.asarray([True])))[0, 0, 0]
    np.testing.assert_allclose(p, 0.49 / (0.49 + 0.09), rtol=1e-5)


def test_leading_axes():
    p = jax.random.uniform(jax.random.key(0), (3, 2, 4, 5))
    present = jnp.asarray([[True, True], [True, False], [False, False]])
    one_by_one = [aggregate(a, b) for a, b in zip(p, present, strict=True)]
    np.testing.assert_array_equal(aggregate(p, present), jnp.stack(one_by_one))
    assert (probabilities(one_by_one[2]) == 0).all()


def test_others():
    np.testing.assert_allclose(others(maps(0.6, 0.7, 0.2))[:, 0, 0], [0.9, 0.8, 1.0], rtol=1e-6)
