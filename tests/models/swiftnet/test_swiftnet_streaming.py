import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_swiftnet import build, make_clip, quick_jit

from vseg_jax.models.swiftnet import streaming

FRAMES, MASKS = make_clip(length=8)
EMPTY = {"mask": np.zeros_like(MASKS[0])}
NOTHING = {**EMPTY, "named": np.zeros(2, bool)}
PLACES = 9                # pixels of a frame in the memory
PREVIOUS = 9 * (1 + 4)    # behind the first frame and four corrections


def only(slot, mask=MASKS[0]):
    return {"mask": np.where(mask == slot, mask, 0).astype(np.uint8)}


def named(*slots):
    return np.isin([1, 2], slots)


def probability(prediction):
    return np.asarray(prediction.probability)


@pytest.mark.parametrize(("size", "pads"), [
    ((480, 854), ((0, 0), (5, 5))), ((33, 17), ((7, 8), (7, 8))), ((16, 32), ((0, 0), (0, 0))),
])
def test_padding_is_that_of_the_public_code(size, pads):
    assert streaming.padding(*size) == pads
    masks = jax.random.uniform(jax.random.key(0), (2, *size))
    padded = streaming.pad_masks(masks)
    assert padded.shape[1] % 16 == padded.shape[2] % 16 == 0
    assert padded.sum() == pytest.approx(float(masks.sum()), rel=1e-5)
    np.testing.assert_array_equal(streaming.crop(padded, *size), masks)


def test_frames_are_padded_with_black_then_normalized():
    x = streaming.prepare(jnp.full((10, 16, 3), 255, jnp.uint8))
    assert x.shape == (16, 16, 3)
    np.testing.assert_allclose(x[0, 0], [-2.1179, -2.0357, -1.8044], atol=1e-3)
    np.testing.assert_allclose(x[8, 0], [2.2489, 2.4286, 2.64], atol=1e-3)


def test_a_video_of_any_length_is_one_program(model, variables, start):
    traces = []

    def step(variables, state, frame, prompt):
        traces.append(1)
        return model.step(variables, state, frame, prompt)

    step = quick_jit(step)
    state = start(variables, FRAMES[0], only(1))
    shapes = jax.tree.map(jnp.shape, state)
    for t in range(1, 8):
        prompt = only(2, MASKS[t]) if t == 4 else EMPTY
        state, prediction = step(variables, state, FRAMES[t], prompt)
        assert prediction.frame == t and prediction.probability.shape == (2, 40, 44)
        assert (prediction.scores[1] > 0) == (t >= 4)
    assert len(traces) == 1 and jax.tree.map(jnp.shape, state) == shapes
    assert state.count == 8 and state.present.all()


def test_an_object_that_enters(variables, start, step):
    state = start(variables, FRAMES[0], only(1))
    state, before = step(variables, state, FRAMES[1])
    assert (probability(before)[1] < 1e-6).all() and before.scores[1] == 0
    untouched, plain = step(variables, state, FRAMES[2])
    state, prediction = step(variables, state, FRAMES[2], only(2, MASKS[2]))
    named, p = MASKS[2] == 2, probability(prediction)
    assert (p[1][named] > 0.999).all() and (p[0][named] < 1e-3).all()
    assert (p[1][~named] < 1e-3).all()
    np.testing.assert_allclose(p[0][~named], probability(plain)[0][~named], rtol=1e-4, atol=1e-6)
    # Object 1's first frame stays; this one is object 2's first, and object 2 has no previous one.
    np.testing.assert_array_equal(
        state.memory.values[0, :PLACES], untouched.memory.values[0, :PLACES])
    assert (state.memory.values[1, :PLACES] != untouched.memory.values[1, :PLACES]).any()
    np.testing.assert_array_equal(state.memory.valid[:, 0], [True, True])
    np.testing.assert_array_equal(state.memory.valid[:, PREVIOUS], [True, False])
    state, prediction = step(variables, state, FRAMES[3])
    assert prediction.scores[1] > 0 and state.memory.valid[:, PREVIOUS].all()


def test_a_correction_is_the_whole_truth_about_the_objects_that_it_names(variables, start, step):
    state = start(variables, FRAMES[0], {"mask": MASKS[0]})
    _, plain = step(variables, state, FRAMES[1], NOTHING)
    before = probability(plain)
    small = np.zeros_like(MASKS[1])
    small[8:12, 8:12] = 1
    assert (before[0][small == 0] > 0.01).any(), "there is something to take away"
    _, prediction = step(variables, state, FRAMES[1], {"mask": small, "named": named(1)})
    after = probability(prediction)
    np.testing.assert_array_equal(after[0], small == 1)
    np.testing.assert_array_equal(after[1], np.where(small == 1, 0, before[1]))
    # Neither object is here, or one of them, of which the mask does not speak.
    for mask in (EMPTY["mask"], only(2)["mask"]):
        _, prediction = step(variables, state, FRAMES[1], {"mask": mask, "named": named(1)})
        assert (probability(prediction)[0] == 0).all() and prediction.scores[0] == 0
        np.testing.assert_array_equal(probability(prediction)[1], before[1])


