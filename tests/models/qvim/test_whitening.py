"""RobustNet's parts by hand; its public code: tests/parity."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vseg_jax.models.qvim import photometric, whitening

X = jax.random.normal(jax.random.key(0), (2, 4, 5, 3)) * 4 + 1
WORDS = jax.random.normal(jax.random.key(1), (2, 6, 3)) + 2
PRESENT = jnp.arange(6) < jnp.asarray([[4], [6]])


def test_instance_norm_takes_style_away():
    out = whitening.instance_norm(X)
    np.testing.assert_allclose(out.mean((1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(out.std((1, 2)), 1, atol=1e-4)
    np.testing.assert_allclose(whitening.instance_norm(X * 7 - 3), out, atol=1e-4)


def test_missing_words_do_not_count():
    out = whitening.instance_norm(WORDS, PRESENT)
    np.testing.assert_allclose(out[:1, :4], whitening.instance_norm(WORDS[:1, :4]), atol=1e-5)
    np.testing.assert_array_equal(out[0, 4:], 0)
    np.testing.assert_allclose(
        whitening.covariance(out, PRESENT)[0], whitening.covariance(out[:1, :4])[0], atol=1e-6
    )


def test_loss_by_hand():
    covariances = jnp.asarray([[[1.0, 0.5, -0.25], [0.5, 1, 0.75], [-0.25, 0.75, 1]]])
    everything = jnp.asarray(whitening.upper(3))
    np.testing.assert_allclose(whitening.whitening_loss(covariances, everything), [1.5 / 3])
    np.testing.assert_allclose(
        whitening.whitening_loss(covariances, everything, 1.25), [0.25 / 3]
    )
    np.testing.assert_allclose(whitening.whitening_loss(covariances, everything, 2.0), [0])
    one = jnp.zeros((3, 3), bool).at[0, 2].set(True)
    np.testing.assert_allclose(whitening.whitening_loss(covariances, one), [0.25])
    np.testing.assert_array_equal(
        whitening.whitening_loss(covariances, jnp.zeros((3, 3), bool)), [0]
    )
    assert whitening.relaxed_margin(6, 2.0) == 7 and whitening.relaxed_margin(6, 0.0) == 0


@pytest.mark.parametrize("clusters", [1, 2, 3, 4])
def test_kmeans_is_the_best_of_all_partitions(clusters):
    values = np.random.default_rng(clusters).exponential(size=9) ** 2
    labels = whitening.kmeans(values, clusters)

    def error(parts):
        return sum(((p - p.mean()) ** 2).sum() for p in parts if len(p))

    ordered = np.sort(values)
    best = min(
        error(np.split(ordered, cuts))
        for cuts in itertools.combinations(range(1, 9), clusters - 1)
    )
    assert error([values[labels == i] for i in range(clusters)]) == pytest.approx(best)
    assert set(labels) == set(range(clusters))
    means = [values[labels == i].mean() for i in range(clusters)]
    assert means == sorted(means)


@pytest.mark.parametrize(
    "values,clusters,labels",
    [([5.0], 3, [0]), ([2.0, 1.0], 3, [1, 0]), ([0.0, 9.0, 0.0, 9.0, 1.0], 2, [0, 1, 0, 1, 0])],
)
def test_kmeans_of_few_values(values, clusters, labels):
    np.testing.assert_array_equal(whitening.kmeans(np.asarray(values), clusters), labels)


def test_isw_selects_the_covariances_that_a_change_affects():
    changed = X.at[..., 2].add(3 * X[..., 0])  # channels 0 and 2 now go together
    pair = whitening.instance_norm(changed), whitening.instance_norm(X)
    variance = whitening.sensitivity(*pair).mean(0)
    assert variance[0, 2] == variance.max() and not np.tril(variance).any()
    mask = whitening.sensitive(variance, 2)
    np.testing.assert_array_equal(mask, np.arange(9).reshape(3, 3) == 2)
    np.testing.assert_array_equal(jax.jit(whitening.sensitive, static_argnums=1)(variance, 2), mask)


def test_photometric_changes_all_frames_of_a_clip_alike():
    frames = np.random.default_rng(0).integers(0, 256, (2, 1, 6, 7, 3), np.uint8)
    clips = jnp.asarray(np.repeat(frames, 3, axis=1))
    change = jax.jit(photometric.photometric)
    out = change(clips, jax.random.key(0))
    assert out.dtype == jnp.uint8 and out.shape == clips.shape
    np.testing.assert_array_equal(out[:, 0], out[:, 2])
    same = change(jnp.stack([clips[0]] * 2), jax.random.key(0))
    assert (same[0] != same[1]).any()  # each clip has its own strengths
    assert (out != change(clips, jax.random.key(1))).any()
