import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import differ, negated_at, quick_jit

from vseg_jax.backbones.i3d import I3D


def shapes(module, frames, size=64):
    clip = jax.ShapeDtypeStruct((2, frames, size, size, 3), jnp.float32)
    outputs = jax.eval_shape(
        lambda x: module.init_with_output(jax.random.key(0), x, train=False)[0], clip
    )
    return [o.shape[1:] for o in outputs]


def test_published_channels_and_strides():
    assert shapes(I3D(), 8) == [
        (4, 32, 32, 64),
        (4, 16, 16, 192),
        (4, 8, 8, 480),
        (2, 4, 4, 832),
        (1, 2, 2, 1024),
    ]


@pytest.mark.parametrize(
    "frames,expected", [(4, [2, 2, 2, 1, 1]), (7, [4, 4, 4, 2, 1]), (16, [8, 8, 8, 4, 2])]
)
def test_time_rounds_up(frames, expected):
    assert [s[0] for s in shapes(I3D(width=0.05), frames, 40)] == expected


def test_number_of_parameters_is_the_published_one():
    clip = jax.ShapeDtypeStruct((1, 8, 32, 32, 3), jnp.float32)
    tree = jax.eval_shape(lambda x: I3D().init(jax.random.key(0), x, train=False), clip)
    count = sum(np.prod(p.shape) for p in jax.tree.leaves(tree["params"]))
    # 12,697,264 with the classifier of 400 classes (1024 * 400 + 400), as published code counts.
    assert count == 12_697_264 - 410_000


def test_stages_stop_early():
    assert len(shapes(I3D(stages=2, width=0.1), 4)) == 2
    with pytest.raises(ValueError, match="stages is 6"):
        shapes(I3D(stages=6), 4)


def test_change_is_called_at_its_places_and_later_stages_see_it():
    module, clip = I3D(width=0.05, stages=3), jnp.ones((1, 4, 16, 16, 3))
    seen = []

    def record(place, x):
        seen.append((place, x.shape[-1]))
        return x

    jax.eval_shape(lambda x: module.init(jax.random.key(0), x, train=False, change=record), clip)
    assert seen == [
        ("conv_1a_conv", 3), ("conv_1a_norm", 3), ("conv_1a", 3), ("pool_2a", 3),
        ("conv_2b_conv", 3), ("conv_2b_norm", 3), ("conv_2c_conv", 10), ("conv_2c_norm", 10),
        ("conv_2c", 10), ("mixed_3c", 24),
    ]
    module = I3D(width=0.05, stages=2)  # two stages compile in seconds
    variables = quick_jit(lambda x: module.init(jax.random.key(0), x, train=False))(clip)

    outputs = negated_at(module, variables, clip, [place for place, _ in seen])

    def changed(place):
        return differ(outputs(place), outputs("nowhere"))

    assert changed("conv_1a_conv") == changed("conv_1a_norm") == [True, True]
    assert changed("conv_1a") == [True, True]
    assert changed("pool_2a") == changed("conv_2c") == [False, True]


def test_gradients_reach_the_stem_and_statistics_move():
    module = I3D(width=0.05, norm="batch", stages=2)  # two stages compile in seconds
    clip = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 16, 16, 3)), jnp.float32)
    variables = jax.jit(lambda x: module.init(jax.random.key(0), x, train=False))(clip)

    @jax.jit
    def step(params):
        def loss(params):
            outputs, new = module.apply(
                {**variables, "params": params}, clip, train=True, mutable=["batch_stats"]
            )
            return (outputs[-1] ** 2).sum(), new
        return jax.grad(loss, has_aux=True)(params)

    gradients, new = step(variables["params"])
    assert np.any(gradients["conv_1a"]["conv"]["kernel"])
    moved = jax.tree.map(
        lambda a, b: bool(np.any(a != b)), new["batch_stats"], variables["batch_stats"]
    )
    assert all(jax.tree.leaves(moved))
