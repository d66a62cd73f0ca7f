import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vseg_jax.backbones import raft_flow
from vseg_jax.backbones.raft import Raft
from vseg_jax.backbones.raft_flow import convex_upsampling, correlation_pyramid, positions

RNG = np.random.default_rng(0)
lookup = jax.jit(raft_flow.lookup, static_argnums=2)


def bilinear_at(image: np.ndarray, x: float, y: float) -> float:
    """Interpolates by definition: positions weigh by their distance, and are 0 outside."""
    rows = np.maximum(0, 1 - np.abs(y - np.arange(image.shape[0])))
    columns = np.maximum(0, 1 - np.abs(x - np.arange(image.shape[1])))
    return rows @ image @ columns


def test_lookup_by_hand():
    image = jnp.arange(12.0).reshape(1, 1, 1, 3, 4)  # value = 4 y + x
    [found] = lookup((image,), jnp.array([[[[1.5, 1.0]]]]), 1).reshape(1, 3, 3)
    # x offset first: 0.5, 1.5, 2.5 at y = 0, 1, 2.
    np.testing.assert_allclose(found, [[0.5, 4.5, 8.5], [1.5, 5.5, 9.5], [2.5, 6.5, 10.5]])


@pytest.mark.parametrize("x, y", [(2.25, 1.75), (-0.5, 5.5), (40.0, 2.0), (-1e9, 1e9), (3.0, 4.0)])
def test_lookup_is_zero_outside(x, y):
    levels = [RNG.normal(size=(1, 1, 1, 5, 7)), RNG.normal(size=(1, 1, 1, 2, 3))]
    center = jnp.array([[[[x, y]]]], jnp.float32)
    found = lookup(tuple(jnp.asarray(v, jnp.float32) for v in levels), center, 2)
    expected = [
        bilinear_at(v[0, 0, 0], x / 2**level + i, y / 2**level + j)
        for level, v in enumerate(levels) for i in range(-2, 3) for j in range(-2, 3)
    ]
    np.testing.assert_allclose(found[0, 0, 0], expected, atol=1e-5)


def test_each_position_reads_its_own_volume():
    volume = jnp.asarray(RNG.normal(size=(2, 3, 4, 3, 4)), jnp.float32)
    centers = positions(jnp.zeros((2, 3, 4, 2)))
    found = lookup((volume,), centers, 0)[..., 0]
    expected = np.einsum("bijij->bij", volume)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_pyramid_is_the_volume_halved():
    one, two = (jnp.asarray(RNG.normal(size=(1, 2, 3, 4)), jnp.float32) for _ in range(2))
    two = jnp.tile(two, (1, 3, 1, 1))[:, :5]  # 5x3: odd sizes lose the last place
    full, half, *rest = correlation_pyramid(one, two)
    np.testing.assert_allclose(full[0, 1, 2, 4, 0], (one[0, 1, 2] @ two[0, 4, 0]) / 2, rtol=1e-5)
    expected = np.asarray(full)[..., :4, :2].reshape(1, 2, 3, 2, 2, 1, 2).mean((-3, -1))
    np.testing.assert_allclose(half, expected, atol=1e-5)
    assert [v.shape[-2:] for v in rest] == [(1, 0), (0, 0)]
    np.testing.assert_array_equal(lookup(tuple(rest), positions(jnp.zeros((1, 2, 3, 2))), 1), 0)


def test_convex_upsampling_takes_the_chosen_neighbor():
    flow = jnp.asarray(RNG.normal(size=(1, 3, 4, 2)), jnp.float32)
    mask = np.full((1, 3, 4, 9, 8, 8), -100.0, np.float32)
    mask[..., 4, :, :] = 0            # itself ...
    mask[..., :, 2, 5] = -100.0
    mask[..., 5, 2, 5] = 0            # ... but row 2, column 5 takes the neighbor to the right
    fine = convex_upsampling(flow, jnp.asarray(mask.reshape(1, 3, 4, -1)))
    blocks = np.asarray(fine).reshape(3, 8, 4, 8, 2)
    np.testing.assert_allclose(blocks[:, 0, :, 0], 8 * flow[0], rtol=1e-5)
    np.testing.assert_allclose(blocks[:, 2, :-1, 5], 8 * flow[0, :, 1:], rtol=1e-5)
    np.testing.assert_array_equal(blocks[:, 2, -1, 5], 0)  # no motion outside
    even = convex_upsampling(flow, jnp.zeros((1, 3, 4, 576)))
    np.testing.assert_allclose(even[0, 8, 8], 8 * flow[0, :3, :3].mean((0, 1)), rtol=1e-4)


# --- the network ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    """Returns (variables, a function to the flow of both iterations, frames [2, B, H, W, 3])."""
    network = Raft("small")
    frames = RNG.integers(0, 256, (2, 2, 40, 48, 3), np.uint8)
    shapes = jax.eval_shape(lambda f: network.init(jax.random.key(0), f, f, 1), frames[0])
    variables = jax.tree.map(  # He's scale, as in `init`, which would take longer to compile
        lambda x: RNG.normal(0, np.sqrt(2 / max(np.prod(x.shape[:-1]), 1)), x.shape) * (x.ndim > 1),
        shapes,
    )
    variables = jax.tree.map(np.float32, variables)
    run = jax.jit(lambda v, a, b: network.apply(v, a, b, 2, every=True))
    return variables, run, frames


def test_padding_replicates_half_on_either_side(small):
    """Also, uint8 frames equal float ones, and the last iteration is the same with `every`."""
    variables, run, frames = small
    inner = frames[:, :, 2:-3, 1:-2]  # 35x45: 5 rows and 3 columns are missing
    by_hand = np.pad(inner, [(0, 0), (0, 0), (2, 3), (1, 2), (0, 0)], "edge").astype(np.float32)
    every = run(variables, *by_hand)[:, :, 2:-3, 1:-2]
    flow = jax.jit(lambda v, a, b: Raft("small").apply(v, a, b, 2))(variables, *inner)
    assert flow.shape == (2, 35, 45, 2) and flow.dtype == jnp.float32
    np.testing.assert_allclose(flow, every[-1], atol=1e-4 * np.abs(every).max())
    assert np.abs(every[0] - every[1]).max() > 1e-2


def test_pairs_are_independent(small):
    variables, run, frames = small
    first, second = frames.astype(np.float32)
    both, swapped = run(variables, first, second), run(variables, first[::-1], second[::-1])
    np.testing.assert_allclose(both, swapped[:, ::-1], atol=1e-4 * np.abs(both).max())
    assert np.abs(both[:, 0] - both[:, 1]).max() > 1e-2


@pytest.mark.parametrize("variant", ["small", "large"])
def test_half_precision_keeps_the_flow_in_full(variant):
    network, frame = Raft(variant, jnp.bfloat16), jnp.zeros((1, 32, 32, 3), jnp.uint8)
    flow, variables = jax.eval_shape(
        lambda f: network.init_with_output(jax.random.key(0), f, f, 2, every=True), frame
    )
    assert flow.shape == (2, 1, 32, 32, 2) and flow.dtype == jnp.float32
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("variant, iterations, said", [
    ("tiny", 2, "'small' or 'large'"), ("small", 0, "at least 1"),
])
def test_bad_settings_are_refused(variant, iterations, said):
    frame = jnp.zeros((1, 32, 32, 3), jnp.uint8)
    with pytest.raises(Exception, match=said):
        jax.eval_shape(
            lambda f: Raft(variant).init(jax.random.key(0), f, f, iterations), frame
        )