@pytest.mark.parametrize("update", [True, False])
def test_a_corrected_frame_stays_in_the_memory_whole(variables, update):
    model = build(memory_update=update)
    start, step = quick_jit(model.start), quick_jit(model.step)
    first = start(variables, FRAMES[0], {"mask": MASKS[0]})
    corrected, _ = step(variables, first, FRAMES[1], {"mask": MASKS[1], "named": named(1)})
    alike, _ = step(variables, first, FRAMES[1], NOTHING)
    at = slice(PLACES, 2 * PLACES)
    assert (corrected.memory.valid[:, at] == named(1)[:, None]).all()
    assert (corrected.memory.values[0, at] != 0).any()
    whole = np.asarray(corrected.memory.values[0, at])
    for t in range(2, 8):   # longer than the ring remembers
        (corrected, now), (alike, otherwise) = (
            step(variables, s, FRAMES[t], NOTHING) for s in (corrected, alike))
        assert (probability(now)[0] != probability(otherwise)[0]).any()
    np.testing.assert_array_equal(corrected.memory.values[0, at], whole)
    assert corrected.memory.valid[0, at].all()


def test_a_prompted_frame_is_not_remembered_twice(variables, start, step):
    state = start(variables, FRAMES[0], {"mask": MASKS[0]})
    for t in (1, 2):   # frame 2 is due
        state, _ = step(variables, state, FRAMES[t], {"mask": MASKS[t], "named": named(1)})
        np.testing.assert_array_equal(state.memory.valid[:, PREVIOUS], [False, True])
    np.testing.assert_array_equal(state.due, [False, True])


def test_an_object_that_is_removed_leaves_its_slot_to_another(model, variables, start, step):
    state = start(variables, FRAMES[0], {"mask": MASKS[0]})
    state = model.remove(state, jnp.asarray(named(2)))
    for t in (1, 2):
        state, prediction = step(variables, state, FRAMES[t], NOTHING)
        assert (probability(prediction)[1] == 0).all()
    newcomer = {"mask": only(2, MASKS[3])["mask"], "named": named(2)}
    state, prediction = step(variables, state, FRAMES[3], newcomer)
    np.testing.assert_array_equal(state.memory.prompts, [1, 1])
    assert state.memory.valid[1].sum() == PLACES
    assert state.present.all() and (probability(prediction)[1] == (MASKS[3] == 2)).all()


def test_slots_are_added_to_a_running_stream(model, variables, start, step):
    names = np.ones(1, bool)
    state = start(variables, FRAMES[0], {**only(1), "named": names})
    assert state.present.shape == (1,) and state.memory.keys.shape[0] == 1
    many = start(variables, FRAMES[0], only(1))
    for t in (1, 2):
        state, prediction = step(variables, state, FRAMES[t], {**EMPTY, "named": ~names})
        many, wanted = step(variables, many, FRAMES[t], NOTHING)
        np.testing.assert_allclose(probability(prediction)[0], probability(wanted)[0], atol=1e-5)
    state = model.grow(state, 2)
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, many)
    for t in (3, 4):
        prompt = {**only(2, MASKS[3]), "named": named(2)} if t == 3 else NOTHING
        state, prediction = step(variables, state, FRAMES[t], prompt)
        many, wanted = step(variables, many, FRAMES[t], prompt)
        np.testing.assert_allclose(probability(prediction), probability(wanted), atol=1e-5)


def test_a_frame_of_low_confidence_is_read_and_not_remembered(variables, start, step):
    state = start(variables, FRAMES[0], {"mask": MASKS[0]})
    _, plain = step(variables, state, FRAMES[1], NOTHING)
    scores = np.asarray(plain.scores)
    p = probability(plain)
    best = np.concatenate([1 - p.sum(0, keepdims=True), p]).argmax(0)
    np.testing.assert_allclose(scores, [
        p[n][best == n + 1].mean() if (best == n + 1).any() else 0 for n in (0, 1)], rtol=1e-5)
    assert scores[0] != scores[1]
    careful = quick_jit(build(min_confidence=float(scores.mean()), every=1).step)
    state, prediction = careful(variables, state, FRAMES[1])
    np.testing.assert_allclose(probability(prediction), p, atol=1e-6)
    trusted = scores > scores.mean()
    np.testing.assert_array_equal(state.memory.valid[:, PREVIOUS], trusted)
    np.testing.assert_array_equal(state.due, trusted)


