"""The compared methods that change features, by hand; their public code: tests/parity."""

import jax
import jax.numpy as jnp
import numpy as np

from vseg_jax.models.qvim import styles

X = jax.random.normal(jax.random.key(0), (3, 4, 5, 2)) * jnp.asarray([1.0, 5.0]) + 3
OTHER = jnp.asarray([1, 2, 0])
WORDS = jax.random.normal(jax.random.key(1), (3, 6, 2)) + 2
PRESENT = jnp.arange(6) < jnp.asarray([[4], [6], [2]])


def channel_statistics(x):
    return np.asarray(x.mean((1, 2))), np.asarray(x.std((1, 2), ddof=1))


def test_sfa_by_hand():
    x = jnp.asarray([[[2.0, -1.0]]])
    out = styles.sfa(x, jnp.asarray([[[0.5, 2.0]]]), jnp.asarray([[[1.0, 0.25]]]))
    np.testing.assert_allclose(out, [[[2.0, -1.75]]])


def test_adain_takes_the_others_style_and_keeps_the_content():
    out = styles.adain(X, OTHER)
    for mine, expected in zip(channel_statistics(out), channel_statistics(X), strict=True):
        np.testing.assert_allclose(mine, expected[OTHER], rtol=1e-4)
    np.testing.assert_allclose(np.corrcoef(out[0, ..., 1].ravel(), X[0, ..., 1].ravel())[0, 1], 1)


def test_mixstyle_between_its_ends():
    np.testing.assert_allclose(styles.mixstyle(X, OTHER, jnp.ones(3)), X, rtol=1e-4)
    np.testing.assert_allclose(
        styles.mixstyle(X, OTHER, jnp.zeros(3)), styles.adain(X, OTHER), rtol=1e-4, atol=1e-5
    )
    half = styles.mixstyle(X, OTHER, jnp.full(3, 0.5))
    for mine, expected in zip(channel_statistics(half), channel_statistics(X), strict=True):
        np.testing.assert_allclose(mine, (expected + expected[OTHER]) / 2, rtol=1e-4)


def test_dsu_moves_styles_as_far_as_the_batch_varies():
    noise = jnp.asarray([[1.0, 0.0], [0.0, 0.0], [0.0, -1.0]])
    out = styles.dsu(X, noise, jnp.zeros((3, 2)), jnp.ones(3, bool))
    mean, deviation = channel_statistics(X)
    moved, kept = channel_statistics(out)
    np.testing.assert_allclose(moved - mean, noise * mean.std(0, ddof=1), atol=1e-3)
    np.testing.assert_allclose(kept, deviation, rtol=1e-3)
    alone = styles.dsu(X, noise, noise, jnp.asarray([True, False, False]))
    np.testing.assert_allclose(alone, X, atol=0.05)  # one sample varies by eps alone


def test_dsu_of_a_batch_of_padding_is_finite():
    noise = jnp.ones((3, 2))
    assert np.isfinite(styles.dsu(X, noise, noise, jnp.zeros(3, bool))).all()


def test_missing_words_count_in_no_statistic():
    noise, share = jnp.ones((3, 2)), jnp.full(3, 0.3)
    for method in (
        lambda x, present: styles.adain(x, OTHER, present),
        lambda x, present: styles.mixstyle(x, OTHER, share, present),
        lambda x, present: styles.dsu(x, noise, -noise, jnp.ones(3, bool), present),
    ):
        out = method(WORDS, PRESENT)
        other = method(jnp.where(PRESENT[..., None], WORDS, 1e3), PRESENT)
        np.testing.assert_array_equal(np.asarray(out)[PRESENT], np.asarray(other)[PRESENT])
    everything = jnp.ones((3, 6), bool)
    np.testing.assert_allclose(
        styles.adain(WORDS, OTHER, everything), styles.adain(WORDS, OTHER), rtol=1e-5
    )


def test_a_sentence_of_one_word_has_a_gradient():
    present = jnp.arange(6) < 1

    def loss(x):
        return (styles.mixstyle(x, OTHER, jnp.ones(3) / 2, present[None] & PRESENT) ** 2).sum()

    assert np.isfinite(jax.grad(loss)(WORDS)).all()
