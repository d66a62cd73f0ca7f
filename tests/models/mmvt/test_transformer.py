import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import quick_jit, random_params

from vseg_jax.models.mmvt.transformer import (
    Attention,
    PlainLayer,
    StagedTransformer,
    Transformer,
)

KEYS = jax.random.split(jax.random.key(0), 5)
WORDS = jax.random.normal(KEYS[0], (1, 3, 6))
VALID = jnp.asarray([[True, True, False]])
VISION, FLOW = (jax.random.normal(k, (1, 2, 2, 2, 6)) for k in KEYS[1:3])
TARGET = jnp.asarray([1])


@pytest.fixture(scope="module")
def mix():
    return mixer(Transformer(1, 2, 4, 5, 0.0))


def mixer(network):
    """The tokens of words, frames and flow after a network with random parameters."""
    run = quick_jit(lambda v, *x: network.apply(v, *x, TARGET, train=False))
    inputs = WORDS, VALID, VISION, FLOW, TARGET
    variables = {"params": random_params(network, *inputs, train=False)}

    def call(*inputs):
        mixed = run(variables, *inputs)
        return mixed.words, mixed.vision, mixed.flow, mixed.encoded, mixed.out

    call.params = variables["params"]
    return call


def test_padding_is_masked(mix):
    plain = mix(WORDS, VALID, VISION, FLOW)
    noisy = mix(WORDS.at[:, 2].multiply(-1), VALID, VISION, FLOW)
    np.testing.assert_array_equal(noisy[0][:, :, :2], plain[0][:, :, :2])
    np.testing.assert_array_equal(noisy[1], plain[1])
    changed = mix(WORDS.at[:, 1].multiply(-1), VALID, VISION, FLOW)
    assert np.abs(changed[1] - plain[1]).max() > 1e-3


def test_only_pixels_of_frames_attend_to_other_frames(mix):
    words, vision, flow, encoded, out = mix(WORDS, VALID, VISION, FLOW)
    np.testing.assert_array_equal(encoded, vision)
    np.testing.assert_array_equal(out, vision[:, 1])
    changed = mix(WORDS, VALID, VISION.at[:, 1].multiply(-1), FLOW)
    np.testing.assert_allclose(changed[0][:, 0], words[:, 0], atol=1e-6)
    np.testing.assert_allclose(changed[2][:, 0], flow[:, 0], atol=1e-6)
    assert np.abs(changed[1][:, 0] - vision[:, 0]).max() > 1e-3


def test_the_order_of_frames_does_not_matter(mix):
    turned = mix(WORDS, VALID, VISION[:, ::-1], FLOW[:, ::-1])
    for a, b in zip(turned[:4], mix(WORDS, VALID, VISION, FLOW)[:4], strict=True):
        np.testing.assert_allclose(a[:, ::-1], b, rtol=1e-4, atol=1e-5)


def test_the_summarys_transformer_reads_in_three_stages():
    network = StagedTransformer(1, 2, 4, 5, 0.0)
    mix = mixer(network)
    plain = mix(WORDS, VALID, VISION, FLOW)

    def changed(words=WORDS, vision=VISION, flow=FLOW):
        """Which of Zl, Ta, Tm, Za and the decoder's map change in the target frame."""
        after = mix(words, VALID, vision, flow)
        pairs = [(a[:, 1], b[:, 1]) for a, b in zip(after[:4], plain[:4], strict=True)]
        return [bool(np.abs(a - b).max() > 1e-5) for a, b in [*pairs, (after[4], plain[4])]]

    # The encoder stays within frames; the temporal encoder has both streams.
    assert changed(vision=VISION.at[:, 0].multiply(-1)) == [False, True, True, False, True]
    assert changed(flow=FLOW.at[:, 0].multiply(-1)) == [False, True, True, False, True]
    assert changed(words=WORDS.at[:, 0].multiply(-1)) == [True] * 5
    # Only padding itself reads padding.
    assert changed(words=WORDS.at[:, 2].multiply(-1)) == [True, False, False, False, False]
    # The decoder reads Ta, Tm and Zl.
    words, vision, flow = (x[:, 1].reshape(1, -1, 6) for x in plain[:3])
    others = jnp.concatenate([words, flow], axis=1)
    there = jnp.asarray([[True, True, False, True, True, True, True]])
    wanted = PlainLayer(2, 4, 5, 0.0).apply(
        {"params": mix.params["decoder_0"]}, vision, None, others, there, train=False
    )
    np.testing.assert_allclose(plain[4], wanted.reshape(1, 2, 2, 6), rtol=1e-4, atol=1e-5)


def test_the_public_codes_mask_gives_padding_a_score_of_0():
    x, valid = WORDS, VALID
    module = Attention(1, 4, bug_compat=True)
    variables = module.init(KEYS[4], x, valid)
    kernel = {name: np.asarray(p["kernel"]) for name, p in variables["params"].items()}
    query, key, value = (np.asarray(x[0]) @ kernel[name] for name in ("query", "key", "value"))
    scores = np.where(np.asarray(valid), query @ key.T / 2, 1e-9)
    weights = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    wanted = weights @ value @ kernel["out"]
    np.testing.assert_allclose(module.apply(variables, x, valid)[0], wanted, rtol=1e-4, atol=1e-5)
