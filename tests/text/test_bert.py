import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vseg_jax.text.bert import Bert, BertConfig

TINY = BertConfig(
    vocab_size=11,
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=16,
    max_position_embeddings=6,
    initializer_range=0.5,
)


@pytest.fixture(scope="module")
def bert():
    """Returns (jitted apply, variables, tokens, valid) of a tiny network; sentence 2 is short."""
    tokens = jnp.asarray([[2, 5, 6, 7, 3], [2, 8, 3, 0, 0]])
    valid = tokens > 0
    network = Bert(TINY)
    variables = network.init(jax.random.key(0), tokens, valid, train=False)
    return jax.jit(network.apply, static_argnames="train"), variables, tokens, valid


def test_tokens_in_the_padding_do_not_matter(bert):
    apply, variables, tokens, valid = bert
    words, pooled = apply(variables, tokens, valid, train=False)
    other_words, other_pooled = apply(variables, tokens.at[1, 3:].set(9), valid, train=False)
    np.testing.assert_array_equal(other_words, words)
    np.testing.assert_array_equal(other_pooled, pooled)
    np.testing.assert_array_equal(words[1, 3:], 0)
    # Another shape sums in another order, so this holds to rounding at the values' size.
    short_words, _ = apply(variables, tokens[1:, :3], valid[1:, :3], train=False)
    scale = np.abs(words).max()
    np.testing.assert_allclose(short_words[0], words[1, :3], atol=4 * np.finfo("f4").eps * scale)


def test_word_order_and_mask_matter(bert):
    apply, variables, tokens, valid = bert
    _, pooled = apply(variables, tokens, valid, train=False)
    _, swapped = apply(variables, tokens[:, jnp.asarray([0, 2, 1, 3, 4])], valid, train=False)
    assert np.abs(swapped - pooled).min(axis=1).max() > 1e-3
    _, unmasked = apply(variables, tokens, jnp.ones_like(valid), train=False)
    assert np.abs(unmasked[1] - pooled[1]).max() > 1e-3
    np.testing.assert_allclose(unmasked[0], pooled[0], atol=1e-6)


def test_a_sentence_without_words_is_finite(bert):
    apply, variables, tokens, valid = bert
    words, pooled = apply(variables, tokens, jnp.zeros_like(valid), train=False)
    assert np.isfinite(pooled).all() and not words.any()


def test_dropout_draws_only_in_training(bert):
    apply, variables, tokens, valid = bert
    first, second = (
        apply(variables, tokens, valid, train=True, rngs={"dropout": jax.random.key(i)})[1]
        for i in range(2)
    )
    assert np.abs(first - second).max() > 1e-3
    with pytest.raises(Exception, match="dropout"):
        apply(variables, tokens, valid, train=True)


def test_gradient_reaches_every_used_parameter(bert):
    apply, variables, tokens, valid = bert

    def loss(variables):
        words, pooled = apply(variables, tokens, valid, train=False)
        return jnp.sum(jnp.sin(words)) + jnp.sum(pooled)

    gradient = jax.grad(loss)(variables)["params"]
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        name = jax.tree_util.keystr(path)
        assert np.isfinite(leaf).all(), name
        if "'key']['bias'" in name:  # shifts all of a query's scores alike
            np.testing.assert_allclose(leaf, 0, atol=1e-4)
        else:
            assert np.abs(leaf).max() > 1e-4, name
    word_rows = np.abs(gradient["embeddings"]["word"]["embedding"]).sum(-1) > 0
    np.testing.assert_array_equal(np.flatnonzero(word_rows), [2, 3, 5, 6, 7, 8])


def test_without_pooler_pooled_is_the_first_word(bert):
    _, variables, tokens, valid = bert
    network = Bert(dataclasses.replace(TINY, pooler=False))
    params = {k: v for k, v in variables["params"].items() if k != "pooler"}
    words, pooled = jax.jit(network.apply, static_argnames="train")(
        {"params": params}, tokens, valid, train=False
    )
    np.testing.assert_array_equal(pooled, words[:, 0])


def test_compute_dtype_leaves_parameters_float32(bert):
    apply, variables, tokens, valid = bert
    words, pooled = Bert(TINY, dtype=jnp.bfloat16).apply(variables, tokens, valid, train=False)
    assert words.dtype == pooled.dtype == jnp.bfloat16
    exact, _ = apply(variables, tokens, valid, train=False)
    np.testing.assert_allclose(words.astype(jnp.float32), exact, atol=0.1)


def test_default_is_bert_base():
    """Parameter count of bert-base-uncased: 109,482,240."""
    tokens = jax.ShapeDtypeStruct((1, 4), jnp.int32)
    valid = jax.ShapeDtypeStruct((1, 4), bool)
    shapes = jax.eval_shape(
        lambda t, v: Bert(BertConfig()).init(jax.random.key(0), t, v, train=False), tokens, valid
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 109_482_240


def test_too_many_tokens():
    tokens = jnp.ones((1, 7), jnp.int32)
    with pytest.raises(ValueError, match="7 tokens, but this BERT has 6 positions"):
        Bert(TINY).init(jax.random.key(0), tokens, tokens > 0, train=False)


def write(folder, **given):
    (folder / "config.json").write_text(json.dumps(given))
    return folder


def test_config_from_folder(tmp_path):
    sizes = {f.name: getattr(TINY, f.name) for f in dataclasses.fields(TINY) if f.name != "pooler"}
    write(tmp_path, **sizes, model_type="bert", transformers_version="5", pad_token_id=0)
    assert BertConfig.from_folder(tmp_path) == TINY
    assert not BertConfig.from_folder(tmp_path, pooler=False).pooler


@pytest.mark.parametrize("given, message", [
    ({"model_type": "roberta"}, "model_type is 'roberta'; only 'bert'"),
    ({"hidden_act": "gelu_new"}, "hidden_act is 'gelu_new'"),
    ({"hidden_size": "768"}, "must be int, got '768'"),
    ({"hidden_size": 10, "num_attention_heads": 3}, "must divide hidden_size"),
])
def test_config_of_another_network(tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        BertConfig.from_folder(write(tmp_path, **given))


def test_config_missing_or_broken(tmp_path):
    with pytest.raises(ValueError, match=r"no .*config\.json; give the folder"):
        BertConfig.from_folder(tmp_path)
    (tmp_path / "config.json").write_text('{\n"hidden_size": ')
    with pytest.raises(ValueError, match=r"config\.json:2: not JSON"):
        BertConfig.from_folder(tmp_path)
