"""The encoders of clip and expression: what reaches the backbone, and what becomes of its maps."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import given_modules, quick_jit
from tiny_qvim import SMALL

from vseg_jax.backbones.efficientnet import SCALES, EfficientNetLite
from vseg_jax.backbones.i3d import I3D
from vseg_jax.backbones.resnet import ResNet
from vseg_jax.models.qvim.config import QvimConfig
from vseg_jax.models.qvim.encoders import TextEncoder, VisualEncoder
from vseg_jax.models.qvim.network import Feedback
from vseg_jax.text.recurrent import Gru

RANDOM = np.random.default_rng(0)
FRAMES = jnp.asarray(RANDOM.integers(0, 256, (2, 2, 32, 32, 3), np.uint8))
TARGET = jnp.asarray([0, 1])


def normal(*shape):
    return jnp.asarray(RANDOM.normal(size=shape), jnp.float32)


def test_words_and_query_by_hand():
    encoder = TextEncoder(QvimConfig(**SMALL))
    tokens = jnp.asarray([[3, 7, 2, 0, 0], [5, 5, 19, 4, 1]])
    valid = tokens > 0
    variables = quick_jit(lambda key: encoder.init(key, tokens, valid, train=False))(
        jax.random.key(0)
    )
    params = jax.tree.map(lambda x: x + 0.1, variables["params"])
    words, query = encoder.apply({"params": params}, tokens, valid, train=False)
    table = params["embedding"]["words"]["embedding"]
    wanted = table[tokens] @ params["project"]["kernel"] + params["project"]["bias"]
    np.testing.assert_allclose(words, wanted * valid[..., None], rtol=1e-4, atol=1e-5)
    _, last = Gru(SMALL["channels"]).apply({"params": params["gru"]}, words, valid)
    np.testing.assert_allclose(query, last, rtol=1e-5)


def test_words_start_large_and_the_query_remembers_them():
    encoder = TextEncoder(QvimConfig(**{**SMALL, "word_width": 400}))
    tokens = jnp.ones((1, 2), jnp.int32)
    params = quick_jit(lambda key: encoder.init(key, tokens, tokens > 0, train=False))(
        jax.random.key(0)
    )["params"]
    assert params["project"]["kernel"].std() == pytest.approx(5 / np.sqrt(400), rel=0.1)
    update_gate = params["gru"]["forward"]["input_bias"][8:16]
    np.testing.assert_allclose(jax.nn.sigmoid(update_gate), 0.8, rtol=1e-5)


def test_i3d_reads_colors_around_zero_and_its_maps_are_averaged_over_time():
    stages = tuple(normal(2, n, 1, 1, 3) for n in (4, 2, 1, 1, 1))
    encoder = VisualEncoder(QvimConfig(**{**SMALL, "backbone": "i3d"}))
    with given_modules(I3D, stages) as seen:
        maps = encoder.apply({}, FRAMES, TARGET, train=False)
    np.testing.assert_allclose(seen[0], np.asarray(FRAMES) / 127.5 - 1, atol=1e-6)
    for got, stage in zip(maps, stages, strict=True):
        np.testing.assert_allclose(got, stage.mean(1), rtol=1e-6)


def test_a_resnet_reads_each_frame_alone():
    encoder = VisualEncoder(QvimConfig(**SMALL))
    mean, deviation = jnp.asarray([0.485, 0.456, 0.406]), jnp.asarray([0.229, 0.224, 0.225])
    images = ((FRAMES / 255 - mean) / deviation).reshape(4, 32, 32, 3)

    @quick_jit
    def both(key):
        maps, variables = encoder.init_with_output(key, FRAMES, TARGET, train=False)
        parts = {name: tree["resnet"] for name, tree in variables.items()}
        stages, inner = ResNet(18, width=SMALL["resnet_width"]).apply(
            parts, images, train=False, capture_intermediates=lambda m, _: m.name == "norm1"
        )
        stem = nn.relu(inner["intermediates"]["norm1"]["__call__"][0])
        return maps, (stem, *stages)

    maps, frame_maps = both(jax.random.key(0))
    assert len(maps) == len(frame_maps) == 5
    for got, each in zip(maps, frame_maps, strict=True):
        wanted = each.reshape(2, 2, *each.shape[1:]).mean(1)
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4)


def test_an_efficientnet_reads_its_own_colors_and_its_maps_get_one_scale():
    maps = tuple(normal(4, 1, 1, 3) for _ in SCALES)
    encoder = VisualEncoder(QvimConfig(**{**SMALL, "backbone": "efficientnet_lite0"}))
    with given_modules(EfficientNetLite, maps) as seen:
        got = encoder.apply({}, FRAMES, TARGET, train=False)
    images = np.asarray(FRAMES, np.float32).reshape(4, 32, 32, 3)
    np.testing.assert_allclose(seen[0], (images - 127) / 128, atol=1e-6)
    for one, each, scale in zip(got, maps, (6.0, 8.5, 7.0, 6.0, 2.5), strict=True):
        np.testing.assert_allclose(one, each.reshape(2, 2, 1, 1, 3).mean(1) / scale, rtol=1e-5)


def test_feedback_by_hand():
    stage, features = normal(1, 3, 2, 2, 5), normal(1, 2, 2, 8)
    kernel, bias = normal(8, 5), normal(5)
    params = {"project": {"kernel": kernel, "bias": bias}}
    out = Feedback().apply({"params": params}, stage, features)
    np.testing.assert_allclose(out, stage + (features @ kernel + bias)[:, None], rtol=1e-4,
                               atol=1e-5)
