import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vseg_jax.models.qvim import qfa
from vseg_jax.models.qvim.am_adain import statistics
from vseg_jax.models.qvim.config import QvimConfig
from vseg_jax.models.qvim.interaction import pooling_weights, query_scores
from vseg_jax.models.qvim.perturbations import perturbations

LAST = jnp.int32(9)
KEY = jax.random.key(3)
Y = jax.random.normal(jax.random.key(0), (4, 3, 3, 2)) * 3
Q = jax.random.normal(jax.random.key(1), (4, 2))
WEIGHTS = pooling_weights(query_scores(Y, Q), "softmax")
WORDS = jnp.asarray([[True] * 3, [True, True, False], [True] * 3, [True, False, False]])
MAP = jax.nn.softmax(jax.random.normal(jax.random.key(2), (4, 9, 3)) * 2) * WORDS[:, None]


def batch(video=(0, 1, 2, 3), valid=(True,) * 4):
    return {"video": jnp.asarray(video), "valid": jnp.asarray(valid)}


def features(k=1, step=LAST, key=KEY, y=Y, given=None, **changes):
    config = QvimConfig(total_steps=10, **changes)
    return perturbations(config, given or batch(), key, step).features(k, y, WEIGHTS, Q)


def attention(k=4, key=KEY, x=MAP, given=None, **changes):
    return perturbations(QvimConfig(**changes), given or batch(), key, LAST).attention(k, x, WORDS)


def changed(a, b):
    return np.abs(np.asarray(a - b)).reshape(len(a), -1).max(1) > 1e-6


def shift_of(key=KEY, count=4):
    shift_key, _ = jax.random.split(jax.random.split(key)[0])
    return int(jax.random.randint(shift_key, (), 1, count))


def test_qfa_is_the_papers_equation_with_another_sample():
    out = features()
    other = jnp.roll(Y, shift_of(), 0)
    other_weights = pooling_weights(query_scores(other, Q), "softmax")  # the same query on it
    wanted = qfa.augment(
        Y, other, qfa.relative(WEIGHTS), qfa.peak(other_weights), jnp.float32(1.0))
    np.testing.assert_allclose(out, wanted, rtol=1e-5)
    assert changed(out, Y).all()


@pytest.mark.parametrize(
    "case",
    [{"k": 2}, {"qfa_scales": ()}, {"step": jnp.int32(1)}, {"qfa_prob": 0.0},
     {"given": batch(video=(5, 5, 5, 5))}],
)
def test_qfa_leaves_alone(case):
    np.testing.assert_array_equal(features(**case), Y)


def test_qfa_at_several_scales():
    for k in (1, 3):
        assert changed(features(k=k, qfa_scales=(1, 3)), Y).all()


def test_each_table_3_switch_changes_the_result():
    full = features()
    for name in ("qfa_foreground", "qfa_augment_matrix"):
        assert changed(features(**{name: False}), full).any()
    assert changed(features(step=jnp.int32(0), qfa_schedule="from_start"), Y).all()


def test_qfa_keep_scores_fades_what_is_kept():
    kept = np.asarray(qfa.relative(WEIGHTS) > QvimConfig().qfa_beta_max)[..., None]
    scores = np.asarray(qfa.peak(WEIGHTS))[..., None]
    changes = {"qfa_augment_matrix": False, "qfa_detach_aux": True}
    mask, faded = features(**changes), features(**changes, qfa_keep="scores")
    np.testing.assert_allclose(faded, np.where(kept, scores * mask, mask), rtol=1e-5)
    assert changed(mask, faded).any()


def test_padding_samples_are_neither_augmented_nor_used():
    given = batch(valid=(True, True, False, True))
    out = features(given=given)
    used = np.roll([True, True, False, True], shift_of()) & given["valid"]
    np.testing.assert_array_equal(changed(out, Y), used)
    replaced = features(given=given, y=Y.at[2].set(100.0))
    np.testing.assert_array_equal(replaced[np.array([0, 1, 3])], out[np.array([0, 1, 3])])


@pytest.mark.parametrize("detach", [True, False])
def test_gradient_into_the_other_video(detach):
    def own(y, sample):
        return (features(y=y, qfa_detach_aux=detach)[sample] ** 2).sum()

    partner = (0 - shift_of()) % 4
    gradient = jax.grad(own)(Y, 0)
    assert jnp.abs(gradient[0]).max() > 0
    assert (jnp.abs(gradient[partner]).max() > 0) == (not detach)


def test_am_adain_moves_statistics_towards_the_other_sample_by_less_than_half():
    out = attention()
    mean, _ = statistics(MAP, 1e-5)
    new, _ = statistics(out, 1e-5)
    # Words that both sentences have move towards the other sample's statistics, the rest stay.
    moved = jnp.abs(new - mean) > 1e-6
    assert moved[:, 0].all()
    share = None
    for shift in (1, 2, 3):
        alpha = (new - mean)[:, 0] / (jnp.roll(mean, shift, 0) - mean)[:, 0]
        if ((alpha >= 0) & (alpha <= 0.5)).all():
            share = shift
            both = WORDS & jnp.roll(WORDS, shift, 0)
            np.testing.assert_array_equal(moved, both)
    assert share is not None


def test_am_adain_puts_no_attention_on_padding():
    assert (jnp.where(WORDS[:, None], 0, attention()) == 0).all()


@pytest.mark.parametrize(
    "case", [{"k": 1}, {"am_adain_scales": ()}, {"am_adain_alpha_max": 0.0}]
)
def test_am_adain_leaves_alone(case):
    np.testing.assert_allclose(attention(**case), MAP, rtol=1e-5, atol=1e-7)


def test_am_adain_does_not_use_padding_samples():
    given = batch(valid=(True, False, True, True))
    out = attention(given=given)
    other = attention(given=given, x=MAP.at[1].set(0.9))
    np.testing.assert_array_equal(out[np.array([0, 2, 3])], other[np.array([0, 2, 3])])


@pytest.mark.parametrize("detach", [True, False])
def test_gradient_into_the_other_samples_attention(detach):
    def own(x):
        return (attention(x=x, am_adain_detach=detach)[0] ** 2).sum()

    gradient = jnp.abs(jax.grad(own)(MAP)).max((1, 2))
    assert gradient[0] > 0
    assert (gradient[1:] > 0).any() == (not detach)


def test_another_key_draws_other_numbers():
    assert changed(attention(key=jax.random.key(4)), attention()).any()
