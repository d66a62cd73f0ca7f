import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_mmvt import build, make_batch
from tiny_models import clip_numbers, prompt, quick_jit

from vseg_jax.layers.window import push
from vseg_jax.models.mmvt import MmvtConfig, streaming
from vseg_jax.models.mmvt.network import Query

NO_QUERY = Query(jnp.zeros((1, 1, 1)), jnp.ones((1, 1), bool))


@pytest.mark.parametrize("motion", [True, False])
@pytest.mark.parametrize(("length", "stride", "target"), [(3, 1, 1), (7, 1, 3), (3, 4, 2)])
def test_the_ring_holds_the_pipelines_clips(motion, length, stride, target):
    """A frame has six channels: its number, and that of the previous frame for the flow."""
    config = MmvtConfig(
        clip_length=length, clip_stride=stride, clip_target=target, motion=motion
    )
    count, still = 20, 99   # `still`: the picture of no motion, with the last frame given again
    frames = [
        jnp.asarray([n] * 3 + [n - 1] * 3, jnp.uint8)[None, None] for n in range(1, count + 1)
    ]
    again = frames[-1].at[..., 3:].set(still)
    state = config.window.start(frames[0], NO_QUERY)
    late, predictions = config.window.delay, 0
    for frame in frames[1:] + [again] * late:
        state = push(state, frame)
        number = int(config.window.target_frame(state))
        if number < 0:
            continue
        wanted = clip_numbers(config.window, number, count)
        seen, flow = streaming.clip(config, state)
        np.testing.assert_array_equal(seen[:, 0, 0, 0], wanted + 1)
        if motion:  # the flow that leaves each frame came with the next one
            leaving = np.where(wanted == count - 1, still, wanted + 1)
            np.testing.assert_array_equal(flow[:, 0, 0, 0], leaving)
        else:
            assert flow is None
        predictions += 1
    assert predictions == count - (late == 0)


def test_a_stream_predicts_as_predict_does(model, variables, predict):
    random = np.random.default_rng(0)
    frames, flow = random.integers(0, 256, (2, 4, 32, 32, 3), np.uint8)
    batch = make_batch()
    # The picture of the flow from a frame to the next comes with the next.
    arriving = [np.concatenate([frames[n], flow[n - 1]], axis=-1) for n in range(4)]
    arriving += [np.concatenate([frames[3], flow[3]], axis=-1)] * 2
    state = quick_jit(model.start)(variables, arriving[0], prompt(batch))
    step, predictions = quick_jit(model.step), {}
    for frame in arriving[1:]:
        state, prediction = step(variables, state, frame)
        predictions[int(prediction.frame)] = prediction
    assert set(predictions) == {-1, 0, 1, 2, 3}
    numbers = [0, 3]  # the edges
    clips = np.stack([clip_numbers(model.window, n, 4) for n in numbers])
    repeated = {name: np.repeat(value[:1], 2, axis=0) for name, value in batch.items()}
    wanted = predict(variables, {**repeated, "frames": frames[clips], "flow": flow[clips]})
    for i, n in enumerate(numbers):
        np.testing.assert_allclose(predictions[n].logits, wanted.logits[i], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(predictions[n].scores, wanted.scores[i], rtol=1e-3)


def test_without_delay_the_first_frame_is_predicted_by_predict_window():
    model = build(clip_target=2, motion=False)
    batch = make_batch()
    assert model.delay == 0
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
    state = jax.eval_shape(model.start, shapes, batch["frames"][0, 0], prompt(batch))
    logits = jax.eval_shape(lambda v, s: model.predict_window(v, s).logits, shapes, state)
    assert logits.shape == (1, 32, 32)
