import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import differ, negated_at, quick_jit

from vseg_jax.backbones.resnet import ResNet


def abstract(module, size=64):
    image = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    return jax.eval_shape(
        lambda x: module.init_with_output(jax.random.key(0), x, train=False), image
    )


# Counts of torchvision's models without `fc`.
@pytest.mark.parametrize(
    "depth,channels,parameters",
    [
        (18, (64, 128, 256, 512), 11_689_512 - 513_000),
        (34, (64, 128, 256, 512), 21_797_672 - 513_000),
        (50, (256, 512, 1024, 2048), 25_557_032 - 2_049_000),
        (101, (256, 512, 1024, 2048), 44_549_160 - 2_049_000),
    ],
)
def test_published_sizes(depth, channels, parameters):
    outputs, variables = abstract(ResNet(depth))
    assert [o.shape[1:] for o in outputs] == [
        (64 // s, 64 // s, c) for s, c in zip((4, 8, 16, 32), channels, strict=True)
    ]
    assert sum(np.prod(p.shape) for p in jax.tree.leaves(variables["params"])) == parameters


def test_dilation_keeps_the_map_and_the_parameters():
    plain, variables = abstract(ResNet(50))
    dilated, same = abstract(ResNet(50, dilated=(False, True, True)))
    assert [o.shape[1] for o in dilated] == [16, 8, 8, 8]
    assert [o.shape[1] for o in plain] == [16, 8, 4, 2]
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, same)


def test_the_last_stage_can_keep_the_map():
    kept, same = abstract(ResNet(18, last_stride=1))
    halved, _ = abstract(ResNet(18))
    assert [o.shape[1:3] for o in kept] == [o.shape[1:3] for o in (*halved[:3], halved[2])]
    assert jax.tree.map(np.shape, same) == jax.tree.map(np.shape, abstract(ResNet(18))[1])


def test_odd_sizes_round_up():
    outputs, _ = abstract(ResNet(18, width=4), size=33)
    assert [o.shape[1] for o in outputs] == [9, 5, 3, 2]


@pytest.mark.parametrize(
    "settings,message",
    [
        ({"depth": 20}, "depth is 20"),
        ({"depth": 18, "dilated": (False, False, True)}, "cannot be dilated"),
        ({"last_stride": 3}, "last_stride is 3"),
        ({"last_stride": 1, "dilated": (False, False, True)}, "stage 4 is dilated"),
        ({"stages": 0}, "stages is 0"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        abstract(ResNet(**settings))


def test_change_is_called_at_its_places_and_later_layers_see_it():
    module, image = ResNet(18, width=4, stem=True, stages=2), jnp.ones((1, 32, 32, 3))
    seen = {}

    def record(place, x):
        seen[place] = x.shape[1:]
        return x

    variables = jax.eval_shape(
        lambda x: module.init(jax.random.key(0), x, train=False, change=record), image
    )
    assert seen == {
        "conv1": (16, 16, 4), "norm1": (16, 16, 4), "pool": (8, 8, 4), "layer1_sum": (8, 8, 4),
        "layer1": (8, 8, 4), "layer2_sum": (4, 4, 8), "layer2": (4, 4, 8),
    }
    plain = jax.eval_shape(lambda x: module.init(jax.random.key(0), x, train=False), image)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, plain)
    variables = quick_jit(lambda x: module.init(jax.random.key(0), x, train=False))(image)

    outputs = negated_at(module, variables, image, list(seen))

    def changed(place):
        return differ(outputs(place), outputs("nowhere"))

    assert changed("conv1") == changed("norm1") == [True, True, True]
    assert changed("pool") == changed("layer1") == changed("layer1_sum") == [False, True, True]
    assert changed("layer2") == changed("layer2_sum") == [False, False, True]
    for place, stage in (("norm1", 0), ("layer1_sum", 1), ("layer2_sum", 2)):
        assert (outputs(place)[stage] >= 0).all()  # before the ReLU
    assert (outputs("layer2")[2] <= 0).all()       # after it


def test_frozen_trains_convolutions_only():
    module = ResNet(18, width=4, stages=1, norm="frozen")
    image = jnp.asarray(np.random.default_rng(0).normal(size=(1, 16, 16, 3)), jnp.float32)
    variables = jax.jit(lambda x: module.init(jax.random.key(0), x, train=True))(image)

    @jax.jit
    @jax.grad
    def gradient(params):
        outputs = module.apply({**variables, "params": params}, image, train=True)
        return (outputs[-1] ** 2).sum()

    for path, g in jax.tree.leaves_with_path(gradient(variables["params"])):
        assert np.any(g) == ("kernel" in jax.tree_util.keystr(path))
