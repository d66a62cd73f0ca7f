import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vseg_jax.backbones.swin import (
    SIZES,
    Swin,
    WindowAttention,
    neighbors,
    relative_positions,
    split,
    unite,
)

SMALL = Swin(width=4, blocks=(2, 1), heads=(1, 2), window=3)
IMAGE = jax.random.normal(jax.random.key(0), (1, 27, 38, 3))  # first map 7x10, padded to 9x12


@pytest.fixture(scope="module")
def variables():
    return jax.jit(lambda: SMALL.init(jax.random.key(1), IMAGE, train=False))()


@pytest.fixture(scope="module")
def run():
    return jax.jit(lambda variables, x: SMALL.apply(variables, x, train=False))


# Counts of timm's models without head and last norm, plus the norms of the four maps.
@pytest.mark.parametrize(
    "size,window,parameters",
    [
        ("tiny", 7, 27_519_354), ("small", 7, 48_837_258), ("base", 12, 86_878_584),
        ("large", 12, 195_198_516),
    ],
)
def test_published_sizes(size, window, parameters):
    network = Swin(**SIZES[size], window=window)
    image = jax.ShapeDtypeStruct((2, 64, 90, 3), jnp.float32)
    outputs, variables = jax.eval_shape(
        lambda x: network.init_with_output(jax.random.key(0), x, train=False), image
    )
    widths = [network.width * 2**i for i in range(4)]
    assert [o.shape for o in outputs] == [
        (2, -(-64 // s), -(-90 // s), c) for s, c in zip((4, 8, 16, 32), widths, strict=True)
    ]
    count = sum(x.size for x in jax.tree.leaves(variables["params"]))
    assert count == parameters + 2 * sum(widths[:3])


def test_split_is_undone_by_unite():
    x = jnp.arange(2 * 6 * 9 * 2.0).reshape(2, 6, 9, 2)
    windows = split(x, 3)
    np.testing.assert_array_equal(windows[1, 4], x[1, 3:, 3:6].reshape(9, 2))
    np.testing.assert_array_equal(unite(windows, 6, 9), x)


def test_neighbors_are_those_before_the_roll():
    """Two tokens of a window are neighbors if they are closer on the map than a window."""
    size, window, shift = 6, 3, 1
    places = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), -1)
    rolled = np.roll(places, (-shift, -shift), (0, 1))
    rolled = np.asarray(split(jnp.asarray(rolled[None], jnp.float32), window))[0]
    near = (np.abs(rolled[:, :, None] - rolled[:, None]) < window).all(-1)
    np.testing.assert_array_equal(neighbors(size, size, window, shift), near)
    assert near[0].all() and not near[-1].all()


def test_relative_positions_by_hand():
    np.testing.assert_array_equal(
        relative_positions(2), [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]
    )


def test_no_attention_across_the_border():
    """The last window of a rolled map holds four corners, which do not affect each other."""
    layer = WindowAttention(heads=2, window=3)
    x = jax.random.normal(jax.random.key(2), (1, 4, 9, 4))
    mask = neighbors(6, 6, 3, 1)
    variables = layer.init(jax.random.key(3), x, mask)
    variables = jax.tree.map(lambda p: 20 * p, variables)
    run = jax.jit(lambda x: layer.apply(variables, x, mask)[0])
    for key in (0, 2, 8):
        changed = np.abs(run(x.at[0, 3, key].add(1.0)) - run(x)).max(-1) > 0
        np.testing.assert_array_equal(changed[3], mask[3, :, key])
        assert not changed[:3].any()


def test_shifted_windows_connect_neighboring_windows(variables, run):
    """A change of a pixel in a corner reaches beyond its window, but not the whole map."""
    other = IMAGE.at[0, 0, 0, 0].add(1.0)
    changed = np.abs(run(variables, other)[0] - run(variables, IMAGE)[0]).max((0, 3)) > 0
    assert changed[:3, :3].any()
    assert not changed[5:].any() and not changed[:, 5:].any()
    # Block 0: window (0..2); block 1, shifted by 1: windows (0), (1..3), ...
    assert changed[3, 3] and not changed[4:].any() and not changed[:, 4:].any()


def test_any_size_equals_padding_with_zeros(variables, run):
    padded = jnp.pad(IMAGE, ((0, 0), (0, 1), (0, 2), (0, 0)))
    for a, b in zip(run(variables, IMAGE), run(variables, padded), strict=True):
        np.testing.assert_array_equal(a, b)


def test_samples_are_independent(variables, run):
    both = jnp.concatenate([IMAGE, 2 - IMAGE])
    np.testing.assert_allclose(run(variables, both)[1][:1], run(variables, IMAGE)[1], atol=1e-5)


def test_every_parameter_learns(variables):
    def loss(params):
        return sum((y**3).sum() for y in SMALL.apply({"params": params}, IMAGE, train=False))

    gradient = jax.jit(jax.grad(loss))(variables["params"])
    for path, g in jax.tree.leaves_with_path(gradient):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        assert np.isfinite(g).all() and np.any(g), name


def test_drop_path_drops_whole_samples(variables):
    network = SMALL.clone(drop_path=0.999, blocks=(1, 1))
    images = jnp.concatenate([IMAGE] * 3)
    kept = {k: v for k, v in variables["params"].items() if k != "stage1_1"}
    dropped = network.apply(
        {"params": kept}, images, train=True, rngs={"dropout": jax.random.key(0)}
    )
    whole = network.apply({"params": kept}, images, train=False)
    # The first block never drops; without the last one's branches its norm gets the merging.
    np.testing.assert_allclose(dropped[0], whole[0], atol=1e-6)
    without = jax.tree.map(jnp.zeros_like, kept["stage2_0"])
    skipped = network.apply({"params": kept | {"stage2_0": without}}, images, train=False)
    np.testing.assert_allclose(dropped[1], skipped[1], atol=1e-5)
    assert np.abs(whole[1] - skipped[1]).max() > 1e-3


@pytest.mark.parametrize(
    "settings,message",
    [
        ({"heads": (1,)}, "blocks has 2 stages and heads 1"),
        ({"heads": (1, 3)}, "3 heads do not divide"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        SMALL.clone(**settings).init(jax.random.key(0), IMAGE, train=False)
