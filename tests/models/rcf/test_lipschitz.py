import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vseg_jax.models.rcf import lipschitz

RANDOM = np.random.default_rng(0)


def test_constants_of_linear_maps():
    weight = RANDOM.standard_normal((5, 7)).astype(np.float32)
    assert lipschitz.linear_bound(weight, 1.0) == pytest.approx(np.linalg.norm(weight, 1), rel=1e-5)
    assert lipschitz.linear_bound(weight, 2.0) == pytest.approx(np.linalg.norm(weight, 2), rel=1e-3)
    assert lipschitz.linear_bound(weight, math.inf) == pytest.approx(
        np.linalg.norm(weight, np.inf), rel=1e-5)
    with pytest.raises(ValueError, match="p is 3"):
        lipschitz.linear_bound(weight, 3.0)


def test_constants_of_convolutions():
    kernel = RANDOM.standard_normal((3, 3, 2, 3)).astype(np.float32)
    size = (4, 5)
    convolve = jax.jit(lambda x: jax.lax.conv_general_dilated(
        x.reshape(-1, *size, 2), kernel, (1, 1), "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC")).reshape(x.shape[0], -1))
    matrix = np.asarray(convolve(jnp.eye(40))).T
    assert lipschitz.convolution_bound(kernel, 2.0, size) == pytest.approx(
        np.linalg.norm(matrix, 2), rel=1e-3)
    for p in (1.0, math.inf):  # the inner cells of this map use the whole kernel
        assert lipschitz.convolution_bound(kernel, p) == pytest.approx(
            np.linalg.norm(matrix, p), rel=1e-5)


def test_the_bound_of_attention_holds():
    tokens, width, head, radius = 5, 4, 3, 1.5
    q, k, v = (RANDOM.standard_normal((head, width)).astype(np.float32) for _ in range(3))
    bound = lipschitz.attention_bound(q, k, v, radius, tokens)

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


def test_the_bound_of_attention_by_hand():
    """|V| = 2, |A| = 1, sqrt(L) = 2 and R = 3: 2 (2 + 2 * 9 / sqrt(4) * (1 + 2))."""
    one = np.eye(4)
    assert lipschitz.attention_bound(one, one, 2 * one, 3.0, 4) == pytest.approx(2 * (2 + 27))


def test_the_product_of_all_layers():
    two = {"a": {"kernel": np.eye(3, dtype=np.float32) * 10, "bias": np.ones(3)},
           "b": {"kernel": np.full((1, 1, 2, 2), 5.0, np.float32), "scale": np.ones(2)}}
    assert lipschitz.product_bound(two, math.inf) == pytest.approx(2)   # 10 * 10
    assert lipschitz.product_bound(two, 2.0) == pytest.approx(2, abs=1e-3)


def test_local_constants():
    before, after = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), np.zeros((3, 2))
    after[:] = before
    after[0, 0] = 0.8
    frames = np.zeros((2, 2, 3)), np.full((2, 2, 3), 0.1)
    assert lipschitz.local_constant((before, after), frames, 1.0) == pytest.approx(0.2 / 1.2)
    # A swap costs 1 + 0.8 + 1 + 1, more than ten times the actual change.
    assert lipschitz.order_constant(before, after, frames, 1.0, [0, 1]) == pytest.approx(3.8 / 1.2)
    with pytest.raises(ValueError, match="at least two slots"):
        lipschitz.order_constant(before, after, frames, 1.0, [0])
    with pytest.raises(ValueError, match="the same"):
        lipschitz.local_constant((before, after), (frames[0], frames[0]), 1.0)
