import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_rcf import WITH_AUDIO, build, quick_jit

from vseg_jax.models.rcf.fusion import Fusion
from vseg_jax.models.rcf.network import prepare
from vseg_jax.models.rcf.tokens import ReferenceToken, sine

MAPS = jax.random.normal(jax.random.key(1), (1, 2, 6, 6, 8))


def test_position_codes_by_hand():
    code = sine(2, 4, 8).reshape(2, 4, 8)
    # Row 2 of 2 is at 2 pi: its sine and cosine with the periods 1 and 10000^(1/2).
    np.testing.assert_allclose(code[1, 0, :4], [
        np.sin(2 * np.pi), np.cos(2 * np.pi), np.sin(2 * np.pi / 100), np.cos(2 * np.pi / 100),
    ], atol=1e-5)
    np.testing.assert_allclose(code[0, 0, 4:6], [1, 0], atol=1e-5)      # a quarter to the right
    np.testing.assert_array_equal(code[0, :, :4], np.repeat(code[0, :1, :4], 4, axis=0))
    np.testing.assert_array_equal(code[0, :, 4:], code[1, :, 4:])


def reference(**changes):
    settings = {"features": 8, "side": 2, "pool": "avg", "weighted": False, "activation": "sigmoid"}
    module = ReferenceToken(**{**settings, **changes})
    return module, jax.jit(module.init)(jax.random.key(0), MAPS)


def test_equation_2_by_hand():
    module, variables = reference(weighted=True)
    tokens, weight = module.apply(variables, MAPS)
    x = np.concatenate([MAPS[0, 0], MAPS[0, 1]], axis=-1)          # the newest frame's first
    p = jax.tree.map(np.asarray, variables["params"])
    w = 1 / (1 + np.exp(-(x @ p["weight"]["kernel"] + p["weight"]["bias"])))
    np.testing.assert_allclose(weight[0], w[..., 0], rtol=1e-5)
    pooled = (w * x).reshape(2, 3, 2, 3, -1).mean((1, 3)).reshape(4, -1)
    expected = pooled @ p["project"]["kernel"] + p["project"]["bias"]
    np.testing.assert_allclose(tokens[0], expected, rtol=1e-4, atol=1e-5)


def test_the_weight_map_can_be_off_or_unbounded():
    module, variables = reference()
    assert module.apply(variables, MAPS)[1] is None and set(variables["params"]) == {"project"}
    module, variables = reference(weighted=True, activation="none")
    assert module.apply(variables, MAPS)[1].min() < 0


def test_depthwise_pooling_starts_as_the_average():
    average, variables = reference()
    module, more = reference(pool="dwconv")
    params = {**more["params"], "project": variables["params"]["project"]}
    np.testing.assert_allclose(
        module.apply({"params": params}, MAPS)[0], average.apply(variables, MAPS)[0], atol=1e-5)
    # One kernel for each channel and cell, shared by the tokens.
    assert params["depthwise"]["kernel"].shape == (3, 3, 1, 16)
    kernel = params["depthwise"]["kernel"].at[0, 0, 0, :].set(1.0)
    changed = {**params, "depthwise": {**params["depthwise"], "kernel": kernel}}
    assert (module.apply({"params": changed}, MAPS)[0]
            != module.apply({"params": params}, MAPS)[0]).all()


def fuse(references=2, **changes):
    """Returns a function of (references, audio, valid) -> Fused, and its inputs."""
    config = build(references=references, **changes).config
    module, random = Fusion(config), jax.random.split(jax.random.key(2), 3)
    maps = jax.random.normal(random[0], (1, 3, 3, 8))
    others = jax.random.normal(random[1], (1, references, 3, 3, 8))
    audio = valid = None
    if config.audio:
        audio = jax.random.normal(random[2], (1, 1 + references, 8))
        valid = jnp.ones(audio.shape[:2], bool)
    variables = quick_jit(lambda *x: module.init(*x, train=False))(
        jax.random.key(0), maps, others, audio, valid)
    run = quick_jit(lambda *x: module.apply(variables, maps, *x, train=False))
    return run, (others, audio, valid)


@pytest.mark.parametrize(("fusion", "reached"), [
    ("reference_token", True), ("full_enc", True), ("full_dec", False)])
def test_references_reach_the_encoded_target(fusion, reached):
    """With "full_dec" references are combined with the target in the decoder only."""
    run, (others, *audio) = fuse(fusion=fusion)
    before, after = run(others, *audio), run(others + 1, *audio)
    assert bool((before.target != after.target).any()) == reached
    assert (before.tokens != after.tokens).any()
    swapped = run(others[:, ::-1], *audio)
    assert (before.tokens[:, 9:] != swapped.tokens[:, 9:]).any()


@pytest.mark.parametrize("fusion", ["reference_token", "full_dec"])
def test_frames_without_audio_have_no_effect(fusion):
    run, (others, audio, valid) = fuse(fusion=fusion, **WITH_AUDIO)
    silent = valid.at[0, 1].set(False)
    one, other = run(others, audio, silent), run(others, audio.at[0, 1].add(9), silent)
    np.testing.assert_array_equal(one.target, other.target)
    assert (run(others, audio.at[0, 1].add(9), valid).target != one.target).any()
    # Without any valid audio its content has no effect.
    none = jnp.zeros_like(valid)
    np.testing.assert_array_equal(
        run(others, audio, none).target, run(others, 5 * audio, none).target)


def test_frames_are_padded_below_and_on_the_right():
    x = prepare(jnp.full((33, 64, 3), 255, jnp.uint8))
    assert x.shape == (64, 64, 3)
    np.testing.assert_allclose(x[32, 0], [2.2489, 2.4286, 2.64], atol=1e-3)
    assert (x[33:] == 0).all()
