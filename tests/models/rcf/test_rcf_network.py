import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import given_modules, random_params
from tiny_rcf import WITH_AUDIO, build, quick_jit

from vseg_jax.backbones.efficientnet import EfficientNetLite
from vseg_jax.models.rcf.fusion import Fusion
from vseg_jax.models.rcf.network import prepare
from vseg_jax.models.rcf.pixel_decoder import Heads, MaskDecoder
from vseg_jax.models.rcf.tokens import AudioToken, ReferenceToken, sine
from vseg_jax.models.rcf.transformer import Encoder, EncoderLayer
from vseg_jax.text.recurrent import Lstm

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


def test_each_reference_can_have_an_encoder_of_its_own():
    config = build(references=2, fusion="full_dec", separate_encoders=True).config
    module, random = Fusion(config), np.random.default_rng(0)
    inputs = (jnp.asarray(random.normal(size=(1, 3, 3, 8)), jnp.float32),
              jnp.asarray(random.normal(size=(1, 2, 3, 3, 8)), jnp.float32), None, None)
    params = random_params(module, *inputs, train=False)
    run = quick_jit(lambda params: module.apply({"params": params}, *inputs, train=False).tokens)
    tokens = run(params).reshape(3, 9, 16)   # of the target and both references
    for number, name in enumerate(("encoder", "reference_encoder_0", "reference_encoder_1")):
        changed = run({**params, name: jax.tree.map(lambda x: x + 0.3, params[name])})
        differs = (changed.reshape(3, 9, 16) != tokens).any((1, 2))
        assert differs.tolist() == [number == place for place in range(3)]


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


