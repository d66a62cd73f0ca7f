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


def layout(kept=P, capacity=2, corrections=1):
    return mem.Layout(P, corrections, capacity, kept)


def video(kept, capacity, length, every=1):
    """Returns the memory before each frame from the second on; keeps every `every`-th frame."""
    places = layout(kept, capacity)
    memory = mem.create(places, *frame(0), ONE, "float32")
    states = [memory]
    for t in range(1, length):
        memory = mem.keep_previous(memory, places, ONE & (t > 1 and (t - 1) % every == 0))
        memory = mem.set_previous(memory, places, *frame(t), ONE, ~ONE)
        states.append(memory)
    return states


def held(memory, places, slot=0):
    """Returns the frame numbers in the ring."""
    values, valid = (np.asarray(x[slot, places.ring:]) for x in (memory.values, memory.valid))
    return sorted(set(values[valid, 0].tolist()))


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
    states, places = video(kept=P, capacity=2, length=8), layout()
    for t, memory in enumerate(states):
        assert (memory.values[0, :P] == 0).all() and memory.valid[0, :P].all()
        if t:
            assert (memory.values[0, places.previous : places.ring] == t).all()
        assert held(memory, places) == [float(n) for n in range(max(1, t - 2), t)]
    assert not states[0].valid[0, P:].any()
    assert states[-1].updates == 6


def test_a_frame_that_is_not_due_leaves_the_ring_alone():
    before = video(kept=P, capacity=2, length=4)[-1]
    after = mem.keep_previous(before, layout(), ~ONE)
    jax.tree.map(np.testing.assert_array_equal, after, before)


@pytest.mark.parametrize("pixels", [1, 3])
def test_the_pixels_kept_are_those_that_numpy_finds(pixels):
    places = layout(pixels, capacity=3)
    previous = slice(places.previous, places.ring)
    for memory in video(pixels, capacity=3, length=6, every=2)[1:]:
        keys, valid = np.asarray(memory.keys[0]), np.array(memory.valid[0])
        valid[previous] = False
        new, stored = keys[previous], keys[valid]
        cosine = (new / np.linalg.norm(new, axis=1, keepdims=True)) @ (
            stored / np.linalg.norm(stored, axis=1, keepdims=True)).T
        wanted = np.sort(np.argsort(cosine.max(1))[:pixels])
        got = mem.least_similar(memory.keys[:, previous], memory, places)[0]
        np.testing.assert_array_equal(got, wanted)
        after = mem.keep_previous(memory, places, ONE)
        start = places.ring + int(memory.updates) % 3 * pixels
        np.testing.assert_array_equal(after.keys[0, start : start + pixels], new[wanted])


def test_share_is_rounded_as_in_the_public_code():
    paper = SwiftnetConfig(network="swiftnet")
    assert paper.kept(1620) == 1620 - int(1620 * 0.9) == 162
    assert paper.kept(14) == 14 - int(14 * 0.9) == 2
    assert SwiftnetConfig(network="stm").kept(1620) == 1620


def test_an_object_that_enters_has_its_own_first_frame():
    places, there = layout(), jnp.asarray([True, False])
    memory = mem.create(places, *frame(0, objects=2), there, "float32")
    memory = mem.set_previous(memory, places, *frame(1, objects=2), there, ~there)
    memory = mem.set_prompted(memory, places, *frame(1, objects=2), ~there)
    np.testing.assert_array_equal(memory.values[:, :P, 0], [[0] * P, [1] * P])
    np.testing.assert_array_equal(memory.valid[:, 0], [True, True])
    np.testing.assert_array_equal(memory.valid[:, places.previous], [True, False])
    memory = mem.keep_previous(memory, places, jnp.ones(2, bool))
    np.testing.assert_array_equal(memory.valid[:, places.ring], [True, False])


@pytest.mark.parametrize("capacity", [0, 2])
def test_corrections_are_kept_whole_and_the_oldest_leaves(capacity):
    places = layout(kept=1, capacity=capacity, corrections=2)
    memory = mem.create(places, *frame(0, objects=2), jnp.ones(2, bool), "float32")
    only_first = jnp.asarray([True, False])
    for number, region in ((1, [0, 1, None]), (2, [0, 1, 2]), (3, [0, 3, 2]), (4, [0, 3, 4])):
        memory = mem.set_prompted(memory, places, *frame(number, objects=2), only_first)
        for i, wanted in enumerate(region):
            at = slice(i * P, (i + 1) * P)
            assert (memory.valid[0, at] == (wanted is not None)).all()
            if wanted is not None:
                np.testing.assert_array_equal(memory.values[0, at, 0], wanted)
                np.testing.assert_array_equal(memory.keys[0, at], frame(wanted, objects=2)[0][0])
    assert memory.valid[1].sum() == P, "the other object has its first frame only"
    np.testing.assert_array_equal(memory.prompts, [5, 1])


