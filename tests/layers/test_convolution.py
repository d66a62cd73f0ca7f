import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vseg_jax.layers import convolution

CASES = [  # (T, H, W), kernel, strides
    ((8, 6, 6), (3, 3, 3), (1, 1, 1)),
    ((5, 7, 6), (7, 7, 7), (2, 2, 2)),
    ((1, 4, 5), (3, 1, 3), (1, 1, 2)),
    ((2, 4, 4), (7, 3, 3), (2, 1, 1)),  # taps that cover only padding
]


@pytest.mark.parametrize("size,kernel,strides", CASES)
def test_the_forms_agree_forward_and_backward(size, kernel, strides):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, *size, 3)), jnp.float32)
    w = jnp.asarray(rng.normal(size=(*kernel, 3, 4)), jnp.float32)

    def run(conv):
        out = conv(x, w, strides)
        grads = jax.grad(lambda x, w: (conv(x, w, strides) ** 2).sum(), (0, 1))(x, w)
        return out, *grads

    for a, b in zip(run(convolution.conv3d), run(convolution.conv3d_by_taps), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * float(jnp.abs(a).max()))


@pytest.mark.parametrize("size,stride", [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_depthwise_forms_agree_forward_and_backward(size, stride):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 7, 10, 3)), jnp.float32)
    w = jnp.asarray(rng.normal(size=(size, size, 1, 3)), jnp.float32)

    def run(conv):
        out = conv(x, w, stride)
        grads = jax.grad(lambda x, w: (conv(x, w, stride) ** 2).sum(), (0, 1))(x, w)
        return out, *grads

    for a, b in zip(run(convolution.depthwise), run(convolution.depthwise_by_taps), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * float(jnp.abs(a).max()))


def test_neighborhoods_times_a_kernel_are_a_convolution():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 5, 7, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 3, 4)), jnp.float32)
    wanted = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    ours = convolution.neighborhoods(x, 3) @ kernel.reshape(-1, 4)
    np.testing.assert_allclose(ours, wanted, atol=1e-5)


def test_same_padding_puts_the_odd_zero_last():
    # Two taps: the output at the last place sees one value and the padding.
    x = jnp.asarray([1.0, 2, 3]).reshape(1, 3, 1, 1, 1)
    out = convolution.conv3d_by_taps(x, jnp.ones((2, 1, 1, 1, 1)), (1, 1, 1))
    np.testing.assert_allclose(out.ravel(), [3, 5, 3])


def test_conv1x1_with_strides_reads_every_second_pixel():
    x = jnp.arange(2 * 4 * 5, dtype=jnp.float32).reshape(1, 4, 5, 2)
    layer = convolution.Conv1x1(1, strides=(2, 2), use_bias=False)
    variables = {"params": {"kernel": jnp.asarray([[1.0], [10.0]])}}
    out = layer.apply(variables, x)
    np.testing.assert_allclose(out[0, ..., 0], x[0, ::2, ::2] @ jnp.asarray([1.0, 10.0]))


@pytest.mark.parametrize(
    "window,strides", [((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (1, 1, 1)), ((2, 2, 2), (2, 2, 2))]
)
def test_max_pool_equals_reduce_window(window, strides):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 7, 6, 3)), jnp.float32)

    def reference(x):
        return jax.lax.reduce_window(
            x, -jnp.inf, jax.lax.max, (1, *window, 1), (1, *strides, 1), "SAME"
        )

    def pool(x):
        return convolution.max_pool(x, window, strides)

    np.testing.assert_array_equal(pool(x), reference(x))
    weights = jnp.asarray(np.random.default_rng(1).normal(size=pool(x).shape), jnp.float32)
    np.testing.assert_allclose(
        jax.grad(lambda x: (pool(x) * weights).sum())(x),
        jax.grad(lambda x: (reference(x) * weights).sum())(x),
        atol=1e-5,
    )


def test_max_pool_ties_and_nan():
    gradient = jax.grad(lambda x: convolution.max_pool(x, (3, 3), (3, 3)).sum())(
        jnp.ones((1, 3, 3, 1))
    )
    expected = np.zeros((3, 3))
    expected[0, 0] = 1  # the first in reading order, as in PyTorch
    np.testing.assert_array_equal(gradient[0, ..., 0], expected)
    x = jnp.ones((1, 4, 1)).at[0, 1].set(jnp.nan)
    out = convolution.max_pool(x, (2,), (2,)).ravel()
    assert np.isnan(out[0]) and out[1] == 1


def test_portable_convolutions_are_depthwise_and_2d_ones(monkeypatch):
    def convolutions(module, shape):
        def run(x):
            return module.init_with_output(jax.random.key(0), x)[0]

        program = jax.make_jaxpr(run)(jnp.zeros(shape))
        return [e.invars[0].aval.ndim for e in program.eqns
                if e.primitive.name == "conv_general_dilated"]

    depthwise = convolution.DepthwiseConv(3), (1, 6, 6, 4)
    in_time = convolution.Conv3d(2, (3, 3, 3)), (1, 4, 6, 6, 4)
    assert (convolutions(*depthwise), convolutions(*in_time)) == ([], [4])
    with convolution.portable_convolutions():
        assert (convolutions(*depthwise), convolutions(*in_time)) == ([4], [4])
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert (convolutions(*depthwise), convolutions(*in_time)) == ([4], [5])
    with convolution.portable_convolutions():
        assert (convolutions(*depthwise), convolutions(*in_time)) == ([4], [4])