def test_the_best_places_alone_are_read_if_the_config_says_so(variables, start, step):
    state = start(variables, FRAMES[0], {"mask": MASKS[0]})
    _, everything = step(variables, state, FRAMES[1])
    for top_k, same in ((1, False), (PLACES, True)):
        model = build(top_k=top_k)
        _, prediction = quick_jit(model.step)(variables, state, FRAMES[1])
        close = np.allclose(probability(prediction), probability(everything), atol=1e-5)
        assert close == same


def test_every_second_frame_is_kept(variables, start, step):
    state = start(variables, FRAMES[0], {"mask": MASKS[0]})
    first = np.asarray(state.memory.keys[:, :9])
    updates = []
    for t in range(1, 8):
        state, _ = step(variables, state, FRAMES[t])
        updates.append(int(state.memory.updates))
    assert updates == [0, 0, 1, 1, 2, 2, 3]  # frames 2, 4 and 6, each after the next was read
    np.testing.assert_array_equal(state.memory.keys[:, :9], first)
    # ceil(0.3 * 9) pixels, two updates
    assert state.memory.keys.shape[1] == PREVIOUS + PLACES + 2 * 3


def test_vmapped_streams_predict_what_single_streams_do(model, variables, start, step):
    clips = [make_clip(length=4, seed=s) for s in range(8)]
    frames, masks = (np.stack(x) for x in zip(*clips, strict=True))
    states = quick_jit(jax.vmap(model.start, (None, 0, 0)))(
        variables, frames[:, 0], {"mask": masks[:, 0]})
    together = quick_jit(jax.vmap(model.step, (None, 0, 0)))
    single = [start(variables, f[0], {"mask": m[0]}) for f, m in clips]
    for t in range(1, 4):
        states, predictions = together(variables, states, frames[:, t])
        for s in range(8):
            single[s], prediction = step(variables, single[s], frames[s, t])
            np.testing.assert_allclose(
                probability(predictions)[s], probability(prediction), atol=1e-4)


def test_static_memory_reads_the_first_frame_only(variables):
    model = build(memory_update=False)
    state = quick_jit(model.start)(variables, FRAMES[0], {"mask": MASKS[0]})
    step = quick_jit(model.step)
    assert state.memory.keys.shape[1] == PREVIOUS and state.memory.valid[0].sum() == PLACES
    after, first = step(variables, state, FRAMES[5])
    jax.tree.map(np.testing.assert_array_equal, after.memory, state.memory)
    for t in (1, 2):
        after, _ = step(variables, after, FRAMES[t])
    _, later = step(variables, after, FRAMES[5])  # the frames in between change nothing
    np.testing.assert_array_equal(first.probability, later.probability)


def test_the_variation_aware_trigger(variables, start):
    model = build(trigger="vat", vat_pixels=30, vat_frame=2.0)
    still, slots = jnp.full((8, 8, 3), 100, jnp.uint8), jnp.zeros((8, 8), jnp.uint8)
    state = start(variables, FRAMES[0], EMPTY).replace(
        last=streaming.Last(still, slots, jnp.float32(0)))

    def trigger(state, frame, slots):
        due, last = streaming._trigger(model.config, state, frame, slots)
        return bool(due), float(last.score), state.replace(last=last)

    noisy = still + 2                                 # changed, but not above the threshold
    due, score, state = trigger(state, noisy, slots)
    assert (due, score) == (False, 0)
    moved = noisy.at[:2].add(3)                       # 16 pixels
    due, score, state = trigger(state, moved, slots)
    assert (due, score) == (False, 16)
    other = slots.at[4, :5].set(1)                    # 5 pixels of the prediction
    due, score, state = trigger(state, moved, other)
    assert (due, score) == (False, 21)
    due, score, state = trigger(state, noisy, other)  # 16 pixels change back: above 30 in total
    assert (due, score) == (True, 0)


def test_a_stream_scans(model, variables, start, step):
    state = start(variables, FRAMES[0], {"mask": MASKS[0]})
    _, predictions = quick_jit(lambda s: jax.lax.scan(
        lambda s, f: model.step(variables, s, f), s, FRAMES[1:4]))(state)
    for t in range(1, 4):
        state, prediction = step(variables, state, FRAMES[t])
        np.testing.assert_allclose(
            probability(predictions)[t - 1], probability(prediction), atol=1e-4)
