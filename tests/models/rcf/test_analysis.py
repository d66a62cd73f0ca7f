import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_rcf import WITH_AUDIO, build, make_batch, quick_jit, random_variables

from vseg_jax.models.rcf import analysis

RANDOM = np.random.default_rng(0)


def test_fired_slots_are_normalized_by_category():
    table = analysis.fired_slots(np.array([0, 0, 0, 2]), np.array([1, 1, 1, 1]), 3, 3)
    np.testing.assert_allclose(table, [[0, 0, 0], [0.75, 0, 0.25], [0, 0, 0]])


@pytest.mark.parametrize("changes", [{"references": 2}, {"fusion": "full_enc", **WITH_AUDIO}])
def test_reference_attention_is_the_encoders(changes):
    model = build(**changes)
    c = model.config
    batch = make_batch(size=1, length=1 + c.references, audio=c.audio)
    variables = random_variables(model, batch)
    maps = quick_jit(lambda v, b: analysis.reference_attention(model, v, b))(variables, batch)
    assert maps.shape == (1, 2, 2, 2)
    assert (maps > 0).all() and (maps.sum((2, 3)) < 1).all()
    # Attention of queries that are all 0 is the same everywhere: one over the number of tokens.
    attention = variables["params"]["fusion"]["encoder"]["layer0"]["attention"]
    attention["query"] = jax.tree.map(jnp.zeros_like, attention["query"])
    flat = quick_jit(lambda v, b: analysis.reference_attention(model, v, b))(variables, batch)
    tokens = 4 + 4 + 2 * c.audio
    np.testing.assert_allclose(flat, np.full(flat.shape, 1 / tokens), rtol=1e-5)


def test_models_without_reference_tokens_have_no_such_attention():
    with pytest.raises(ValueError, match="full_dec"):
        analysis.reference_attention(build(fusion="full_dec"), {}, {})


def test_constants_of_linear_maps():
    weight = RANDOM.standard_normal((5, 7)).astype(np.float32)
    assert analysis.linear_bound(weight, 1.0) == pytest.approx(np.linalg.norm(weight, 1), rel=1e-5)
    assert analysis.linear_bound(weight, 2.0) == pytest.approx(np.linalg.norm(weight, 2), rel=1e-3)
    assert analysis.linear_bound(weight, math.inf) == pytest.approx(
        np.linalg.norm(weight, np.inf), rel=1e-5)
    with pytest.raises(ValueError, match="p is 3"):
        analysis.linear_bound(weight, 3.0)


def test_constants_of_convolutions():
    kernel = RANDOM.standard_normal((3, 3, 2, 3)).astype(np.float32)
    size = (4, 5)
    convolve = jax.jit(lambda x: jax.lax.conv_general_dilated(
        x.reshape(-1, *size, 2), kernel, (1, 1), "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC")).reshape(x.shape[0], -1))
    matrix = np.asarray(convolve(jnp.eye(40))).T
    assert analysis.convolution_bound(kernel, 2.0, size) == pytest.approx(
        np.linalg.norm(matrix, 2), rel=1e-3)
    for p in (1.0, math.inf):  # the inner cells of this map use the whole kernel
        assert analysis.convolution_bound(kernel, p) == pytest.approx(
            np.linalg.norm(matrix, p), rel=1e-5)


def test_the_bound_of_attention_holds():
    tokens, width, head, radius = 5, 4, 3, 1.5
    q, k, v = (RANDOM.standard_normal((head, width)).astype(np.float32) for _ in range(3))
    bound = analysis.attention_bound(q, k, v, radius, tokens)

    def attend(x):
        x = x.reshape(tokens, width)
        scores = (x @ q.T) @ (x @ k.T).T / math.sqrt(head)
        return (jax.nn.softmax(scores) @ (x @ v.T)).ravel()

    jacobian = jax.jit(jax.jacobian(attend))
    largest = 0.0
    for _ in range(20):
        x = RANDOM.standard_normal((tokens, width)).astype(np.float32)
        x *= radius / np.linalg.norm(x, axis=1, keepdims=True)
        largest = max(largest, np.linalg.norm(jacobian(x.ravel()), 2))
    assert largest < bound


def test_the_product_of_all_layers():
    two = {"a": {"kernel": np.eye(3, dtype=np.float32) * 10, "bias": np.ones(3)},
           "b": {"kernel": np.full((1, 1, 2, 2), 5.0, np.float32), "scale": np.ones(2)}}
    assert analysis.product_bound(two, math.inf) == pytest.approx(2)   # 10 * 10
    assert analysis.product_bound(two, 2.0) == pytest.approx(2, abs=1e-3)


def test_local_constants():
    before, after = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), np.zeros((3, 2))
    after[:] = before
    after[0, 0] = 0.8
    frames = np.zeros((2, 2, 3)), np.full((2, 2, 3), 0.1)
    assert analysis.local_constant((before, after), frames, 1.0) == pytest.approx(0.2 / 1.2)
    # A swap costs 1 + 0.8 + 1 + 1, more than ten times the actual change.
    assert analysis.order_constant(before, after, frames, 1.0, [0, 1]) == pytest.approx(3.8 / 1.2)
    with pytest.raises(ValueError, match="at least two slots"):
        analysis.order_constant(before, after, frames, 1.0, [0])
    with pytest.raises(ValueError, match="the same"):
        analysis.local_constant((before, after), (frames[0], frames[0]), 1.0)


def test_latency_is_the_formulas_and_table_1s():
    assert analysis.online_latency(6.0, 23.9) == pytest.approx(0.21, abs=0.005)
    assert analysis.online_latency(6.0, 9.0) == pytest.approx(0.28, abs=0.005)
    assert analysis.online_latency(6.0, 5.3) == pytest.approx(0.36, abs=0.006)
    assert analysis.offline_latency(6.0, 89.4, 36) == pytest.approx(6.4, abs=0.05)


def test_the_t_test_takes_pairs_above_the_threshold():
    without = RANDOM.uniform(0.55, 0.9, 40)
    better = without + RANDOM.normal(0.05, 0.01, 40)
    assert analysis.audio_p_value(better, without, 0.5) < 1e-6
    same = without + RANDOM.normal(0, 0.01, 40) - 0.0
    low = np.concatenate([same, np.full(50, 0.2)]), np.concatenate([without, np.full(50, 0.4)])
    assert analysis.audio_p_value(*low, 0.5) == analysis.audio_p_value(same, without, 0.5)
    with pytest.raises(ValueError, match="0 samples"):
        analysis.audio_p_value(better, without, 0.99)
