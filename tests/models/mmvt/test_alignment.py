import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vseg_jax.layers.projection import unit
from vseg_jax.models.mmvt import alignment

RANDOM = np.random.default_rng(0)
V, F = (unit(jnp.asarray(RANDOM.normal(size=(2, 7, 3)), jnp.float32)) for _ in range(2))
SIDE = jnp.asarray(RANDOM.integers(0, 2, (2, 7)), jnp.float32)
WEIGHT = jnp.asarray([[1, 1, 0, 1, 1, 1, 0], [1] * 7], jnp.float32)


def pair_loss(v=V, f=F, side=SIDE, weight=WEIGHT, chunk=3, limit=0.999):
    return alignment.pair_loss(v, f, side, weight, limit=limit, chunk=chunk)


def test_a_cosine_as_a_logit():
    logits = alignment.to_logit(jnp.asarray([-1.0, -0.5, 0, 0.5, 1.0]), 1 - 1e-4)
    np.testing.assert_allclose(logits[1:4], [-1, 0, 1], atol=1e-6)
    np.testing.assert_allclose(logits[4], 2 / np.pi * 1e4, rtol=1e-2)
    assert logits[0] == -logits[4]
    slope = jax.grad(lambda c: alignment.to_logit(c, 1 - 1e-4))
    assert slope(1.0) == 0 and slope(0.5) == pytest.approx(np.pi)


def test_pairs_by_hand():
    logits = np.tan(np.pi / 2 * np.clip(np.einsum("bpd,bqd->bpq", V, F), -0.999, 0.999))
    target = np.asarray(SIDE)[:, :, None] == np.asarray(SIDE)[:, None]
    each = np.where(target, np.logaddexp(0, -logits), np.logaddexp(0, logits))
    both = np.asarray(WEIGHT)[:, :, None] * np.asarray(WEIGHT)[:, None]
    np.testing.assert_allclose(pair_loss(), (each * both).sum((1, 2)) / both.sum((1, 2)), rtol=1e-5)


def test_pairs_do_not_depend_on_the_chunk_size():
    loss, gradient = jax.value_and_grad(lambda v, n: pair_loss(v, chunk=n).sum())(V, 7)
    for chunk in (2, 50):
        again, other = jax.value_and_grad(lambda v, n: pair_loss(v, chunk=n).sum())(V, chunk)
        assert again == pytest.approx(float(loss), rel=1e-5)
        np.testing.assert_allclose(other, gradient, atol=1e-4 * np.abs(gradient).max())


def test_a_pixel_without_weight_has_no_gradient():
    gradient = jax.grad(lambda v: pair_loss(v).sum())(V)
    assert not gradient[0, [2, 6]].any() and gradient[0, 0].any()
    assert not pair_loss(weight=jnp.zeros_like(WEIGHT)).any()


def test_the_loss_is_finite_where_vectors_are_equal_or_opposite():
    loss, gradient = jax.value_and_grad(lambda v: pair_loss(v, -v, limit=1 - 1e-4).sum())(V)
    assert np.isfinite(loss) and np.isfinite(gradient).all()


def test_the_summarys_terms_by_hand():
    words = jnp.asarray([[[1.0, 0, 0], [0, 1.0, 0], [9, 9, 9]]])
    valid = jnp.asarray([[True, True, False]])
    vision = jnp.asarray([[[2.0, 0, 0], [0, 0, 0]]])
    loss = alignment.cosine_loss(vision, words, valid)
    np.testing.assert_allclose(loss, [1 - np.sqrt(0.5)], rtol=1e-5)
    v, f = jnp.log(jnp.asarray([[[0.5, 0.5]]])), jnp.log(jnp.asarray([[[0.25, 0.75]]]))
    both = 0.5 * np.log(2) + 0.5 * np.log(2 / 3) + 0.25 * np.log(0.5) + 0.75 * np.log(1.5)
    np.testing.assert_allclose(alignment.symmetric_divergence(v, f), [both], rtol=1e-5)
