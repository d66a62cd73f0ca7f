import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vseg_jax.layers import attention as module
from vseg_jax.layers.attention import MultiHeadAttention, attention

B, Q, K, N, D = 2, 7, 5, 3, 4


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    shapes = (B, Q, N, D), (B, K, N, D), (B, K, N, D)
    query, key, value = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes)
    mask = jnp.asarray(rng.random((B, Q, K)) < 0.6).at[..., 0].set(True)
    return query, key, value, mask


def reference(query, key, value, mask):
    """Computes textbook attention in float64."""
    query, key, value = (np.asarray(x, np.float64) for x in (query, key, value))
    scores = np.einsum("bqnd,bknd->bnqk", query, key) / np.sqrt(D)
    scores = np.where(np.asarray(mask)[:, None], scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bnqk,bknd->bqnd", weights / weights.sum(-1, keepdims=True), value)


@pytest.mark.parametrize("chunk", [None, 3, 100])
def test_equals_the_textbook(inputs, chunk):
    *qkv, mask = inputs
    np.testing.assert_allclose(
        attention(*qkv, mask=mask, chunk=chunk), reference(*qkv, mask), atol=1e-5
    )


def test_large_maps_go_head_by_head_and_agree(inputs, monkeypatch):
    *qkv, mask = inputs

    def run():
        return jax.value_and_grad(lambda *qkv: (attention(*qkv, mask=mask) ** 2).sum(), (0, 1, 2))(
            *qkv
        )

    at_once = run()
    monkeypatch.setattr(module, "_SMALL", 0)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), run(), at_once
    )


def test_one_mask_row_serves_all_queries_in_chunks(inputs):
    *qkv, mask = inputs
    row = mask[:, :1]
    np.testing.assert_allclose(
        attention(*qkv, mask=row, chunk=2), reference(*qkv, row), atol=1e-5
    )


def test_masked_keys_get_no_gradient_and_chunks_the_same(inputs):
    query, key, value, _ = inputs
    mask = jnp.ones((B, 1, K), bool).at[:, :, 2].set(False)

    def total(key, value, chunk):
        return (attention(query, key, value, mask=mask, chunk=chunk) ** 2).sum()

    whole = jax.grad(total, (0, 1))(key, value, None)
    chunked = jax.grad(total, (0, 1))(key, value, 3)
    for a, b in zip(whole, chunked, strict=True):
        assert np.all(a[:, 2] == 0) and np.any(a[:, 1] != 0)
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_query_without_keys_is_finite(inputs):
    *qkv, mask = inputs
    out = attention(*qkv, mask=mask.at[0, 0].set(False))
    np.testing.assert_allclose(out[0, 0], qkv[2][0].mean(0), atol=1e-6)


def test_one_head(inputs):
    query, key, value, mask = inputs
    alone = attention(query[:, :, 1:2], key[:, :, 1:2], value[:, :, 1:2], mask=mask)
    np.testing.assert_allclose(
        alone[:, :, 0], attention(query, key, value, mask=mask)[:, :, 1], atol=1e-6
    )


def test_module_refuses_heads_that_do_not_divide():
    x = jnp.zeros((1, 2, 4))
    with pytest.raises(ValueError, match="it must divide features"):
        MultiHeadAttention(heads=3, features=4).init(jax.random.key(0), x, x)


def test_module_attends(inputs):
    x = jnp.asarray(np.random.default_rng(1).normal(size=(B, K, 6)), jnp.float32)
    module = MultiHeadAttention(heads=2, features=6)
    variables = module.init(jax.random.key(0), x, x)
    out = module.apply(variables, x[:, :2], x)
    assert out.shape == (B, 2, 6)
    # Attention does not know the order of its keys.
    np.testing.assert_allclose(out, module.apply(variables, x[:, :2], x[:, ::-1]), atol=1e-5)
