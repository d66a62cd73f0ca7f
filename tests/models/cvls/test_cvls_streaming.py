import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_cvls import build, make_batch
from tiny_models import clip_numbers, prompt, quick_jit

from vseg_jax.layers.window import push
from vseg_jax.models.cvls import CvlsConfig

FRAMES = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
I3D = {"backbone": "i3d", "i3d_width": 0.0625, "clip_length": 3, "clip_stride": 2,
       "clip_target": 1}


@pytest.mark.parametrize(
    ("backbone", "length", "stride", "target"),
    [("i3d", 8, 2, 4), ("i3d", 4, 3, 0), ("i3d", 1, 1, 0), ("resnet18", 8, 2, 4)],
)
def test_the_ring_holds_the_pipelines_clips(backbone, length, stride, target):
    config = CvlsConfig(backbone=backbone, clip_length=length, clip_stride=stride,
                        clip_target=target)
    frames = [jnp.full((1, 1, 3), v, jnp.uint8) for v in range(30)]
    state = config.window.start(frames[0], jnp.zeros((1, 4)))
    delay = config.window.delay
    assert delay == (0 if backbone == "resnet18" else (length - 1 - target) * stride)
    predictions = 0
    for frame in frames[1:] + frames[-1:] * delay:
        state = push(state, frame)
        clip, number = config.window.clip(state), config.window.target_frame(state)
        if number >= 0:
            wanted = clip_numbers(config.window, int(number), 30)
            np.testing.assert_array_equal(clip[:, 0, 0, 0], wanted)
            predictions += 1
    assert predictions == 30 - (delay == 0)


def predictions_of(model, variables):
    """{frame: prediction} for a video of all `FRAMES`."""
    step = quick_jit(model.step)
    state = quick_jit(model.start)(variables, FRAMES[0], prompt(make_batch(), 0))
    predictions = {}
    for frame in [*FRAMES[1:], *FRAMES[-1:].repeat(model.delay, axis=0)]:
        state, prediction = step(variables, state, frame)
        predictions[int(prediction.frame)] = prediction
    return predictions


def check_against_predict(model, variables, predict, predictions, numbers):
    batch = make_batch()
    clips = np.stack([FRAMES[clip_numbers(model.window, n, len(FRAMES))] for n in numbers])
    repeated = {name: np.repeat(value[:1], len(numbers), axis=0) for name, value in batch.items()}
    target = np.full(len(numbers), model.config.window.target, np.int32)
    wanted = predict(variables, {**repeated, "frames": clips, "target": target})
    for i, n in enumerate(numbers):
        np.testing.assert_allclose(predictions[n].logits, wanted.logits[i], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(predictions[n].scores, wanted.scores[i], rtol=1e-3)


def test_a_stream_predicts_as_predict_does(model, variables):
    predictions = predictions_of(model, variables)
    assert set(predictions) == {1, 2, 3, 4}
    check_against_predict(model, variables, quick_jit(model.predict), predictions, [1, 4])


@pytest.mark.slow  # I3D compiles for 20 s
def test_a_stream_of_clips_predicts_as_predict_does():
    model = build(**I3D)
    assert model.delay == 2
    variables = quick_jit(model.init)(jax.random.key(0), make_batch(length=3))
    predictions = predictions_of(model, variables)
    assert set(predictions) == {-1, 0, 1, 2, 3, 4}
    check_against_predict(model, variables, quick_jit(model.predict), predictions, [0, 4])


def test_many_streams_at_once(model, variables):
    batch = make_batch()
    prompts = {name: batch[name] for name in ("tokens", "tokens_valid")}
    states = quick_jit(jax.vmap(model.start, (None, 0, 0)))(variables, FRAMES[:2], prompts)
    _, both = quick_jit(jax.vmap(model.step, (None, 0, 0)))(variables, states, FRAMES[2:4])
    start, step = quick_jit(model.start), quick_jit(model.step)
    for i in range(2):
        _, one = step(variables, start(variables, FRAMES[i], prompt(batch, i)), FRAMES[2 + i])
        np.testing.assert_allclose(both.logits[i], one.logits, rtol=1e-3, atol=1e-4)
