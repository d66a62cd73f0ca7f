"""Streams that end and join at different times, and sessions that start again: in the same
programs, with the predictions of each stream alone."""

import jax
import numpy as np
import pytest
import standin
import standin_vis
import standin_vos

from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.models.swiftnet import Swiftnet, SwiftnetConfig

SIZE = (24, 32)


def swiftnet():
    model = Swiftnet(SwiftnetConfig(depth=18, width=4, objects=2, every=2, capacity=2, share=0.3))
    return Segmenter(model, jax.jit(model.init)(jax.random.key(0), {}))


def run_in_two_places(segmenter, videos, prompts, name):
    """The predictions of each video; the first two start together, each other one takes the place
    of one that is over."""
    prompted = prompts[0] is not None
    session = segmenter.start_many(
        [v[0] for v in videos[:2]], **({name: prompts[:2]} if prompted else {}))
    found = [[] for _ in videos]
    running, position, waiting = [0, 1], [1, 1], list(range(2, len(videos)))

    def keep(predictions):
        for place, prediction in enumerate(predictions or []):
            if prediction is not None:
                found[running[place]].append(prediction)

    keep(session.first)
    while any(len(found[k]) < len(videos[k]) for k in running):
        frames = [videos[k][t] if t < len(videos[k]) else None
                  for k, t in zip(running, position, strict=True)]
        keep(session.step(frames))
        position = [t + 1 for t in position]
        for place, k in enumerate(running):
            if len(found[k]) == len(videos[k]) and waiting and position[place] > len(videos[k]):
                running[place] = waiting.pop(0)
                position[place] = 1
                starts, given = [None, None], [None, None]
                starts[place] = videos[running[place]][0]
                given[place] = prompts[running[place]]
                keep(session.join(starts, **({name: given} if prompted else {})))
    return found


def same(together, alone, tolerance=1e-6):
    assert [p.frame for p in together] == [p.frame for p in alone]
    for one, other in zip(together, alone, strict=True):
        assert (one.ids, one.categories, one.values) == (other.ids, other.categories, other.values)
        assert (one.image == other.image).all()
        np.testing.assert_allclose(one.probability, other.probability, atol=tolerance)
        np.testing.assert_allclose(one.scores, other.scores, atol=tolerance)


@pytest.mark.parametrize(("build", "tolerance"), [(standin_vos.segmenter, 1e-6), (swiftnet, 1e-4)])
def test_videos_of_masks_end_and_join_at_different_times(build, tolerance):
    segmenter, lengths = build(), (3, 6, 4, 2)
    videos = [standin.square_frames(n, SIZE, seed=n) for n in lengths]
    frames, masks = [f for f, _ in videos], [m[0] for _, m in videos]
    masks[2] = np.where(masks[2] == 1, 1, 0)
    together = run_in_two_places(segmenter, frames, masks, "masks")
    for found, video, mask in zip(together, frames, masks, strict=True):
        same(found, list(segmenter.segment(video, mask=mask)), tolerance)


@pytest.mark.parametrize("delay", [0, 1])
def test_videos_of_queries_end_and_join_at_different_times(delay):
    segmenter = standin.segmenter(delay)
    sizes, queries = (SIZE, (30, 20), SIZE, (16, 16)), ["red", "blue", "the blue square", "red"]
    videos = [standin.square_frames(n, size, seed=n)[0]
              for n, size in zip((2, 5, 1, 3), sizes, strict=True)]
    together = run_in_two_places(segmenter, videos, queries, "queries")
    for found, video, query in zip(together, videos, queries, strict=True):
        same(found, list(segmenter.segment(video, query)))


def test_videos_without_prompts_end_and_join_at_different_times():
    segmenter = standin_vis.segmenter()
    videos = [standin_vis.video(n)[0] for n in (3, 6, 4)]
    together = run_in_two_places(segmenter, videos, [None] * 3, "queries")
    for found, video in zip(together, videos, strict=True):
        same(found, list(segmenter.segment(video)))


def test_the_summary_of_a_stream_that_has_ended_stays():
    segmenter, frames = standin_vis.segmenter(), standin_vis.video(6)[0]
    session = segmenter.start_many(frames[[0, 0]])
    session.step(list(frames[[1, 1]]))
    for t in (2, 3):
        session.step([None, frames[t]])
    alone = segmenter.segment(frames[:2])
    list(alone)
    assert session.summary()[0] == alone.summary() != session.summary()[1]
    session.join([frames[0], None])
    assert [track.frames for track in session.summary()[0]] == [1, 1]


def test_ending_and_joining_compile_nothing():
    segmenter = standin_vos.segmenter()
    frames, truth = standin.square_frames(4, SIZE)
    session = segmenter.start_many(frames[[0, 0]], masks=truth[[0, 0]])
    session.step(list(frames[[1, 1]]))
    before = dict(standin_vos.TRACES)
    session.step([None, frames[2]])
    [joined, none] = session.join([frames[0], None], masks=[truth[0], None])
    assert none is None and joined.frame == 0 and (joined.index == truth[0]).all()
    [first, second] = session.step(list(frames[[1, 3]]))
    assert (first.frame, second.frame) == (1, 3)
    session.reset(frames[[0, 1]], mask=truth[[0, 1]])
    session.step(list(frames[[1, 2]]))
    assert before == standin_vos.TRACES


