import jax
import jax.numpy as jnp
import numpy as np

from vseg_jax.losses.contrast import info_nce, info_nce_each

QUERY = jnp.asarray([[1.0, 0.0], [0.0, 1.0]])
POSITIVE = jnp.asarray([[0.6, 0.8], [0.6, 0.8]])
NEGATIVES = jnp.asarray([[1.0, 0.0], [0.0, -1.0], [-0.6, 0.8]])


def test_hand_computed():
    loss = info_nce(QUERY, POSITIVE, NEGATIVES, jnp.ones((2, 3), bool), 0.5)
    first = [0.6, 1.0, 0.0, -0.6]
    second = [0.8, 0.0, -1.0, 0.8]
    wanted = [-s[0] / 0.5 + np.log(np.exp(np.array(s) / 0.5).sum()) for s in (first, second)]
    np.testing.assert_allclose(loss, wanted, rtol=1e-6)


def test_a_masked_negative_is_as_if_absent():
    allowed = jnp.asarray([[True, False, True], [True, True, True]])
    loss = info_nce(QUERY, POSITIVE, NEGATIVES, allowed, 0.07)
    without = info_nce(QUERY, POSITIVE, NEGATIVES[jnp.array([0, 2])], jnp.ones((2, 2), bool), 0.07)
    with_it = info_nce(QUERY, POSITIVE, NEGATIVES, jnp.ones((2, 3), bool), 0.07)
    np.testing.assert_allclose(loss, [without[0], with_it[1]], rtol=1e-6)


def test_no_negatives_is_no_loss_and_no_nan():
    def loss(query):
        return info_nce(query, POSITIVE, NEGATIVES, jnp.zeros((2, 3), bool), 0.07).sum()

    value, gradient = jax.value_and_grad(loss)(QUERY)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


def test_several_positives_by_hand():
    """Each positive competes with the query's negatives, not with other positives."""
    query = jnp.asarray([[1.0, 0.0]] * 3)
    positives = jnp.asarray([[[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]]] * 3)
    there = jnp.asarray([[True, True, False], [False, True, False], [False] * 3])
    negatives = jnp.asarray([[[-1.0, 0.0], [0.8, 0.6]]] * 3)
    allowed = jnp.asarray([[True, True], [True, False], [True, True]])
    loss, counted = info_nce_each(query, positives, there, negatives, allowed, 0.5)

    def one(positive, *negatives):
        p, *n = np.exp(np.array([positive, *negatives]) / 0.5)
        return -np.log(p / (p + sum(n)))

    both = (one(0.6, -1, 0.8) + one(1, -1, 0.8)) / 2
    np.testing.assert_allclose(loss, [both, one(1, -1), 0], rtol=1e-5)
    np.testing.assert_array_equal(counted, [1, 1, 0])


def test_invalid_entries_have_no_gradient():
    def loss(positives, negatives):
        there = jnp.asarray([[True, False]])
        nobody = jnp.asarray([[False]])
        return info_nce_each(QUERY[:1], positives, there, negatives, nobody, 0.1)[0].sum()

    zero = jnp.zeros((1, 2, 2)), jnp.zeros((1, 1, 2))
    value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(*zero)
    assert value == 0
    jax.tree.map(lambda g: np.testing.assert_array_equal(g, 0), gradients)
