import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import shapes
from tiny_qvim import SMALL, build, make_batch

from vseg_jax.models.qvim.config import QvimConfig
from vseg_jax.models.qvim.decoder import Decoder, average_3x3
from vseg_jax.models.qvim.encoders import pool_time
from vseg_jax.models.qvim.interaction import (
    Interaction,
    Perturbations,
    Place,
    Query,
    WordAttention,
    highlight,
    pool,
    pooling_weights,
    query_scores,
)
from vseg_jax.models.qvim.network import Network

CONFIG = QvimConfig(**SMALL)
VISUAL = jax.random.normal(jax.random.key(0), (2, 6, 5, 3))
VALID = jnp.asarray([[True, True, True, False, False], [True] * 5])
WORDS = jax.random.normal(jax.random.key(1), (2, 5, 8)) * VALID[..., None]
QUERY = Query(WORDS, VALID, jax.random.normal(jax.random.key(2), (2, 8)))


def test_pooling_weights_by_hand():
    scores = jnp.log(jnp.asarray([[[1.0, 2.0], [5.0, 2.0]]]))
    np.testing.assert_allclose(pooling_weights(scores, "softmax"), [[[0.1, 0.2], [0.5, 0.2]]],
                               rtol=1e-6)
    scores = jnp.asarray([[[1.0, -3.0], [3.0, 0.0]]])
    np.testing.assert_allclose(pooling_weights(scores, "linear"), [[[0.25, 0], [0.75, 0]]],
                               atol=1e-5)
    # All scores negative: the printed fraction would turn its sign; this one stays a mean.
    np.testing.assert_allclose(pooling_weights(-jnp.ones((1, 2, 2)), "linear"), 0.25, rtol=1e-5)


def test_query_scores_and_pool_by_hand():
    y = jnp.asarray([[[[1.0, 2, 0, 0], [0, 1, 1, 1]]]])
    scores = query_scores(y, jnp.asarray([[2.0, 1, 0, -1]]))
    np.testing.assert_allclose(scores, [[[2, 0]]])  # (4, 0) / sqrt(4)
    np.testing.assert_allclose(pool(y, jnp.asarray([[[0.75, 0.25]]])), [[0.75, 1.75, 0.25, 0.25]])
    np.testing.assert_allclose(pool(y, None), [[0.5, 1.5, 0.5, 0.5]])


def test_pool_time():
    stage = jnp.arange(8.0).reshape(2, 4, 1, 1, 1)
    np.testing.assert_allclose(pool_time(stage, jnp.asarray([4, 1]), 8, "mean").ravel(), [1.5, 5.5])
    np.testing.assert_allclose(pool_time(stage, jnp.asarray([4, 1]), 8, "middle").ravel(), [2, 4])


@pytest.mark.parametrize("w", ["bilinear", "words"])
def test_padded_words_get_no_attention(w):
    layer = WordAttention(dataclasses.replace(CONFIG, ca_w=w))
    y = jax.random.normal(jax.random.key(3), (2, 4, 4, 8))
    params = layer.init(jax.random.key(4), y, QUERY)
    weights = layer.apply(params, y, QUERY)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(weights[0, :, 3:], 0)
    nothing = QUERY._replace(valid=jnp.zeros_like(VALID))
    np.testing.assert_array_equal(layer.apply(params, y, nothing), 0)


def test_word_attention_is_equation_7():
    layer = WordAttention(CONFIG)
    y = jax.random.normal(jax.random.key(3), (2, 4, 4, 8))
    w = jax.random.normal(jax.random.key(5), (8, 8))
    weights = layer.apply({"params": {"w": {"kernel": w}}}, y, QUERY)
    scores = np.maximum(y[1].reshape(16, 8) @ (WORDS[1] @ w).T, 0)
    np.testing.assert_allclose(weights[1], jax.nn.softmax(scores), rtol=1e-4, atol=1e-6)


def test_ca_w_words_rejects_text_of_another_length():
    layer = WordAttention(dataclasses.replace(CONFIG, ca_w="words", max_words=7))
    with pytest.raises(ValueError, match="built for 7 words, got 5"):
        layer.init(jax.random.key(0), jnp.zeros((2, 4, 4, 8)), QUERY)


