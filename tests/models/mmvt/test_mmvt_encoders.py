"""Small modules against their descriptions, written in NumPy over their parameters."""

import jax
import jax.numpy as jnp
import numpy as np
from tiny_mmvt import SMALL
from tiny_models import random_params

from vseg_jax.models.mmvt import MmvtConfig
from vseg_jax.models.mmvt.encoders import Merge, TextEncoder, Words
from vseg_jax.models.mmvt.fusion import CoarseMask, WordAttention
from vseg_jax.text.recurrent import Gru

RANDOM = np.random.default_rng(0)
WORDS = jnp.asarray(RANDOM.normal(size=(2, 3, 8)), jnp.float32)
VALID = jnp.asarray([[True, True, False], [True] * 3])
MAP = jnp.asarray(RANDOM.normal(size=(2, 2, 2, 8)), jnp.float32)


def linear(params, x):
    return x @ params["kernel"] + params["bias"]


def test_the_sentence_stands_before_the_words():
    encoder, tokens = TextEncoder(MmvtConfig(**SMALL)), jnp.asarray([[3, 7, 0], [5, 19, 1]])
    params = random_params(encoder, tokens, tokens > 0, train=False)
    words, valid = encoder.apply({"params": params}, tokens, tokens > 0, train=False)
    wanted = params["embedding"]["words"]["embedding"][tokens]
    states, sentence = Gru(6).apply({"params": params["gru"]}, wanted, tokens > 0)
    np.testing.assert_allclose(words[:, 0], sentence, rtol=1e-5)
    mean = TextEncoder(MmvtConfig(**SMALL, sentence="mean"))
    averaged, _ = mean.apply({"params": params}, tokens, tokens > 0, train=False)
    wanted_mean = [states[0, :2].mean(0), states[1].mean(0)]   # the first has a word of padding
    np.testing.assert_allclose(averaged[:, 0], wanted_mean, rtol=1e-5)
    np.testing.assert_array_equal(averaged[:, 1:], words[:, 1:])
    np.testing.assert_array_equal(words[:, 1:], wanted)
    np.testing.assert_array_equal(valid, [[True, True, True, False], [True] * 4])


def test_the_query_starts_as_a_mean_over_the_words():
    encoder, tokens = TextEncoder(MmvtConfig(**SMALL)), jnp.ones((1, 2), jnp.int32)
    params = encoder.init(jax.random.key(0), tokens, tokens > 0, train=False)["params"]
    update_gate = params["gru"]["forward"]["input_bias"][6:12]
    np.testing.assert_allclose(jax.nn.sigmoid(update_gate), 0.8, rtol=1e-5)


def test_the_sentence_may_have_a_norm_of_its_own():
    module = Words(8, True, jnp.float32)
    params = random_params(module, WORDS, train=False)
    statistics = {"norm": {"mean": jnp.full(8, 0.5), "var": jnp.full(8, 4.0)}}
    out = module.apply({"params": params, "batch_stats": statistics}, WORDS, train=False)
    x = np.asarray(linear(params["project"], WORDS))
    first = (x[:, 0] - x[:, 0].mean(-1, keepdims=True)) / x[:, 0].std(-1, keepdims=True)
    for got, normal, name in ((out[:, 0], first, "sentence_norm"),
                              (out[:, 1:], (x[:, 1:] - 0.5) / 2, "norm")):
        wanted = normal * params[name]["scale"] + params[name]["bias"]
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4)


def test_merge_by_hand():
    flow, sentence = MAP[:, ::-1], jnp.asarray(RANDOM.normal(size=(2, 8)), jnp.float32)
    for parts in ([MAP], [MAP, flow]):
        merge = Merge(8, jnp.float32)
        inputs = MAP, (flow if len(parts) == 2 else None), sentence
        params = random_params(merge, *inputs)
        everywhere = np.broadcast_to(sentence[:, None, None], MAP.shape)
        wanted = linear(params["join"], np.concatenate([*parts, everywhere], -1))
        out = merge.apply({"params": params}, *inputs)
        np.testing.assert_allclose(out, np.maximum(wanted, 0), rtol=1e-4, atol=1e-5)


def attended(params):
    query = linear(params["query"], MAP.reshape(2, 4, 8))
    key, value = (linear(params[name], WORDS) for name in ("key", "value"))
    scores = np.where(VALID[:, None], query @ key.swapaxes(1, 2) / np.sqrt(8), -np.inf)
    return (np.asarray(jax.nn.softmax(scores)) @ value).reshape(MAP.shape)


def test_attention_to_words_by_hand():
    module = WordAttention()
    params = random_params(module, MAP, WORDS, VALID)
    out = module.apply({"params": params}, MAP, WORDS, VALID)
    np.testing.assert_allclose(out, attended(params), rtol=1e-4, atol=1e-5)


def test_coarse_mask_by_hand():
    module = CoarseMask()
    params = random_params(module, MAP, WORDS, VALID)
    wanted = linear(params["predict"], MAP * attended(params["words"]))[..., 0]
    out = module.apply({"params": params}, MAP, WORDS, VALID)
    np.testing.assert_allclose(out, wanted, rtol=1e-4, atol=1e-5)
