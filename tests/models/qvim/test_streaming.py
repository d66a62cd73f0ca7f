import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import clip_numbers, prompt, quick_jit
from tiny_qvim import build, make_batch

from vseg_jax.layers.window import push
from vseg_jax.models.qvim import QvimConfig
from vseg_jax.models.qvim.interaction import Query

FRAMES = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), np.uint8)
NO_QUERY = Query(jnp.zeros((1, 1, 1)), jnp.ones((1, 1), bool), jnp.zeros((1, 1)))


@pytest.mark.parametrize(
    ("length", "stride", "target"), [(8, 2, 4), (3, 1, 2), (4, 3, 0), (1, 1, 0)]
)
def test_the_ring_holds_the_pipelines_clips(length, stride, target):
    config = QvimConfig(clip_length=length, clip_stride=stride, clip_target=target)
    video = np.arange(40, dtype=np.uint8)
    frames = [jnp.full((1, 1, 3), v, jnp.uint8) for v in video]
    state = config.window.start(frames[0], NO_QUERY)
    assert state.frames.shape[0] == (length - 1) * stride + 1
    assert config.window.target_frame(state) == -config.window.delay
    predictions = 0
    for frame in frames[1:] + frames[-1:] * config.window.delay:
        state = push(state, frame)
        number = int(config.window.target_frame(state))
        if number >= 0:
            seen = config.window.clip(state)[:, 0, 0, 0]
            np.testing.assert_array_equal(seen, clip_numbers(config.window, number, 40))
            predictions += 1
    assert predictions == 40 - (config.window.delay == 0)


@pytest.fixture(scope="module")
def start(model):
    return quick_jit(model.start)


@pytest.fixture(scope="module")
def step(model):
    return quick_jit(model.step)


def test_a_stream_predicts_as_predict_does(model, variables, predict, start, step):
    assert model.delay == 2
    batch = make_batch()
    state = start(variables, FRAMES[0], prompt(batch, 0))
    predictions = {}
    for frame in [*FRAMES[1:], FRAMES[-1], FRAMES[-1]]:
        state, prediction = step(variables, state, frame)
        predictions[int(prediction.frame)] = prediction
    assert set(predictions) == {-1, *range(7)}
    numbers = [0, 1, 4, 6]  # as many as a batch holds, the edges among them
    clips = np.stack([FRAMES[clip_numbers(model.window, n, 7)] for n in numbers])
    repeated = {name: np.repeat(value[:1], 4, axis=0) for name, value in batch.items()}
    wanted = predict(variables, {**repeated, "frames": clips})
    for i, n in enumerate(numbers):
        np.testing.assert_allclose(predictions[n].logits, wanted.logits[i], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(predictions[n].scores, wanted.scores[i], rtol=1e-3)


def test_many_streams_at_once(model, variables, start, step):
    batch = make_batch()
    prompts = [prompt(batch, 0), prompt(batch, 1)]
    together = {name: np.stack([p[name] for p in prompts]) for name in prompts[0]}
    states = quick_jit(jax.vmap(model.start, (None, 0, 0)))(variables, FRAMES[:2], together)
    _, both = quick_jit(jax.vmap(model.step, (None, 0, 0)))(variables, states, FRAMES[2:4])
    for i in range(2):
        state = start(variables, FRAMES[i], prompts[i])
        _, one = step(variables, state, FRAMES[2 + i])
        np.testing.assert_allclose(both.logits[i], one.logits, rtol=1e-3, atol=1e-4)


def test_the_step_exports_with_its_memory(model, variables, start, step):
    batch = make_batch()
    state = start(variables, FRAMES[0], prompt(batch, 0))
    leaves, tree = jax.tree.flatten(state)

    def program(leaves, frame):
        state, prediction = model.step(variables, jax.tree.unflatten(tree, leaves), frame)
        return jax.tree.leaves(state), prediction.logits

    exported = jax.export.export(quick_jit(program))(leaves, FRAMES[1])
    again = jax.export.deserialize(exported.serialize())
    after, logits = again.call(leaves, FRAMES[1])
    wanted_state, wanted = step(variables, state, FRAMES[1])
    np.testing.assert_allclose(logits, wanted.logits, rtol=1e-3, atol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, after[:2], jax.tree.leaves(wanted_state)[:2])


def test_without_delay_the_first_frame_is_predicted_by_predict_window(variables):
    model = build(clip_target=2)
    batch = make_batch()
    state = jax.eval_shape(model.start, variables, FRAMES[0], prompt(batch, 0))
    assert model.delay == 0
    logits = jax.eval_shape(lambda v, s: model.predict_window(v, s).logits, variables, state)
    assert logits.shape == (1, 32, 32)
