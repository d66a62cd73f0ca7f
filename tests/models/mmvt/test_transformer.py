import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import quick_jit

from vseg_jax.models.mmvt.transformer import SelfAttention, Transformer

KEYS = jax.random.split(jax.random.key(0), 5)
WORDS = jax.random.normal(KEYS[0], (1, 3, 6))
VALID = jnp.asarray([[True, True, False]])
VISION, FLOW = (jax.random.normal(k, (1, 2, 2, 2, 6)) for k in KEYS[1:3])


@pytest.fixture(scope="module")
def mix():
    network = Transformer(1, 2, 4, 5, 0.0)
    run = quick_jit(lambda v, *x: network.apply(v, *x, train=False))
    init = quick_jit(lambda *x: network.init(*x, train=False))
    variables = init(KEYS[3], WORDS, VALID, VISION, FLOW)
    return lambda *x: run(variables, *x)


def test_padding_is_masked(mix):
    plain = mix(WORDS, VALID, VISION, FLOW)
    noisy = mix(WORDS.at[:, 2].multiply(-1), VALID, VISION, FLOW)
    np.testing.assert_array_equal(noisy[0][:, :, :2], plain[0][:, :, :2])
    np.testing.assert_array_equal(noisy[1], plain[1])
    changed = mix(WORDS.at[:, 1].multiply(-1), VALID, VISION, FLOW)
    assert np.abs(changed[1] - plain[1]).max() > 1e-3


def test_only_pixels_of_frames_attend_to_other_frames(mix):
    words, vision, flow = mix(WORDS, VALID, VISION, FLOW)
    changed = mix(WORDS, VALID, VISION.at[:, 1].multiply(-1), FLOW)
    np.testing.assert_allclose(changed[0][:, 0], words[:, 0], atol=1e-6)
    np.testing.assert_allclose(changed[2][:, 0], flow[:, 0], atol=1e-6)
    assert np.abs(changed[1][:, 0] - vision[:, 0]).max() > 1e-3


def test_the_order_of_frames_does_not_matter(mix):
    turned = mix(WORDS, VALID, VISION[:, ::-1], FLOW[:, ::-1])
    for a, b in zip(turned, mix(WORDS, VALID, VISION, FLOW), strict=True):
        np.testing.assert_allclose(a[:, ::-1], b, rtol=1e-4, atol=1e-5)


def test_the_public_codes_mask_gives_padding_a_score_of_0():
    x, valid = WORDS, VALID
    module = SelfAttention(1, 4, bug_compat=True)
    variables = module.init(KEYS[4], x, valid)
    kernel = {name: np.asarray(p["kernel"]) for name, p in variables["params"].items()}
    query, key, value = (np.asarray(x[0]) @ kernel[name] for name in ("query", "key", "value"))
    scores = np.where(np.asarray(valid), query @ key.T / 2, 1e-9)
    weights = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    wanted = weights @ value @ kernel["out"]
    np.testing.assert_allclose(module.apply(variables, x, valid)[0], wanted, rtol=1e-4, atol=1e-5)