def test_a_reset_with_fewer_objects_compiles_nothing():
    frames, truth = standin.square_frames(2, SIZE)
    model = standin_vos.Follower(standin_vos.FollowerConfig(objects=5))
    session = Segmenter(model, standin_vos.variables()).start(frames[0], mask=truth[0])
    session.step(frames[1])
    before = dict(standin_vos.TRACES)
    session.reset(frames[0], mask=truth[0] == 1)
    second = session.step(frames[1])
    assert second.ids == (1,) and (second.index == (truth[1] == 1)).all()
    assert before == standin_vos.TRACES


def test_a_stream_with_more_objects_joins():
    segmenter = standin_vos.segmenter()
    frames, truth = standin.square_frames(5, SIZE)
    session = segmenter.start_many(frames[[0, 0]], masks=[truth[0] == 1, truth[0] == 2])
    session.step([None, frames[1]])
    session.join([frames[0], None], masks=[truth[0], None])
    for t in (1, 2):
        joined, other = session.step(list(frames[[t, t + 1]]))
        assert joined.ids == (1, 2) and (joined.index == truth[t]).all()
        assert other.ids == (1,) and (other.index == (truth[t + 1] == 2)).all()
    session.remove(1, stream=0)
    joined, _ = session.step(list(frames[[3, 4]]))
    assert joined.ids == (2,) and (joined.index == 2 * (truth[3] == 2)).all()


def test_what_cannot_end_or_join_is_named():
    segmenter = standin_vos.segmenter()
    frames, truth = standin.square_frames(4, SIZE)
    session = segmenter.start_many(frames[[0, 0]], masks=truth[[0, 0]])
    with pytest.raises(ValueError, match="stream 1 has not ended; give None as its frame"):
        session.join([None, frames[0]], masks=[None, truth[0]])
    with pytest.raises(ValueError, match=r"stream 0 gets no frame; leave out its mask"):
        session.step([None, frames[1]], [truth[1], None])
    session.step([None, frames[1]])
    with pytest.raises(ValueError, match="stream 0 has ended; `join` starts another one"):
        session.step(list(frames[[2, 2]]))
    with pytest.raises(ValueError, match="no frame was given"):
        session.join([None, None])
    with pytest.raises(ValueError, match="1 first frames for 2 streams"):
        session.join([frames[0]])
    with pytest.raises(ValueError, match="takes a mask prompt"):
        session.join([frames[0], None])
    with pytest.raises(ValueError, match=r"2 sizes \(31 x 24, 32 x 24\)"):
        session.join([frames[0][:, 1:].copy(), None], masks=[truth[0][:, 1:], None])
    pushed = session.push([None, frames[2]])
    with pytest.raises(ValueError, match="1 outputs of `push` have not been collected"):
        session.join([frames[0], None], masks=[truth[0], None])
    [none, second] = session.collect(pushed)
    assert none is None and (second.index == truth[2]).all(), "refusals changed nothing"
    queries = standin.segmenter().start_many(frames[[0, 0]], ["red", "red"])
    queries.step([None, frames[1]])
    with pytest.raises(ValueError, match="stream 0 joins without a query"):
        queries.join([frames[0], None], [None, None])
    alone = segmenter.start(frames[0], mask=truth[0])
    with pytest.raises(ValueError, match="frame 1 is <class 'NoneType'>; frames are uint8"):
        alone.step(None)


@pytest.mark.parametrize("delay", [0, 1])
def test_what_was_pushed_is_collected_before_anything_else(delay):
    frames, _ = standin.square_frames(4, SIZE)
    session = standin.segmenter(delay).start(frames[0], "red")
    pushed = session.push([frames[1]])
    for early in (lambda: session.step(frames[2]), session.finish,
                  lambda: session.reset(frames[0], "red")):
        with pytest.raises(ValueError, match="1 outputs of `push` have not been collected"):
            early()
    [second] = session.collect(pushed)
    found = [s for s in (session.first, second, session.step(frames[2]), *session.finish()) if s]
    same(found, list(standin.segmenter(delay).segment(frames[:3], "red")))


def test_a_reset_session_starts_again():
    frames, truth = standin.square_frames(4, SIZE)
    segmenter = standin_vos.segmenter()
    session = segmenter.start(frames[2], mask=truth[2])
    session.step(frames[3])
    session.remove(1)
    session.finish()
    with pytest.raises(ValueError, match="finished; start a new one, or reset it"):
        session.step(frames[3])
    with pytest.raises(ValueError, match="takes a mask prompt"):
        session.reset(frames[0])
    before = dict(standin_vos.TRACES)
    session.reset(frames[0], mask=truth[0])
    found = [session.first, *(session.step(f) for f in frames[1:])]
    same(found, list(segmenter.segment(frames, mask=truth[0])))
    assert before == standin_vos.TRACES
    late = standin.segmenter().start(frames[0], "red")
    late.step(frames[1])
    late.reset(frames[1], "blue")
    found = [late.step(frames[2]), *late.finish()]
    same(found, list(standin.segmenter().segment(frames[1:3], "blue")))
