"""A tiny rcf: eight videos together as alone, and one program for a video of any length."""

import collections
import itertools

import jax
import numpy as np
import pytest
import standin_vis

from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.input_pipeline.settings import ClipConfig
from vseg_jax.models.rcf import Rcf, RcfConfig

SIZE = (32, 48)
TINY = RcfConfig(
    categories=3, depth=18, width=4, channels=16, heads=2, hidden=16, encoder_layers=1,
    decoder_layers=1, queries=4, mask_channels=8, dropout=0.0,
    fire=0.6,  # half of what the random network finds: its objects come and go
)


class Counted(Rcf):
    """Counts how often it is traced."""

    def __init__(self, config):
        super().__init__(config)
        self.traces = {"first_step": 0, "step": 0}

    def first_step(self, *inputs):
        self.traces["first_step"] += 1
        return super().first_step(*inputs)

    def step(self, *inputs):
        self.traces["step"] += 1
        return super().step(*inputs)


@pytest.fixture(scope="module")
def segmenter():
    model = Counted(TINY)
    return Segmenter(model, jax.jit(model.init)(jax.random.key(0), {}), categories=("a", "b", "c"),
                     clip=ClipConfig(height=SIZE[0], width=SIZE[1]))


def video(k, frames=7):
    """Squares: one moves, one disappears for a while and one comes late or leaves."""
    return np.roll(standin_vis.video(frames, SIZE, green=range(k % 4, k % 4 + 3))[0], 5 * k, axis=2)


def test_eight_videos_together_are_eight_alone(segmenter):
    """The functions of a model are pure: `jax.vmap(model.step, in_axes=(None, 0, 0))` of variables,
    states and frames is the step of many videos. `start_many` is that as a session:

        session = segmenter.start_many([video[0] for video in videos])
        segmentations = session.step([video[1] for video in videos])   # one per video
    """
    videos = [video(k) for k in range(8)]
    before = dict(segmenter.model.traces)
    many = segmenter.start_many([f[0] for f in videos])
    alone = [segmenter.start(f[0]) for f in videos]
    predictions = [many.first]
    for t in range(1, len(videos[0])):
        together = many.push([f[t] for f in videos])
        predictions.append(many.collect(together))
        for k, session in enumerate(alone):
            single = session.push([videos[k][t]])
            for name in ("logits", "probabilities", "scores"):   # of all slots, also empty ones
                np.testing.assert_allclose(getattr(together, name)[k], getattr(single, name)[0],
                                           atol=1e-4, err_msg=name)
            np.testing.assert_array_equal(together.identities[k], single.identities[0])
            [one] = session.collect(single)
            both = predictions[t][k]
            assert (both.ids, both.categories) == (one.ids, one.categories)
            np.testing.assert_allclose(both.probability, one.probability, atol=1e-4)
    for k, session in enumerate(alone):
        assert many.first[k].ids == session.first.ids
        for ours, theirs in zip(many.summary()[k], session.summary(), strict=True):
            assert (ours.id, ours.category, ours.frames) == (
                theirs.id, theirs.category, theirs.frames)
            assert ours.score == pytest.approx(theirs.score, abs=1e-5)
    traces = {n: segmenter.model.traces[n] - before[n] for n in before}
    assert traces == {"first_step": 2, "step": 2}, "one program for eight streams, one for one"
    ids = [[prediction[k].ids for prediction in predictions] for k in range(8)]
    assert all(len({len(found) for found in video_ids}) > 1 for video_ids in ids), (
        "objects come and go")
    assert set(itertools.chain(*itertools.chain(*ids))) <= set(range(1, TINY.queries + 1))


def test_hundreds_of_frames_are_one_program_and_a_state_of_one_size(segmenter):
    frames = np.concatenate([video(k) for k in range(6)])   # 42, repeated
    session = segmenter.start(frames[0])
    seen = [session.first.ids, session.step(frames[1]).ids]

    def held():
        return jax.tree.map(lambda x: (x.shape, x.dtype), session._state)

    before = held(), dict(segmenter.model.traces), len(jax.live_arrays())
    for t in range(2, 402):
        prediction = session.step(frames[t % len(frames)])
        seen.append(prediction.ids)
    assert before == (held(), segmenter.model.traces, len(jax.live_arrays()))
    frames_of = collections.Counter(itertools.chain(*seen))
    assert {track.id: track.frames for track in session.summary()} == frames_of
    assert max(frames_of.values()) > 200
    # Detections depend on the frame and the one before it.
    young = segmenter.start(frames[400 % len(frames)])
    later = young.step(frames[401 % len(frames)])
    assert len(later.ids) > 0 and prediction.frame == 401
    np.testing.assert_allclose(later.probability, prediction.probability, atol=1e-5)
