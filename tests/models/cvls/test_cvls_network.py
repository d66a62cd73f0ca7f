import contextlib
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_cvls import SMALL, build, make_batch
from tiny_models import given_modules, quick_jit, shapes

from vseg_jax.layers.coordinates import append_coordinates
from vseg_jax.layers.resize import bilinear
from vseg_jax.models.cvls.config import CvlsConfig
from vseg_jax.models.cvls.encoders import (
    LanguageEncoder,
    Pyramid,
    SelfGuidedAttention,
    VisualEncoder,
)
from vseg_jax.models.cvls.filter import ChannelFilter
from vseg_jax.models.cvls.network import Decoder, Network

CONFIG = CvlsConfig(**SMALL)


def test_self_guided_attention_by_hand():
    states = jnp.asarray([[[1.0, 0], [0, 2], [5, 5]], [[1, 1], [2, 2], [3, 3]]])
    valid = jnp.asarray([[True, True, False], [False, False, False]])
    params = {"hidden": {"kernel": jnp.eye(2), "bias": jnp.asarray([0.0, 0.5])},
              "score": {"kernel": jnp.asarray([[1.0], [-1.0]])}}
    out = SelfGuidedAttention(CONFIG).apply({"params": params}, states, valid)
    scores = np.array([np.tanh(1) - np.tanh(0.5), 0 - np.tanh(2.5)])
    first = 1 / (1 + np.exp(scores[1] - scores[0]))
    np.testing.assert_allclose(out[0], [first, 2 * (1 - first)], rtol=1e-5)
    np.testing.assert_array_equal(out[1], 0)
    linear = dataclasses.replace(CONFIG, text_attention="linear")
    out = SelfGuidedAttention(linear).apply({"params": {"score": params["score"]}}, states, valid)
    first = 1 / (1 + np.exp(-2 - 1))
    np.testing.assert_allclose(out[0], [first, 2 * (1 - first)], rtol=1e-5)


def test_the_channel_filters_gate_by_hand():
    params = {"squeeze": {"kernel": jnp.asarray([[1.0, 0], [0, -1]]), "bias": jnp.zeros(2)},
              "excite": {"kernel": jnp.asarray([[1.0, 0], [1, 100]]),
                         "bias": jnp.asarray([0.0, 1])}}
    config = dataclasses.replace(CONFIG, channels=2)
    gate = ChannelFilter(config).apply({"params": params}, jnp.asarray([[2.0, 3.0]]))
    hidden = np.array([2.0, -0.03])  # LeakyReLU of (2, -3)
    wanted = 1 / (1 + np.exp(-np.array([hidden[0] + hidden[1], 100 * hidden[1] + 1])))
    np.testing.assert_allclose(gate[0], wanted, rtol=1e-5)