@pytest.mark.parametrize("positions", ["once", "each_layer"])
@pytest.mark.parametrize("fusion", ["reference_token", "full_enc", "full_dec"])
def test_what_the_encoder_reads(fusion, positions):
    """The encoder is replaced by one that returns its tokens, so the rest can be followed."""
    config = build(references=2, fusion=fusion, positions=positions, **WITH_AUDIO).config
    random, module, seen = np.random.default_rng(0), Fusion(config), []

    def normal(*shape):
        return jnp.asarray(random.normal(size=shape), jnp.float32)

    def instead(call, arguments, keywords, context):
        if not isinstance(context.module, Encoder):
            return call(*arguments, **keywords)
        seen.append(arguments)
        return arguments[0]

    inputs = (normal(1, 3, 3, 8), normal(1, 2, 3, 3, 8), normal(1, 3, 8),
              jnp.asarray([[True, False, True]]))
    with nn.intercept_methods(instead):
        params = random_params(module, *inputs, train=False)
        seen.clear()
        out = module.apply({"params": params}, *inputs, train=False)

    def project(x):
        return (x @ params["target"]["kernel"] + params["target"]["bias"]).reshape(1, 9, 16)

    target, references, audio, valid = inputs
    codes = sine(3, 3, 16)
    encoder = AudioToken(16, config.audio_hidden)
    audio_tokens = encoder.apply({"params": params["audio"]}, audio, valid)
    parts = [(project(target), codes)]
    others = [(project(references[:, r]), codes + params["reference_time"][r])
              for r in (0, 1)] if fusion != "reference_token" else []
    if fusion == "reference_token":
        module = ReferenceToken(16, config.side, config.ref_pool, config.ref_weight,
                                config.ref_weight_act)
        tokens, _ = module.apply({"params": params["reference"]}, references)
        parts.append((tokens, sine(config.side, config.side, 16)))
    elif fusion == "full_enc":
        parts += others
    parts.append((audio_tokens, params["audio_time"]))
    tokens = np.concatenate([x for x, _ in parts], 1)
    places = np.concatenate([p for _, p in parts])[None]
    there = np.concatenate([np.ones((1, tokens.shape[1] - 3), bool), valid], 1)[:, None]
    once = positions == "once"
    np.testing.assert_allclose(seen[0][0], tokens + places * once, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(seen[0][1], places * (not once), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(seen[0][2], there)
    np.testing.assert_allclose(out.target.reshape(1, 9, 16), out.tokens[:, :9])
    if fusion == "full_dec":   # the decoder also reads every reference, encoded alone
        for (x, place), arguments in zip(others, seen[1:], strict=True):
            np.testing.assert_allclose(arguments[0][0], x[0] + place * once, rtol=1e-4, atol=1e-4)
            assert arguments[2] is None
        tokens = np.concatenate([tokens, *(x for x, _ in others)], 1)
        places = np.concatenate([places, *(p[None] for _, p in others)], 1)
        there = np.concatenate([there, np.ones((1, 1, 18), bool)], 2)
    else:
        assert len(seen) == 1
    np.testing.assert_allclose(out.tokens, tokens + places * once, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(out.positions, places, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(out.mask, there)


def test_audio_tokens_by_hand():
    random, module = np.random.default_rng(0), AudioToken(4, 3)
    audio, valid = jnp.asarray(random.normal(size=(1, 3, 5)), jnp.float32), jnp.ones((1, 3), bool)
    params = random_params(module, audio, valid)
    x = audio
    for name in ("lstm1", "lstm2"):
        x, _ = Lstm(3).apply({"params": params[name]}, x, valid)
    x = np.maximum(x @ params["dense1"]["kernel"] + params["dense1"]["bias"], 0)
    wanted = x @ params["dense2"]["kernel"] + params["dense2"]["bias"]
    np.testing.assert_allclose(module.apply({"params": params}, audio, valid), wanted, rtol=1e-4)


def test_tokens_with_a_large_mean_are_normalized_exactly():
    """The variance is that of the centered tokens: in float32, E[x^2] - E[x]^2 would lose it."""
    small = jnp.asarray(np.random.default_rng(0).integers(-3, 4, (1, 5, 8)), jnp.float32)
    layer, places, shift = EncoderLayer(2, 4, 0.0), jnp.zeros((1, 5, 8)), jnp.arange(8.0)
    params = jax.tree_util.tree_map_with_path(   # attention returns 0, and the MLP its last bias
        lambda path, x: jnp.full(x.shape, float(path[-1].key == "scale")),
        random_params(layer, small, places, None, train=False),
    )
    params["dense2"]["bias"] = shift
    out = layer.apply({"params": params}, small + 2.0**15, places, None, train=False)

    def normal(x):
        return (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)

    np.testing.assert_allclose(out, normal(normal(small) + shift), atol=1e-3)


@pytest.mark.parametrize("stride", [16, 32])
def test_an_efficientnet_reads_its_own_colors_and_its_last_map_is_joined(stride):
    """At stride 16 its last map, here constant, is enlarged; all maps get one scale."""
    model = build(backbone="efficientnet_lite0", fuse_stride=stride)
    maps = tuple(jnp.full((1, 32 // s, 64 // s, c), c, jnp.float32)
                 for s, c in ((2, 1), (4, 2), (8, 3), (16, 4), (32, 5)))
    frames = jnp.full((1, 32, 60, 3), 255, jnp.uint8)   # four columns are padding
    with given_modules(EfficientNetLite, maps) as seen:
        pyramid = model.network.apply({}, frames, train=False, method="encode")
    np.testing.assert_allclose(seen[0][0, :, :60], 1, atol=1e-6)   # (255 - 127) / 128
    np.testing.assert_array_equal(seen[0][0, :, 60:], 0)
    for got, one, scale in zip(pyramid[:3], maps[1:4], (8.5, 7.0, 6.0), strict=True):
        np.testing.assert_allclose(got, one / scale, rtol=1e-5)
    last = np.full((1, 1, 2, 5), 5 / 2.5)
    if stride == 16:
        last = np.concatenate([maps[3] / 6, np.full((1, 2, 4, 5), 5 / 2.5)], axis=-1)
    np.testing.assert_allclose(pyramid[3], last, rtol=1e-5)


def test_objects_that_look_alike_differ_in_their_coordinates():
    """Away from the border, the same features give the same map, except with coordinates."""
    fused = jnp.ones((1, 8, 8, 8))
    finer = tuple(jnp.ones((1, side, side, 4)) for side in (64, 32, 16))
    for coordinates in (False, True):
        module = MaskDecoder(16, 4, coordinates)
        params = random_params(module, fused, finer)
        cells = np.asarray(module.apply({"params": params}, fused, finer))[0, 30:34, 30:34]
        assert (np.ptp(cells, axis=(0, 1)).max() > 1e-2) == coordinates


def test_classes_are_also_read_from_the_mean_under_the_mask():
    codes = jnp.zeros((1, 2, 1, 4))   # two samples of one slot
    maps = np.zeros((2, 1, 2, 3), np.float32)
    maps[0, 0, :, 0], maps[0, 0, :, 1] = (50, -50), (1, 3)   # the mask shows the first cell
    maps[1, 0, :, 0], maps[1, 0, :, 1] = (0, 0), (1, 3)      # half of both
    kernel = np.zeros((3, 3), np.float32)
    kernel[1, 2] = 10
    params = {
        "classes": {"kernel": np.zeros((4, 3)), "bias": np.float32([0, 1, 2])},
        "filters1": {"kernel": np.zeros((4, 4)), "bias": np.zeros(4)},
        "filters2": {"kernel": np.zeros((4, 3)), "bias": np.float32([1, 0, 0])},
        "pooled_classes": {"kernel": kernel},
    }
    head = Heads(2, pooled=True)

    def run(maps):
        return head.apply({"params": jax.tree.map(jnp.float32, params)}, codes, maps)

    classes, masks = run(jnp.asarray(maps))
    np.testing.assert_allclose(masks[0, :, 0, 0], maps[:, 0, :, 0])
    np.testing.assert_allclose(classes[0, :, 0], [[0, 1, 12], [0, 1, 22]], rtol=1e-6)
    gradient = jax.grad(lambda maps: run(maps)[0][..., 2].sum())(jnp.asarray(maps))
    assert (gradient[..., 0] == 0).all() and (gradient[1, 0, :, 1] == 5).all()
