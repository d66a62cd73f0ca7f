import jax.numpy as jnp
import numpy as np

from vseg_jax.models.qvim import am_adain

# One sample, two pixels, two words.
C = jnp.asarray([[[0.2, 0.8], [0.6, 0.4]]])


def test_statistics_of_equation_8_by_hand():
    mean, deviation = am_adain.statistics(C, 1e-5)
    np.testing.assert_allclose(mean, [[0.4, 0.6]], rtol=1e-6)
    np.testing.assert_allclose(deviation, [[np.sqrt(0.04 + 1e-5)] * 2], rtol=1e-6)


def test_restyle_by_hand():
    out = am_adain.restyle(
        C, jnp.asarray([[0.8, 0.2]]), jnp.asarray([[0.4, 0.1]]), jnp.asarray([[0.5, 0.25]]), 0.0
    )
    # word 0: mean (0.4 + 0.8) / 2, deviation (0.2 + 0.4) / 2, normalized values -1 and 1;
    # word 1: mean 0.75 * 0.6 + 0.25 * 0.2, deviation 0.75 * 0.2 + 0.25 * 0.1, values 1 and -1.
    np.testing.assert_allclose(out, [[[0.3, 0.675], [0.9, 0.325]]], rtol=1e-5)


def test_alpha_1_takes_the_other_statistics():
    other = jnp.asarray([[[0.1, 0.3], [0.5, 0.1], [0.9, 0.2]]])
    mine = jnp.asarray([[[0.0, 0.3], [0.2, 0.3], [0.7, 0.9]]])
    mean, deviation = am_adain.statistics(other, 1e-5)
    out = am_adain.restyle(mine, mean, deviation, jnp.ones((1, 2)), 1e-5)
    new_mean, new_deviation = am_adain.statistics(out, 1e-5)
    np.testing.assert_allclose(new_mean, mean, atol=1e-6)
    np.testing.assert_allclose(new_deviation, deviation, rtol=1e-3)


def test_alpha_0_leaves_a_word_as_it_is():
    out = am_adain.restyle(C, jnp.ones((1, 2)), jnp.ones((1, 2)), jnp.zeros((1, 2)), 1e-5)
    np.testing.assert_allclose(out, C, rtol=1e-6)


def test_alpha_is_0_where_either_sentence_has_no_word():
    alpha = am_adain.word_alpha(
        jnp.asarray([0.3, 0.4]),
        jnp.asarray([[True, True, False], [True, True, True]]),
        jnp.asarray([[True, False, True], [True, True, False]]),
    )
    np.testing.assert_allclose(alpha, [[0.3, 0, 0], [0.4, 0.4, 0]])