def test_the_filter_gates_what_is_decoded_and_contrasted(model, variables):
    batch = make_batch()
    params = {k: v for k, v in variables["params"].items() if k != "contrast"}

    def forward(lcf):
        network = Network(dataclasses.replace(model.config, lcf=lcf))
        kept = {k: v for k, v in params.items() if lcf or k != "filter"}

        @quick_jit
        def run(batch):
            return network.apply(
                {**variables, "params": kept}, batch["frames"], batch["target"][:, None],
                batch["tokens"], batch["tokens_valid"], train=False, method="full",
            )

        return run(batch)

    with_it, without = forward(True), forward(False)
    gate = ChannelFilter(model.config).apply({"params": params["filter"]}, with_it.sentence)
    np.testing.assert_allclose(
        with_it.features, without.features * gate[:, None, None, None], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(with_it.sentence, without.sentence)
    upsampled = bilinear(with_it.coarse[..., None], (32, 32), align_corners=False)[..., 0]
    np.testing.assert_allclose(with_it.logits, upsampled, rtol=1e-4, atol=1e-5)
    assert np.abs(with_it.logits - without.logits).max() > 1e-4


def test_the_sentence_has_its_share_of_the_first_prediction(predict, variables):
    """Another sentence changes the logits of a frame about as much as another place does."""
    batch = make_batch()
    batch["frames"] = np.repeat(batch["frames"][:1], 2, axis=0)
    batch["tokens"] = np.array([[2, 3, 4, 5, 0], [6, 7, 8, 9, 10]], np.int32)
    batch["tokens_valid"] = batch["tokens"] > 0
    one, other = predict(variables, batch).logits[:, 0]
    assert np.sqrt(np.square(one - other).mean()) > 0.3 * np.std(one)


def test_features_and_sentence_meet_at_one_scale():
    """Every vector is divided by its root mean square, here 5 / 2 and 13 / 2."""
    tokens = jnp.ones((1, 3), jnp.int32)
    inputs = jnp.zeros((1, 1, 4, 4, 3), jnp.uint8), jnp.zeros((1, 1), jnp.int32), tokens, tokens > 0
    outputs = {VisualEncoder: (), Pyramid: jnp.asarray([[[[[3.0, 4, 0, 0]]]]]),
               LanguageEncoder: jnp.asarray([[0, 5.0, 0, -12]]), Decoder: jnp.ones((1, 1, 1, 1, 1))}
    with contextlib.ExitStack() as stack:
        for module, output in outputs.items():
            stack.enter_context(given_modules(module, output))
        out, plain = (
            Network(dataclasses.replace(CONFIG, lcf=False, normalize=switch)).apply(
                {}, *inputs, train=False, method="full"
            ) for switch in (True, False)
        )
    np.testing.assert_allclose(out.features[0, 0, 0, 0], [1.2, 1.6, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(out.sentence[0], [0, 10 / 13, 0, -24 / 13], rtol=1e-5)
    np.testing.assert_array_equal(plain.features, outputs[Pyramid])
    np.testing.assert_array_equal(plain.sentence, outputs[LanguageEncoder])


def levels(seed=0):
    keys = jax.random.split(jax.random.key(seed), 4)
    sizes, widths = (8, 4, 2, 1), (4, 8, 16, 32)
    return tuple(jax.random.normal(k, (1, 1, s, s, w))
                 for k, s, w in zip(keys, sizes, widths, strict=True))


@quick_jit
def pyramids(maps):
    """(wanted, got) with the pathway and without it, and the result of nearest upsampling."""
    layer = Pyramid(CONFIG)
    params = layer.init(jax.random.key(1), maps)
    weights = params["params"]

    def lateral(i):
        p = weights[f"sem_{i + 1}"]
        return append_coordinates(maps[i]) @ p["kernel"] + p["bias"]

    def up(x, size):
        return bilinear(x, (size, size), align_corners=False)

    def join(p1, *others):
        joined = jnp.concatenate([p1, *(up(p, 8) for p in others)], axis=-1)
        return joined @ weights["join"]["kernel"] + weights["join"]["bias"]

    v = [lateral(i) for i in range(4)]
    p3 = v[2] + up(v[3], 2)
    p2 = v[1] + up(p3, 4)
    p1 = v[0] + up(p2, 8)
    flat = Pyramid(dataclasses.replace(CONFIG, fpn=False)).apply(params, maps)
    blocky = Pyramid(dataclasses.replace(CONFIG, fpn_upsample="nearest")).apply(params, maps)
    return (join(p1, p2, p3, v[3]), layer.apply(params, maps)), (join(*v), flat), blocky


def test_spatial_encoding_and_pathway_are_equation_9_and_a_pyramid():
    pathway, flat, blocky = pyramids(levels())
    np.testing.assert_allclose(*pathway, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(*flat, rtol=1e-4, atol=1e-4)
    for other in (flat[0], blocky):
        assert np.abs(other - pathway[0]).max() > 1e-2


FULL = shapes(build(), make_batch())


@pytest.mark.parametrize(
    ("switch", "gone", "resized"),
    [
        ({"ccl": False}, "['contrast']", None),
        ({"lcf": False}, "['filter']", None),
        ({"sem": False}, None, "['pyramid']['sem_"),
        ({"fpn": False, "fpn_upsample": "nearest", "rhic": False, "rhic_ratio": (4, 1),
          "lambda_ccl": 0.5, "tau": 1.0, "max_objects": 9, "pos_weight": 2.0,
          "normalize": False, "word_init": "one_hot", "dtype": "bfloat16"}, None, None),
        ({"text_attention": "linear"}, "['attention']['hidden']", None),
        ({"lcf_reduction": 4}, None, "['filter']"),
        ({"vocabulary": 30}, None, "['embedding']"),
    ],
)
def test_a_switch_changes_only_its_own_parameters(switch, gone, resized):
    now = shapes(build(**switch), make_batch())
    assert set(now) == {n for n in FULL if gone is None or gone not in n}
    for name, shape in now.items():
        assert (shape != FULL[name]) <= (resized is not None and resized in name), name
    if resized:
        assert any(now[name] != FULL[name] for name in now)


def test_the_backbone_changes_only_itself_and_what_reads_it():
    now = shapes(build(backbone="resnet50"), make_batch())
    kept = {n: s for n, s in FULL.items() if not n.startswith(("['visual']", "['pyramid']['sem_"))}
    assert {n: now[n] for n in kept} == kept
    assert now["['pyramid']['sem_1']['kernel']"] == (16 + 8, 8)


@pytest.mark.parametrize(
    "changes",
    [{}, {"backbone": "resnet50", "fpn_upsample": "nearest"},
     {"backbone": "i3d", "i3d_width": 0.0625, "clip_length": 4}, {"dtype": "bfloat16"}],
)
def test_shapes_of_every_encoder(changes):
    side = (40, 72)
    model, batch = build(**changes), make_batch(size=3, length=4, side=72)
    frames = batch["frames"][:, :, : side[0], : side[1]]

    def forward(*inputs):
        network = Network(model.config)
        return network.init_with_output(
            jax.random.key(0), *inputs, train=False, method="full"
        )

    asked = np.zeros((3, 2), np.int32)
    out, variables = jax.eval_shape(
        forward, frames, asked, batch["tokens"], batch["tokens_valid"]
    )
    assert out.logits.shape == (3, 2, *side) and out.logits.dtype == jnp.float32
    small = (side[0] // 4, side[1] // 4)
    assert out.coarse.shape == (3, 2, *small) and out.features.shape == (3, 2, *small, 8)
    assert out.sentence.shape == (3, 8)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(variables))
