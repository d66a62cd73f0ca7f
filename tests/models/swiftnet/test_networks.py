"""The networks of mask propagation; tests/parity compares them with the public code."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vseg_jax.backbones import efficientnet
from vseg_jax.layers.normalization import imagenet_colors
from vseg_jax.models.swiftnet.blocks import Aspp
from vseg_jax.models.swiftnet.encoders import LiteEncoder, unshuffle
from vseg_jax.models.swiftnet.network import StmNetwork, SwiftNetwork

BOTH = [StmNetwork, SwiftNetwork]
SMALL = {"depth": 18, "width": 4}
BATCH, OBJECTS, HEIGHT, WIDTH = 2, 3, 32, 48
RNG = np.random.default_rng(0)


def abstract(network, size=(64, 96), objects=2):
    shapes = (2, *size, 3), (2, objects, *size), (2, objects, *size)
    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.eval_shape(lambda *x: network.init_with_output(jax.random.key(0), *x), *inputs)


def count(tree):
    return sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def filled(shapes):
    """Returns random variables without compiling `init`; biases are not zero."""

    def fill(path, leaf):
        name, scale = path[-1].key, np.sqrt(1 / max(np.prod(leaf.shape[:-1]), 1))
        if name in ("scale", "var"):
            return jnp.asarray(RNG.uniform(0.5, 1.5, leaf.shape), leaf.dtype)
        return jnp.asarray((0.1 if name in ("bias", "mean") else scale)
                           * RNG.normal(size=leaf.shape), leaf.dtype)
    return jax.tree_util.tree_map_with_path(fill, shapes)


@pytest.fixture(scope="module", params=BOTH)
def built(request):
    """(network, random variables, frames, masks, others)."""
    network = request.param(**SMALL)
    frames = RNG.normal(size=(BATCH, HEIGHT, WIDTH, 3))
    masks = np.moveaxis(RNG.dirichlet(np.ones(OBJECTS + 1), (BATCH, HEIGHT, WIDTH)), -1, 1)[:, 1:]
    others = masks.sum(1, keepdims=True) - masks
    arrays = [jnp.asarray(x, jnp.float32) for x in (frames, masks, others)]
    return network, filled(abstract(network)[1]), *arrays


@pytest.fixture(scope="module")
def run(built):
    """(frames, masks, others) -> fused maps and probabilities; compiled once."""
    network, variables, *_ = built

    @jax.jit
    def run(frames, masks, others):
        _, captured = network.apply(
            variables, frames, masks, others, mutable="intermediates",
            capture_intermediates=lambda module, _: not module.path,
        )
        kept = captured["intermediates"]
        return kept["fuse"][0], kept["__call__"][0]

    return run


# Parameter counts of the public modules: the sum of numel() over their parameters.
@pytest.mark.parametrize(
    "network,parameters", [(StmNetwork(), 38_925_570), (SwiftNetwork(18), 7_829_442)]
)
def test_published_sizes(network, parameters):
    output, variables = abstract(network)
    assert output.shape == (2, 2, 64, 96)
    assert count(variables["params"]) == parameters


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("depth,mdim", [(18, None), (50, 24)])
def test_key_convolutions_and_widths_of_every_depth(kind, depth, mdim):
    _, variables = abstract(kind(depth, mdim=mdim))
    params = variables["params"]
    c4 = 256 if depth == 18 else 1024
    for name in ("memory_kv", "query_kv"):
        assert params[name]["key"]["kernel"].shape == (3, 3, c4, c4 // 8)
        assert params[name]["key"]["bias"].shape == (c4 // 8,)
        assert params[name]["value"]["kernel"].shape == (3, 3, c4, c4 // 2)
    assert params["decoder"]["predict"]["kernel"].shape == (3, 3, mdim or c4 // 4, 2)
    assert params["decoder"]["refine2"]["skip"]["kernel"].shape[2] == c4 // 4


def test_shapes_of_every_part(built):
    network, variables, frames, masks, others = built

    def run(frames, masks, others):
        def call(method, *arguments):
            return network.apply(variables, *arguments, method=method)
        features = call("encode", frames)
        query = call("query", features)
        x = call("fuse", features, frames, masks, others)
        memory = call("memorize", x)
        return features, query, x, memory, call("decode", memory[1], query[1], features)

    features, query, x, memory, probability = jax.tree.map(
        jnp.shape, jax.eval_shape(run, frames, masks, others), is_leaf=lambda x: hasattr(x, "shape")
    )
    assert features.r4 == (2, 2, 3, 16) and features.r3 == (2, 4, 6, 8)
    assert features.r2 == (2, 8, 12, 4) and features.c1 == (2, 16, 24, 4)
    assert query == ((2, 2, 3, 2), (2, 2, 3, 8))
    assert x == (2, 3, 2, 3, 16)
    assert memory == ((2, 3, 2, 3, 2), (2, 3, 2, 3, 8))
    assert probability == (2, 3, 32, 48)


def test_objects_may_be_permuted_and_frames_are_independent(built, run):
    _, _, frames, masks, others = built
    _, plain = run(frames, masks, others)
    assert plain.min() >= 0 and plain.max() <= 1
    order = np.asarray([2, 0, 1])
    _, permuted = run(frames, masks[:, order], others[:, order])
    np.testing.assert_allclose(permuted, plain[:, order], atol=1e-5)
    _, after = run(frames.at[1].add(1), masks, others)
    np.testing.assert_allclose(after[0], plain[0], atol=1e-5)
    assert np.abs(after[1] - plain[1]).max() > 1e-3


def test_masks_and_others_have_different_effects(built, run):
    _, _, frames, masks, others = built
    plain, _ = run(frames, masks, others)
    swapped, _ = run(frames, others, masks)
    assert np.abs(plain - swapped).max() > 1e-3
    changed, _ = run(frames, masks.at[:, 1].set(1 - masks[:, 1]), others)
    moved = np.abs(changed - plain).max((0, 2, 3, 4))
    assert moved[1] > 1e-3 and max(moved[0], moved[2]) < 1e-5


def test_everything_learns_but_the_batch_norm():
    network = SwiftNetwork(**SMALL)
    variables = filled(abstract(network)[1])
    frames, masks, weights = (
        jnp.asarray(RNG.uniform(size=shape), jnp.float32)
        for shape in ((1, 32, 32, 3), (1, 2, 32, 32), (1, 2, 32, 32))
    )

    @jax.jit
    @jax.grad
    def gradient(params):
        def call(method, *arguments):
            return network.apply({**variables, "params": params}, *arguments, method=method)

        features = call("encode", frames)
        key, value = call("query", features)
        keys, values = call("memorize", call("fuse", features, None, masks, 1 - masks))
        prediction = call("decode", values * keys.sum() * key.sum(), value, features)
        return (prediction * weights).sum()

    for path, leaf in jax.tree.leaves_with_path(gradient(variables["params"])):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        assert np.any(leaf) == ("norm" not in name), name


def test_dropout_is_for_training():
    aspp = Aspp(8)
    x = jnp.asarray(RNG.normal(size=(1, 2, 4, 4, 6)), jnp.float32)
    variables = filled(jax.eval_shape(lambda x: aspp.init(jax.random.key(0), x, train=False), x))
    plain = jax.jit(lambda x: aspp.apply(variables, x, train=False))(x)
    dropped = jax.jit(
        lambda x: aspp.apply(variables, x, train=True, rngs={"dropout": jax.random.key(1)})
    )(x)
    kept = dropped > 0
    assert 0.3 < kept.sum() / (plain > 0).sum() < 0.7
    np.testing.assert_allclose(dropped[kept], 2 * plain[kept], rtol=1e-6)


def test_unshuffle():
    """Row in the block before column, as in pixelshuffle_invert of the public code."""
    x = np.arange(2 * 4 * 6, dtype=np.float32).reshape(2, 4, 6)
    out = unshuffle(jnp.asarray(x), 2)
    assert out.shape == (2, 2, 3, 4)
    np.testing.assert_array_equal(out[1, 1, 2], [x[1, 2, 4], x[1, 2, 5], x[1, 3, 4], x[1, 3, 5]])


def test_half_precision_predicts_in_float32():
    output, variables = abstract(SwiftNetwork(**SMALL, dtype=jnp.bfloat16))
    assert output.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


def test_efficientnet_reads_its_own_colors_and_its_maps_are_split_by_sign():
    random = np.random.default_rng(0)
    colors = jnp.asarray(random.uniform(size=(1, 4, 4, 3)), jnp.float32)   # in [0, 1]
    maps = [jnp.asarray(random.normal(size=(1, 2, 2, n)), jnp.float32) for n in (2, 3, 4, 5)]
    seen = []

    def instead(call, arguments, keywords, context):
        if not isinstance(context.module, efficientnet.EfficientNetLite):
            return call(*arguments, **keywords)
        seen.append(arguments[0])
        return maps

    with nn.intercept_methods(instead):
        out = LiteEncoder().apply({}, imagenet_colors(255 * colors), train=False)
    mean, deviation = (np.asarray(c) for c in efficientnet.COLORS)
    np.testing.assert_allclose(seen[0], (colors - mean) / deviation, atol=1e-5)
    assert len(out) == 4
    for got, x, scale in zip(out, maps, efficientnet.SCALES, strict=False):
        wanted = np.concatenate([np.maximum(x, 0), np.maximum(-x, 0)], -1) / scale
        np.testing.assert_allclose(got, wanted, rtol=1e-6)
