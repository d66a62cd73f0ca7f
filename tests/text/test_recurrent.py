from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vseg_jax.text.recurrent import Gru, Lstm, WordEmbedding

GOLDENS = Path(__file__).parents[1] / "goldens"  # written by goldens/text.py


def sentence(key=0, batch=2, length=5, features=3):
    x = jax.random.normal(jax.random.key(key), (batch, length, features))
    valid = jnp.arange(length) < jnp.asarray([[length], [3]])
    return x, valid


@pytest.fixture(scope="module", params=["gru", "lstm", "bi-lstm"])
def network(request):
    """Returns the jitted (x, valid) -> (states, last) with random weights."""
    module = {
        "gru": Gru(4),
        "lstm": Lstm(4, bidirectional=False),
        "bi-lstm": Lstm(4),
    }[request.param]
    variables = jax.jit(module.init)(jax.random.key(1), *sentence())
    return jax.jit(lambda x, valid: module.apply(variables, x, valid))


def test_padding_does_not_change_a_sentence(network):
    x, valid = sentence()
    states, last = network(x, valid)
    short_states, short_last = network(x[:, :3], valid[:, :3])
    np.testing.assert_allclose(states[1, :3], short_states[1], atol=1e-6)
    np.testing.assert_allclose(last[1], short_last[1], atol=1e-6)
    np.testing.assert_array_equal(states[1, 3:], 0)
    junk = jnp.where(valid[..., None], x, 1e6)
    np.testing.assert_allclose(network(junk, valid)[1], last, atol=1e-6)


def test_last_is_the_state_of_the_last_valid_word(network):
    states, last = network(*sentence())
    forward, backward = last[:, :4], last[:, 4:]
    np.testing.assert_array_equal(forward[0], states[0, 4, :4])
    np.testing.assert_array_equal(forward[1], states[1, 2, :4])
    np.testing.assert_array_equal(backward, states[:, 0, 4:])


def test_padding_gets_no_gradient_and_words_do(network):
    x, valid = sentence()
    gradient = jax.grad(lambda x: network(x, valid)[1].sum())(x)
    reached = np.abs(gradient).sum(-1) > 0
    np.testing.assert_array_equal(reached, valid)


def test_a_sentence_without_words_gives_zeros(network):
    x, valid = sentence()
    states, last = network(x, jnp.zeros_like(valid))
    assert not states.any() and not last.any()


def test_gru_by_hand():
    """One unit, one word: reset 1/2, update 1/2, candidate tanh(x + 1/2 * hidden bias)."""
    x, valid = jnp.ones((1, 1, 1)), jnp.ones((1, 1), bool)
    variables = {"params": {"forward": {
        "input_kernel": jnp.asarray([[0.0, 0.0, 1.0]]),
        "input_bias": jnp.zeros(3),
        "hidden_kernel": jnp.zeros((1, 3)),
        "hidden_bias": jnp.asarray([0.0, 0.0, 3.0]),
    }}}
    _, last = Gru(1).apply(variables, x, valid)
    np.testing.assert_allclose(last, [[0.5 * np.tanh(1 + 0.5 * 3)]], rtol=1e-6)


def test_a_gru_with_memory_starts_as_a_mean_over_words():
    """For large inputs h = sum of 0.2 * 0.8^(words since) * candidate, each within [-1, 1]."""
    x, valid = 9 * sentence(length=8)[0], jnp.ones((2, 8), bool)
    gru = Gru(16, memory=0.8)
    states, _ = gru.apply(gru.init(jax.random.key(1), x, valid), x, valid)
    candidates = (states[:, 1:] - 0.8 * states[:, :-1]) / 0.2
    assert np.abs(candidates).max() <= 1 + 1e-4 and np.abs(candidates).mean() > 0.5


def test_backward_direction_mirrors_forward():
    """A reversed sentence through the swapped directions gives the reversed states."""
    x, _ = sentence()
    valid = jnp.ones(x.shape[:2], bool)
    network = Lstm(4)
    params = jax.jit(network.init)(jax.random.key(1), x, valid)["params"]
    apply = jax.jit(network.apply)
    swapped = {"forward": params["backward"], "backward": params["forward"]}
    states, _ = apply({"params": params}, x, valid)
    mirrored, _ = apply({"params": swapped}, x[:, ::-1], valid)
    np.testing.assert_allclose(mirrored[:, ::-1, :4], states[..., 4:], atol=1e-6)
    np.testing.assert_allclose(mirrored[:, ::-1, 4:], states[..., :4], atol=1e-6)


def test_compute_dtype_leaves_parameters_float32():
    x, valid = sentence()
    network = Gru(4, dtype=jnp.bfloat16)
    variables = network.init(jax.random.key(1), x, valid)
    states, last = network.apply(variables, x, valid)
    assert states.dtype == last.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    exact = Gru(4).apply(variables, x, valid)[1]
    np.testing.assert_allclose(last.astype(jnp.float32), exact, atol=0.02)


def test_word_embedding_looks_up_and_learns_only_used_rows():
    embedding = WordEmbedding(vocabulary_size=6, features=3)
    tokens = jnp.asarray([[4, 1, 4]])
    variables = embedding.init(jax.random.key(0), tokens)
    table = variables["params"]["words"]["embedding"]
    np.testing.assert_array_equal(embedding.apply(variables, tokens), table[tokens])
    gradient = jax.grad(lambda v: embedding.apply(v, tokens).sum())(variables)
    rows = np.asarray(gradient["params"]["words"]["embedding"])[:, 0]
    np.testing.assert_array_equal(rows, [0, 1, 0, 0, 2, 0])


def from_torch(golden, prefix, direction=""):
    """Returns a direction's `weight/...` or `gradient/...` of PyTorch in our layout."""
    def take(name):
        return golden[f"{prefix}/{name}_l0{direction}"]

    return {
        "input_kernel": take("weight_ih").T,
        "hidden_kernel": take("weight_hh").T,
        "input_bias": take("bias_ih"),
        "hidden_bias": take("bias_hh"),
    }


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_outputs_and_gradients_equal_pytorch(name):
    golden = np.load(GOLDENS / f"{name}.npz")
    directions = {"forward": ""} if name == "gru" else {"forward": "", "backward": "_reverse"}
    params, gradients = (
        {ours: from_torch(golden, prefix, theirs) for ours, theirs in directions.items()}
        for prefix in ("weight", "gradient")
    )
    network = {"gru": Gru, "lstm": Lstm}[name](4)

    x, valid = jnp.asarray(golden["x"]), jnp.asarray(golden["valid"])

    @jax.jit
    def loss(params):
        out = network.apply({"params": params}, x, valid)
        weights = golden["loss_states"], golden["loss_last"]
        return sum((o * w).sum() for o, w in zip(out, weights, strict=True)), out

    ours, (states, last) = jax.grad(loss, has_aux=True)(params)
    np.testing.assert_allclose(states, golden["states"], atol=1e-5)
    np.testing.assert_allclose(last, golden["last"], atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), ours, gradients)


def test_words_start_as_one_hot_vectors():
    words = WordEmbedding(5, 3, one_hot=True)
    vectors, _ = words.init_with_output(jax.random.key(0), jnp.arange(5)[None])
    np.testing.assert_array_equal(
        vectors[0], [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]]
    )
