import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from tiny_rcf import WITH_AUDIO, build, make_batch, make_clip, quick_jit, random_variables

FRAMES, _ = make_clip(length=6)


def clip_of(frames, t, references):
    """Returns a batch that holds the frames a stream has seen for frame t, twice."""
    numbers = np.maximum(np.arange(t - references, t + 1), 0)
    return {**make_batch(length=1 + references), "frames": np.stack([frames[numbers]] * 2)}


def close(ours, theirs):
    for name in ("logits", "probabilities", "scores"):
        np.testing.assert_allclose(
            getattr(ours, name), getattr(theirs, name)[0], atol=1e-4, err_msg=name)


def test_a_stream_predicts_what_its_clips_do(variables, first_step, step, predict):
    state, prediction = first_step(variables, FRAMES[0])
    close(prediction, predict(variables, clip_of(FRAMES, 0, 1)))
    for t in range(1, 4):
        state, prediction = step(variables, state, FRAMES[t])
        assert prediction.frame == t
        close(prediction, predict(variables, clip_of(FRAMES, t, 1)))


def test_three_references_and_audio():
    model = build(references=3, fusion="full_enc", decoder_layers=1, **WITH_AUDIO)
    batch = make_batch(length=4, audio=True)
    variables = random_variables(model, batch)
    predict, step = quick_jit(model.predict), quick_jit(model.step)
    patches = np.asarray(jax.random.normal(jax.random.key(3), (6, 96, 64)))
    there = np.array([True, True, False, True, True])
    state = quick_jit(model.start)(
        variables, FRAMES[0], {"audio": patches[0], "audio_valid": there[0]})
    for t in range(1, 5):
        before = state
        prompt = {"audio": patches[t], "audio_valid": there[t]}
        state, prediction = step(variables, state, FRAMES[t], prompt)
        numbers = np.maximum(np.arange(t - 3, t + 1), 0)
        clip = {**batch, **clip_of(FRAMES, t, 3), "audio": np.stack([patches[numbers]] * 2),
                "audio_valid": np.stack([there[numbers]] * 2)}
        close(prediction, predict(variables, clip))
    # Audio that is not valid has no effect.
    silent, other = (step(variables, before, FRAMES[4], {
        "audio": p, "audio_valid": np.array(False)})[1].logits for p in patches[4:])
    np.testing.assert_array_equal(silent, other)
    assert (silent != prediction.logits).any()


def test_no_prompt_is_no_audio():
    model, frame = build(**WITH_AUDIO), jnp.asarray(FRAMES[0])
    variables = jax.eval_shape(model.init, jax.random.key(0), make_batch())
    state = jax.eval_shape(lambda v: model.start(v, frame), variables)
    after, _ = jax.eval_shape(model.step, variables, state, frame)
    assert after.audio.shape == (1, 8) and after.audio_valid.shape == (1,)


def stems(jaxpr):
    """Returns the batch size of each application of the backbone's first convolution."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            image, kernel = (v.aval.shape for v in equation.invars)
            if kernel[:3] == (7, 7, 3):
                found.append(image[0])
        for inner in jaxprs_in_params(equation.params):
            found += stems(inner)
    return found


@pytest.mark.parametrize("changes", [
    {}, {"fusion": "full_enc"}, {"fusion": "full_dec"}, {"order_supervision": True}])
def test_a_frame_goes_through_the_backbone_once(variables, changes):
    model = build(references=3, **changes)
    batch = jax.tree.map(jnp.asarray, make_batch(length=4))
    variables = jax.eval_shape(model.init, jax.random.key(0), batch)
    frame = jnp.asarray(FRAMES[0])
    state = jax.eval_shape(lambda v: model.start(v, frame), variables)
    assert stems(jax.make_jaxpr(model.step)(variables, state, frame).jaxpr) == [1]
    if changes.get("fusion") is None:
        loss = jax.make_jaxpr(lambda v: model.loss(v, batch, jax.random.key(0), frame)[0])
        assert stems(loss(variables).jaxpr) == [8]  # two clips of four frames


def test_a_video_of_any_length_is_one_program(variables, first_step, step):
    state, _ = first_step(variables, FRAMES[0])
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), state)
    for t in range(1, 12):
        state, prediction = step(variables, state, FRAMES[t % 6])
        assert prediction.frame == t
    assert step._cache_size() == 1 and state.count == 12
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == shapes


def test_without_references_the_state_keeps_no_features():
    model, frame = build(references=0), jnp.asarray(FRAMES[0])
    variables = jax.eval_shape(model.init, jax.random.key(0), make_batch(length=1))
    state = jax.eval_shape(lambda v: model.start(v, frame), variables)
    assert state.features is None and state.audio is None
    after, _ = jax.eval_shape(model.step, variables, state, frame)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)


def test_vmapped_and_scanned_streams_predict_what_single_streams_do(
        model, variables, first_step, step):
    clips = np.stack([make_clip(length=4, seed=s)[0] for s in range(8)])
    clips[4:] = clips[4:, :, :, ::-1]
    single = [first_step(variables, clip[0])[0] for clip in clips]
    states = jax.tree.map(lambda *x: jnp.stack(x), *single)
    run = jax.vmap(lambda state, frames: jax.lax.scan(
        lambda s, f: model.step(variables, s, f), state, frames))
    states, predictions = quick_jit(run)(states, clips[:, 1:])
    for s in range(8):
        for t in range(1, 4):
            single[s], prediction = step(variables, single[s], clips[s, t])
            np.testing.assert_allclose(predictions.logits[s, t - 1], prediction.logits, atol=1e-4)
            np.testing.assert_array_equal(predictions.identities[s, t - 1], prediction.identities)
        np.testing.assert_array_equal(states.tracks.frames[s], single[s].tracks.frames)


def test_identities_and_sums_of_a_video(model, variables, first_step, step):
    """A class head that always says class 1 with 0.9: every slot fires in every frame."""
    classes = {"kernel": jnp.zeros((16, 4)), "bias": jnp.log(jnp.array([0.02, 0.9, 0.03, 0.05]))}
    params = {**variables["params"], "head": {**variables["params"]["head"], "classes": classes}}
    variables = {**variables, "params": params}
    state, prediction = first_step(variables, FRAMES[0])
    np.testing.assert_array_equal(prediction.identities, np.arange(4))
    for _ in range(4):
        state, prediction = step(variables, state, FRAMES[0])
        np.testing.assert_array_equal(state.identities.last, state.count - 1)
    # The same frame over and over: no identity changes.
    np.testing.assert_array_equal(prediction.identities, np.arange(4))
    summary = model.summary(state)
    seen = {int(n): (int(c), float(s), int(f)) for n, c, s, f in
            zip(summary.identity, summary.category, summary.score, summary.frames, strict=True)
            if n >= 0}
    assert set(seen) == {0, 1, 2, 3}
    assert all(c == 1 and f == 5 and s == pytest.approx(0.9, rel=1e-5) for c, s, f in seen.values())
    assert (summary.score[summary.identity < 0] == 0).all()


def test_a_patch_of_the_wrong_size_is_refused():
    model = build(**WITH_AUDIO)
    variables = jax.eval_shape(model.init, jax.random.key(0), make_batch())
    for shape in ((64, 96), (97, 64)):
        with pytest.raises(ValueError, match=re.escape(f"(96, 64), got {shape}")):
            jax.eval_shape(lambda v, shape=shape: model.start(
                v, jnp.asarray(FRAMES[0]), {"audio": jnp.zeros(shape)}), variables)