def test_what_is_not_remembered_leaves_the_previous_frame_as_it_was():
    places, both = layout(), jnp.ones(2, bool)
    memory = mem.create(places, *frame(0, objects=2), both, "float32")
    memory = mem.set_previous(memory, places, *frame(1, objects=2), both, ~both)
    memory = mem.set_previous(memory, places, *frame(2, objects=2), jnp.asarray([True, False]),
                              ~both)
    np.testing.assert_array_equal(memory.values[:, places.previous, 0], [2, 1])
    memory = mem.keep_previous(memory, places, jnp.asarray([True, False]))
    assert held(memory, places, 0) == [2] and held(memory, places, 1) == []
    second = jnp.asarray([False, True])
    memory = mem.set_previous(memory, places, *frame(3, objects=2), both, second)
    np.testing.assert_array_equal(memory.valid[:, places.previous], [True, False])


def test_a_slot_that_is_removed_is_free_for_another_object():
    places, both = layout(corrections=2), jnp.ones(2, bool)
    memory = mem.create(places, *frame(0, objects=2), both, "float32")
    memory = mem.set_prompted(memory, places, *frame(1, objects=2), both)
    memory = mem.set_previous(memory, places, *frame(2, objects=2), both, ~both)
    memory = mem.keep_previous(memory, places, both)
    other = jnp.asarray([False, True])
    removed = mem.remove(memory, other)
    assert not removed.valid[1].any()
    np.testing.assert_array_equal(removed.valid[0], memory.valid[0])
    again = mem.set_prompted(removed, places, *frame(7, objects=2), other)
    assert again.valid[1].sum() == P and (again.values[1, :P] == 7).all()
    np.testing.assert_array_equal(again.prompts, [2, 1])


def test_the_best_places_alone_by_hand():
    query = jnp.asarray([[1.0, 2.0], [-1.0, 0.0]])
    keys = jnp.asarray([[[1.0, 0.0], [0.0, 1.0], [3.0, 0.0], [9.0, 9.0], [-2.0, -2.0]]])
    values = jnp.asarray([[[10.0], [20.0], [40.0], [1e6], [70.0]]])
    memory = mem.Memory(keys, values, jnp.asarray([[True, True, True, False, True]]), None, None)
    first = np.exp(np.array([2, 3]) / np.sqrt(2))      # of places 1 and 2
    second = np.exp(np.array([0, 2]) / np.sqrt(2))     # of places 1 and 4
    wanted = [[first @ [20, 40] / first.sum()], [second @ [20, 70] / second.sum()]]
    for places in (1, 2, 5):   # blocks of any size; of two, the last one overlaps
        np.testing.assert_allclose(mem.recall(query, memory, places, 2)[0], wanted, rtol=1e-5)
        np.testing.assert_allclose(mem.recall(query, memory, places, 1)[0], [[40], [70]])
        for k in (4, 9):       # as many as there are, and more
            np.testing.assert_allclose(mem.recall(query, memory, places, k),
                                       mem.recall(query, memory, places), rtol=1e-5)
    nothing = memory.replace(valid=jnp.zeros_like(memory.valid))
    assert (mem.recall(query, nothing, 2, 2) == 0).all()


@pytest.mark.parametrize("top_k", [None, 3])
def test_query_pixels_in_parts_read_the_same(monkeypatch, top_k):
    query = 3 * jax.random.normal(jax.random.key(9), (5, K))
    memory = video(3, capacity=3, length=6, every=2)[-1]
    places = layout(3, capacity=3)
    key = memory.keys[:, places.previous : places.ring]
    whole = mem.recall(query, memory, P, top_k), mem.least_similar(key, memory, places)
    calls = []
    real = jax.lax.map
    monkeypatch.setattr(mem.lax, "map", lambda f, xs: calls.append(len(xs)) or real(f, xs))
    monkeypatch.setattr(mem, "SCORES", 2 * P)   # two pixels at once; the last part has padding
    parts = mem.recall(query, memory, P, top_k), mem.least_similar(key, memory, places)
    assert calls == [3, 2]
    np.testing.assert_allclose(parts[0], whole[0], rtol=1e-6)
    np.testing.assert_array_equal(parts[1], whole[1])


def test_memory_in_half_precision_reads_nearly_the_same():
    memory = video(kept=P, capacity=2, length=4)[-1]
    query = jax.random.normal(jax.random.key(9), (3, K))
    half = [x.astype(jnp.bfloat16) for x in (memory.keys, memory.values)]
    out = mem.read(query, *half, memory.valid)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        out.astype(jnp.float32), mem.read(query, memory.keys, memory.values, memory.valid), atol=0.1
    )
