import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vseg_jax.models.swiftnet import memory as mem
from vseg_jax.models.swiftnet.config import SwiftnetConfig

P, K, V = 4, 2, 1  # pixels of a frame, channels
ONE = jnp.ones(1, bool)


def frame(number, objects=1):
    """Returns keys that differ from pixel to pixel, and the frame's number as value."""
    key = jax.random.normal(jax.random.key(number), (objects, P, K))
    return key, jnp.full((objects, P, V), float(number))


def video(kept, capacity, length, every=1):
    """Returns the memory before each frame from the second on; keeps every `every`-th frame."""
    memory = mem.create(*frame(0), ONE, capacity * kept, "float32")
    states = [memory]
    for t in range(1, length):
        memory = mem.keep_previous(memory, jnp.asarray(t > 1 and (t - 1) % every == 0), P, kept)
        memory = mem.set_previous(memory, *frame(t), ONE)
        states.append(memory)
    return states


def test_read_by_hand():
    query = jnp.asarray([[1.0, 2.0]])
    keys = jnp.asarray([[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]])
    values = jnp.asarray([[[10.0], [20.0], [1e6]]])
    weights = np.exp(np.array([1, 2]) / np.sqrt(2))
    out = mem.read(query, keys, values, jnp.asarray([[True, True, False]]))
    np.testing.assert_allclose(out, [[[(weights / weights.sum()) @ [10, 20]]]], rtol=1e-5)


def test_read_of_huge_scores_and_of_nothing_is_finite():
    query, keys = jnp.full((1, K), 1e4), jnp.full((2, 3, K), 1e4)
    out = mem.read(query, keys, jnp.ones((2, 3, V)), jnp.asarray([[True] * 3, [False] * 3]))
    np.testing.assert_allclose(out, 1)


def test_recall_block_by_block_is_read():
    query = 3 * jax.random.normal(jax.random.key(9), (5, K))
    recall = jax.jit(mem.recall, static_argnums=2)
    for kept, every in ((P, 1), (3, 2)):   # 3: the last block is incomplete
        for memory in video(kept, capacity=3, length=6, every=every):
            memory = memory.replace(
                values=memory.values + jax.random.normal(jax.random.key(8), memory.values.shape))
            wanted = mem.read(query, memory.keys, memory.values, memory.valid)
            np.testing.assert_allclose(recall(query, memory, P), wanted, rtol=1e-4, atol=1e-5)
    nothing = memory.replace(valid=jnp.zeros_like(memory.valid))
    assert (recall(query, nothing, P) == 0).all()


def test_a_place_that_is_not_valid_has_no_gradient():
    valid = jnp.asarray([[True, False, True]])

    def total(keys, values):
        return jnp.square(mem.read(jnp.ones((2, K)), keys, values, valid)).sum()

    keys = jax.random.normal(jax.random.key(0), (1, 3, K))
    values = jax.random.normal(jax.random.key(1), (1, 3, V))
    for gradient in jax.grad(total, (0, 1))(keys, values):
        assert (gradient[0, 1] == 0).all() and (gradient[0, 0] != 0).any()


def test_the_ring_evicts_the_oldest_and_never_the_first_frame():
    states = video(kept=P, capacity=2, length=8)
    for t, memory in enumerate(states):
        assert (memory.values[0, :P] == 0).all() and memory.valid[0, :P].all()
        if t:
            assert (memory.values[0, P : 2 * P] == t).all()
        held = set(np.asarray(memory.values[0, 2 * P :, 0])[np.asarray(memory.valid[0, 2 * P :])])
        assert held == {float(n) for n in range(max(1, t - 2), t)}
    assert not states[0].valid[0, P:].any()
    assert states[-1].updates == 6


def test_a_frame_that_is_not_due_leaves_the_ring_alone():
    before = video(kept=P, capacity=2, length=4)[-1]
    after = mem.keep_previous(before, jnp.asarray(False), P, P)
    jax.tree.map(np.testing.assert_array_equal, after, before)


@pytest.mark.parametrize("pixels", [1, 3])
def test_the_pixels_kept_are_those_that_numpy_finds(pixels):
    for memory in video(pixels, capacity=3, length=6, every=2)[1:]:
        keys, valid = np.asarray(memory.keys[0]), np.asarray(memory.valid[0])
        new, stored = keys[P : 2 * P], np.r_[keys[:P], keys[2 * P :][valid[2 * P :]]]
        cosine = (new / np.linalg.norm(new, axis=1, keepdims=True)) @ (
            stored / np.linalg.norm(stored, axis=1, keepdims=True)).T
        wanted = np.sort(np.argsort(cosine.max(1))[:pixels])
        got = mem.least_similar(memory.keys[:, P : 2 * P], memory, pixels)[0]
        np.testing.assert_array_equal(got, wanted)
        after = mem.keep_previous(memory, jnp.asarray(True), P, pixels)
        start = 2 * P + int(memory.updates) % 3 * pixels
        np.testing.assert_array_equal(after.keys[0, start : start + pixels], new[wanted])


def test_share_is_rounded_as_in_the_public_code():
    paper = SwiftnetConfig(network="swiftnet")
    assert paper.kept(1620) == 1620 - int(1620 * 0.9) == 162
    assert paper.kept(14) == 14 - int(14 * 0.9) == 2
    assert SwiftnetConfig(network="stm").kept(1620) == 1620


def test_an_object_that_enters_has_its_own_first_frame():
    key, value = frame(0, objects=2)
    there = jnp.asarray([True, False])
    memory = mem.create(key, value, there, 2 * P, "float32")
    memory = mem.set_previous(memory, *frame(1, objects=2), there)
    memory = mem.set_first(memory, *frame(1, objects=2), ~there)
    np.testing.assert_array_equal(memory.values[:, :P, 0], [[0] * P, [1] * P])
    np.testing.assert_array_equal(memory.valid[:, 0], [True, True])
    np.testing.assert_array_equal(memory.valid[:, P], [True, False])
    memory = mem.keep_previous(memory, jnp.asarray(True), P, P)
    np.testing.assert_array_equal(memory.valid[:, 2 * P], [True, False])


def test_memory_in_half_precision_reads_nearly_the_same():
    memory = video(kept=P, capacity=2, length=4)[-1]
    query = jax.random.normal(jax.random.key(9), (3, K))
    half = [x.astype(jnp.bfloat16) for x in (memory.keys, memory.values)]
    out = mem.read(query, *half, memory.valid)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        out.astype(jnp.float32), mem.read(query, memory.keys, memory.values, memory.valid), atol=0.1
    )
