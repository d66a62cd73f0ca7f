"""What a video of 1080p with one object needs; programs are compiled and not run."""

import jax
import jax.numpy as jnp
import pytest
from tiny_swiftnet import quick_jit

from vseg_jax.models.swiftnet import Swiftnet, SwiftnetConfig
from vseg_jax.models.swiftnet import memory as mem

PLACES = 68 * 120   # of a frame, at stride 16
GIB = 2**30


def size(tree):
    """Bytes of arrays or of their shapes."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def needed(function, *inputs, donated=()):
    """Bytes for the inputs and results of a program and for what is in between."""
    use = quick_jit(function, donate_argnums=donated).lower(*inputs).compile().memory_analysis()
    return (use.argument_size_in_bytes + use.output_size_in_bytes - use.alias_size_in_bytes
            + use.temp_size_in_bytes)


@pytest.mark.parametrize(("kept", "top_k"), [(PLACES, None), (PLACES, 50), (816, None)])
def test_scores_of_a_large_frame_are_computed_in_parts(kept, top_k):
    layout, frame = mem.Layout(PLACES, 4, 20, kept), (1, PLACES)
    memory = jax.eval_shape(
        lambda key, value: mem.create(layout, key, value, jnp.ones(1, bool), "float32"),
        *(jax.ShapeDtypeStruct((*frame, c), jnp.float32) for c in (128, 512)))
    query = jax.ShapeDtypeStruct((PLACES, 128), jnp.float32)
    all_scores = 4 * PLACES**2
    reading = needed(lambda q, m: mem.recall(q, m, PLACES, top_k), query, memory)
    assert reading - size(memory) < 1.5 * all_scores
    keeping = needed(lambda m: mem.keep_previous(m, layout, jnp.ones(1, bool)), memory, donated=0)
    assert keeping - size(memory) < 1.5 * all_scores


@pytest.mark.slow
@pytest.mark.parametrize("network", ["stm", "swiftnet"])
def test_a_video_of_1080p_runs_within_4_gb(network):
    model = Swiftnet(SwiftnetConfig(network=network))
    variables = jax.eval_shape(model.init, jax.random.key(0), {})
    frame = jax.ShapeDtypeStruct((1080, 1920, 3), jnp.uint8)
    prompt = {"mask": jax.ShapeDtypeStruct((1080, 1920), jnp.uint8),
              "named": jax.ShapeDtypeStruct((1,), jnp.bool_)}
    state = jax.eval_shape(model.start, variables, frame, prompt)
    assert needed(model.start, variables, frame, prompt) < 4 * GIB
    for prompts in ((), (prompt,)):
        assert needed(model.step, variables, state, frame, *prompts, donated=1) < 4 * GIB