def test_self_attention_chunk_by_chunk_is_exact():
    pooled = Place(dataclasses.replace(CONFIG, sa_kv_max=6))  # covers the 6x5 map: exact, too
    params = pooled.init(jax.random.key(6), VISUAL)
    wanted = pooled.apply(params, VISUAL)
    chunked = Place(dataclasses.replace(CONFIG, sa_kv_max=None, sa_chunk=7))
    np.testing.assert_allclose(chunked.apply(params, VISUAL), wanted, rtol=1e-4, atol=1e-5)
    fewer = Place(dataclasses.replace(CONFIG, sa_kv_max=2)).apply(params, VISUAL)
    assert np.abs(fewer - wanted).max() > 1e-3


def test_highlight_by_hand():
    weights = jnp.asarray([[[0.1, 0.4], [0.3, 0.2]]])
    np.testing.assert_allclose(highlight(weights, "mean"), [[[0.4, 1.6], [1.2, 0.8]]], rtol=1e-6)
    np.testing.assert_allclose(highlight(weights, "peak"), [[[0.25, 1], [0.75, 0.5]]], rtol=1e-6)


@pytest.mark.parametrize("how", ["mean", "peak"])
def test_the_interaction_multiplies_its_features_by_the_highlight(how):
    """Without the merged words and the pooled vector, the output is Y (1 + A)."""
    config = dataclasses.replace(CONFIG, cross_attention=False, highlight=how)
    layer = Interaction(config, 1)
    params = layer.init(jax.random.key(7), VISUAL, QUERY, None)["params"]
    silent = {**params, **jax.tree.map(jnp.zeros_like, {n: params[n] for n in ("share", "merge")})}
    out, _, weights, _ = layer.apply({"params": silent}, VISUAL, QUERY, None)
    y = Place(config).apply({"params": params["place"]}, VISUAL)
    scale = weights.max((1, 2), keepdims=True) if how == "peak" else 1 / 30
    np.testing.assert_allclose(out, y * (1 + weights / scale)[..., None], rtol=1e-5)
    if how == "peak":
        assert (np.abs(out) <= 2.0001 * np.abs(y)).all()


def test_interaction_calls_the_perturbations_in_their_places():
    layer = Interaction(CONFIG, 2)
    params = layer.init(jax.random.key(7), VISUAL, QUERY, None)
    plain = layer.apply(params, VISUAL, QUERY, None)
    seen = []

    def features(k, y, weights, query):
        seen.append((k, y.shape, weights.shape, query.shape))
        return jnp.zeros_like(y)

    def attention(k, x, words):
        seen.append((k, x.shape, words.shape))
        return x

    hooked = layer.apply(params, VISUAL, QUERY, Perturbations(features, attention))
    assert seen == [(2, (2, 6, 5, 8), (2, 6, 5), (2, 8)), (2, (2, 30, 5), (2, 5))]
    np.testing.assert_array_equal(hooked[1], 0)         # p^k is pooled from what QFA returns,
    np.testing.assert_array_equal(hooked[2], plain[2])  # with the weights from before it
    even = VALID[:, None] / VALID.sum(1)[:, None, None]
    np.testing.assert_allclose(hooked[3], jnp.broadcast_to(even, (2, 30, 5)), rtol=1e-6)  # Eq. 7


def test_padded_words_do_not_reach_the_features():
    layer = Interaction(CONFIG, 1)
    params = layer.init(jax.random.key(7), VISUAL, QUERY, None)
    out = layer.apply(params, VISUAL, QUERY, None)[0]
    noise = jnp.where(VALID[..., None], 0.0, 9.0)
    again = layer.apply(params, VISUAL, QUERY._replace(words=WORDS + noise), None)[0]
    np.testing.assert_array_equal(out, again)


FULL = shapes(build(), make_batch())


@pytest.mark.parametrize(
    ("switch", "gone", "resized"),
    [
        ({"qgap": False}, "['share']", None),
        ({"cross_attention": False}, "['words']['w']", "['merge']['kernel']"),
        ({"contrast": False}, "['contrast']", None),
        ({"qfa_scales": (), "am_adain_scales": ()}, None, None),
        ({"ca_w": "words"}, None, "['words']['w']"),
        ({"att_norm": "linear", "temporal_pool": "middle", "pos_weight": 1.5}, None, None),
        ({"response_pool": True, "highlight": "peak", "qfa_keep": "scores"}, None, None),
        ({"decoder_channels": (4, 4, 4, 4, 3)}, None, "head_5"),
    ],
)
def test_a_switch_changes_only_its_own_parameters(switch, gone, resized):
    now = shapes(build(**switch), make_batch())
    assert set(now) == {n for n in FULL if gone is None or gone not in n}
    for name, shape in now.items():
        assert (shape != FULL[name]) <= (resized is not None and resized in name), name
    if resized:
        assert any(now[name] != FULL[name] for name in now)


