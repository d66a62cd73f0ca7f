import jax
import jax.numpy as jnp
import numpy as np

from vseg_jax.losses.contrast import info_nce

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
