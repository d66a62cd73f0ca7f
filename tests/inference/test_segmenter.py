"""Segmenters with the stand-in model: streams predict as clips do, memory and programs stay."""


import numpy as np
import pytest
import standin
from long_video import last_prediction

from vseg_jax.inference.geometry import to_original
from vseg_jax.inference.segmentation import Segmentation
from vseg_jax.input_pipeline.clips import clip_frames
from vseg_jax.input_pipeline.transforms import plain_geometry


@pytest.fixture(scope="module")
def segmenter():
    return standin.segmenter()


def clip_predictions(frames, query):
    """Probabilities of each frame from the model's `predict` on the loader's clips."""
    clip, model = standin.CLIP, standin.Standin()
    geometry = plain_geometry(*frames.shape[1:3], clip)
    tokens, valid = standin.tokenizer().encode(query)
    small = np.stack([geometry.frame(f) for f in frames])
    out = []
    for t in range(len(frames)):
        window = small[clip_frames(t, len(frames), clip.length, clip.stride, clip.target)]
        batch = {"frames": window[None], "tokens": tokens[None], "tokens_valid": valid[None],
                 "target": np.array([1])}
        logits = np.asarray(model.predict(standin.variables(), batch).logits)[0, 0]
        out.append(1 / (1 + np.exp(-to_original(logits, geometry.affine, frames.shape[1:3]))))
    return np.stack(out)


@pytest.mark.parametrize("number", [1, 2, 7])
def test_a_stream_predicts_every_frame_as_its_clip(segmenter, number):
    frames, truth = standin.square_frames(number)
    predictions = list(segmenter.segment(frames, "red"))
    assert [a.frame for a in predictions] == list(range(number))
    np.testing.assert_allclose([a.probability[0] for a in predictions],
                               clip_predictions(frames, "red"), atol=1e-5)
    for t, prediction in enumerate(predictions):
        assert prediction.image is frames[t] or (prediction.image == frames[t]).all()
        found = prediction.masks[0]
        assert (found & (truth[t] == 1)).sum() / (found | (truth[t] == 1)).sum() > 0.5
        assert prediction.scores.shape == (1,) and (prediction.index == found).all()


def test_a_session_returns_none_until_a_segmentation_is_due(segmenter):
    frames, _ = standin.square_frames(4)
    session = segmenter.start(frames[0], query="blue")
    assert session.first is None
    late = [session.step(f) for f in frames[1:]]
    assert [a.frame for a in late] == [0, 1, 2]
    assert [a.frame for a in session.finish()] == [3]
    assert session.finish() == []
    with pytest.raises(ValueError, match="finished"):
        session.step(frames[0])


def test_without_delay_the_first_frame_has_its_own_prediction():
    frames, _ = standin.square_frames(3)
    segmenter = standin.segmenter(delay=0)
    assert segmenter.start(frames[0], "red").first.frame == 0
    assert [a.frame for a in segmenter.segment(frames, "red")] == [0, 1, 2]


def test_streams_together_are_streams_alone(segmenter):
    first, _ = standin.square_frames(5, seed=1)
    second, _ = standin.square_frames(5, size=(30, 20), seed=2)   # of another size
    session = segmenter.start_many([first[0], second[0]], ["red", "the blue square"])
    predictions = [session.step([a, b]) for a, b in zip(first[1:], second[1:], strict=True)]
    predictions += session.finish()
    for k, (frames, query) in enumerate([(first, "red"), (second, "the blue square")]):
        for together, alone in zip(predictions, segmenter.segment(frames, query), strict=True):
            assert together[k].frame == alone.frame
            np.testing.assert_allclose(together[k].probability, alone.probability, atol=1e-6)
    with pytest.raises(ValueError, match="1 frames for 2 streams"):
        segmenter.start_many([first[0], second[0]], ["red", "red"]).step([first[1]])
    with pytest.raises(ValueError, match="2 queries for 1 stream; give one per stream"):
        segmenter.start_many([first[0]], ["red", "blue"])


def test_a_long_video_compiles_once_and_keeps_memory_flat(segmenter):
    list(segmenter.segment(standin.square_frames(3)[0], "red"))
    before = dict(standin.TRACES)
    frame = standin.square_frames(1)[0][0]
    last_prediction(lambda video: segmenter.segment(video, "red"),
                    [np.roll(frame, t, axis=1) for t in range(32)])
    assert before == standin.TRACES, "no new trace for another video, length or query"


def test_messages_about_bad_frames_and_queries_say_what_is_wanted(segmenter):
    frames, _ = standin.square_frames(2)
    with pytest.raises(ValueError, match="no frame"):
        segmenter.segment([], "red")
    with pytest.raises(ValueError, match="has no word"):
        segmenter.segment(frames, "  ")
    for query in (["red"], b"red", 5):
        with pytest.raises(ValueError, match=r"the query is .*; give one referring expression, a"):
            segmenter.check_prompt(query, None)
    with pytest.raises(ValueError, match=r"frame 0 is float32 \(24, 32, 3\); frames are uint8"):
        segmenter.segment(frames.astype(np.float32), "red")
    with pytest.raises(ValueError, match=r"frame 1 is uint8 \(24, 32\); frames are uint8"):
        list(segmenter.segment([frames[0], frames[0, ..., 0]], "red"))
    with pytest.raises(ValueError, match=r"frame 1 is 31 x 24, those before it are 32 x 24"):
        list(segmenter.segment([frames[0], frames[1][:, 1:]], "red"))
    with pytest.raises(ValueError, match="there is no video file"):
        segmenter.segment("nowhere.mp4", "red")
    with pytest.raises(ValueError, match=r"the video is of type int; .* vseg_jax\.media\.Camera"):
        segmenter._predictions(0, "red", {}, None, None, False)


def test_a_long_query_is_cut_with_a_warning_that_names_the_rest(segmenter):
    frames, _ = standin.square_frames(2)
    with pytest.warns(UserWarning, match="cut off: 'that moves'"):
        cut = list(segmenter.segment(frames, "the red square there that moves"))
    np.testing.assert_array_equal(
        cut[0].probability, next(segmenter.segment(frames, "the red square there")).probability)


def test_a_frame_of_one_pixel_is_a_frame(segmenter):
    pixel = np.full((3, 1, 1, 3), (250, 10, 10), np.uint8)
    predictions = list(segmenter.segment(pixel, "red"))
    assert len(predictions) == 3
    assert predictions[0].masks.shape == (1, 1, 1) and predictions[0].masks.all()


def test_where_objects_overlap_the_more_probable_wins():
    probability = np.array([[[0.9, 0.6, 0.1]], [[0.2, 0.8, 0.1]]], np.float32)
    prediction = Segmentation(0, np.zeros((1, 3, 3), np.uint8), probability, np.ones(2, np.float32))
    assert prediction.index.tolist() == [[1, 2, 0]]