def test_fuse_predicts_from_all_scales():
    sizes = (8, 4, 2, 1, 1)
    maps = {}
    for fuse in ("finest", "conv"):
        decoder = Decoder(dataclasses.replace(CONFIG, fuse=fuse))
        (logits, maps[fuse]), variables = jax.eval_shape(
            lambda decoder=decoder: decoder.init_with_output(
                jax.random.key(0), tuple(jnp.zeros((1, s, s, 8)) for s in sizes), (16, 16),
                train=False,
            )
        )
        assert logits.shape == (1, 16, 16)
        assert ("fuse" in variables["params"]) == (fuse == "conv")
    assert [r.shape[1] for r in maps["finest"]] == list(sizes)
    assert [r.shape[1] for r in maps["conv"]] == [*sizes, 8]


def test_average_3x3_by_hand():
    x = jnp.arange(6.0).reshape(1, 2, 3, 1)
    wanted = [[(0 + 1 + 3 + 4) / 4, 15 / 6, (1 + 2 + 4 + 5) / 4]] * 2
    np.testing.assert_allclose(average_3x3(x)[0, ..., 0], wanted)


def test_response_pool_averages_what_the_response_heads_read():
    """The smallest scale's head reads its features directly."""
    sizes = (1, 1, 1, 1, 4)
    features = tuple(jnp.zeros((1, s, s, 8)) for s in sizes[:4])
    last = jax.random.normal(jax.random.key(0), (1, 4, 4, 8))
    plain = Decoder(CONFIG)
    params = plain.init(jax.random.key(1), (*features, last), (4, 4), train=False)

    def smallest(decoder, last):
        return decoder.apply(params, (*features, last), (4, 4), train=False)[1][4]

    pooled = smallest(Decoder(dataclasses.replace(CONFIG, response_pool=True)), last)
    padded = np.pad(last, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=np.nan)
    windows = [padded[:, i : i + 4, j : j + 4] for i in range(3) for j in range(3)]
    by_hand = jnp.asarray(np.nanmean(windows, axis=0))
    np.testing.assert_allclose(pooled, smallest(plain, by_hand), rtol=1e-4, atol=1e-5)
    assert np.abs(pooled - smallest(plain, last)).max() > 1e-3


@pytest.fixture(scope="module")
def i3d_shapes():
    return shapes(build(backbone="i3d", i3d_width=0.0625), make_batch())


def test_feedback_adds_a_projection_into_each_stage_that_has_a_next(i3d_shapes):
    model = build(backbone="i3d", i3d_width=0.0625, qvim_feedback=True)
    now = shapes(model, make_batch())
    new = {n: s for n, s in now.items() if n not in i3d_shapes and "kernel" in n}
    assert new == {
        f"['feedback_{k}']['project']['kernel']": (8, i)
        for k, i in enumerate((4, 12, 30, 52), start=1)
    }


@pytest.mark.parametrize(
    "changes",
    [{}, {"backbone": "resnet50"}, {"backbone": "i3d", "i3d_width": 0.0625, "qvim_feedback": True},
     {"text": "bert", "bert": {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
                               "intermediate_size": 8, "vocab_size": 20}},
     {"dtype": "bfloat16"}],
)
def test_shapes_of_every_encoder(changes):
    if "bert" in changes:
        bert = type(CONFIG.bert)(**changes["bert"])
        changes = {**changes, "bert": bert}
    model, batch = build(**changes), make_batch(side=64)

    def forward(frames, target, tokens, valid):
        network = Network(model.config)
        return network.init_with_output(
            jax.random.key(0), frames, target, tokens, valid, train=False, method="full"
        )

    out, variables = jax.eval_shape(
        forward, batch["frames"], batch["target"], batch["tokens"], batch["tokens_valid"]
    )
    assert out.logits.shape == (4, 64, 64) and out.logits.dtype == jnp.float32
    assert [r.shape[1] for r in out.responses] == [32, 16, 8, 4, 2]
    assert [v.shape[1] for v in out.visual] == [32, 16, 8, 4, 2]
    assert {p.shape for p in out.pooled} == {(4, 8)}
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(variables))
