"""Objects found without a prompt: identities, categories, audio in step with the frames."""

import dataclasses
import itertools

import numpy as np
import pytest
import standin_vis
from long_video import last_prediction

from vseg_jax.inference.segmentation import Segmentation, Track
from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.input_pipeline.audio import patch_ending_at

RATE = 16000


@pytest.fixture(scope="module")
def segmenter():
    return standin_vis.segmenter()


def tone(seconds, loudness=0.5):
    return (loudness * np.sin(np.arange(round(seconds * RATE)) * 0.3)).astype(np.float32)


def test_every_frame_has_its_objects_with_identity_and_category(segmenter):
    frames, truth = standin_vis.video()
    predictions = segmenter.segment(frames)
    found = list(predictions)
    assert [a.frame for a in found] == list(range(6)), "the first frame is predicted too"
    assert [a.ids for a in found] == [(1, 2), (1, 2), (1,), (1,), (1, 4), (1, 4)]
    assert found[0].categories == ("square", "big_box") and found[2].categories == ("square",)
    for prediction, image, mask in zip(found, frames, truth, strict=True):
        wanted = np.where((mask == 2) & (prediction.frame > 1), 4, mask)
        assert (prediction.image == image).all() and (prediction.index == wanted).all()
        assert (prediction.masks == (wanted == np.array(prediction.ids)[:, None, None])).all()
        np.testing.assert_allclose(prediction.scores, 0.75)
    summary = predictions.summary()
    assert [(t.id, t.category, t.frames) for t in summary] == [
        (1, "square", 6), (4, "big_box", 2)]
    assert summary[0].score == pytest.approx(0.75)


def test_frames_of_another_size_are_resized_to_the_clips(segmenter):
    frames, truth = standin_vis.video(size=(48, 64))
    for prediction, mask in zip(segmenter.segment(frames), truth, strict=True):
        assert prediction.probability.shape[1:] == (48, 64)
        assert ((prediction.index > 0) == (mask > 0)).mean() > 0.97
    empty = next(segmenter.segment(frames[:1] * 0))
    assert empty.ids == empty.values == empty.categories == () and not empty.index.any()
    assert empty.masks.shape == (0, 48, 64)


def test_the_models_threshold_makes_the_masks():
    frames, _ = standin_vis.video(1)
    low, high = (next(standin_vis.segmenter(mask_threshold=t).segment(frames))
                 for t in (0.005, 0.999))
    assert low.masks[0].mean() > 0.8 and not high.masks[0].any()
    assert (low.probability == high.probability).all()


def test_identities_beyond_eight_bits():
    frames, truth = standin_vis.video(2)
    predictions = list(standin_vis.segmenter(first=400).segment(frames))
    assert [a.ids for a in predictions] == [(401, 402)] * 2
    assert predictions[0].values == predictions[1].values == (147, 148)
    assert (predictions[1].index == np.array([0, 147, 148])[truth[1]]).all()
    assert predictions[1].masks.sum() == (truth[1] > 0).sum()
    for ids, values in (((3, 254, 257), (3, 254, 4)), ((508, 254, 762, 1), (2, 254, 3, 1)),
                        (tuple(range(1, 258)), (*range(1, 255), 0, 0, 0))):
        nothing = np.zeros((len(ids), 1, 1), np.float32)
        found = Segmentation(0, np.zeros((1, 1, 3), np.uint8), nothing, nothing[:, 0, 0], ids=ids)
        assert found.values == values


def test_streams_together_are_streams_alone(segmenter):
    videos = [standin_vis.video(green=range(k)) for k in (0, 3)]
    videos[1] = (videos[1][0][:, :20], videos[1][1][:, :20])   # of another size
    session = segmenter.start_many([f[0] for f, _ in videos])
    together = [session.first] + [session.step([f[t] for f, _ in videos]) for t in range(1, 6)]
    for k, (frames, _) in enumerate(videos):
        alone = segmenter.segment(frames)
        for many, one in zip(together, alone, strict=True):
            assert (many[k].ids, many[k].categories) == (one.ids, one.categories)
            np.testing.assert_allclose(many[k].probability, one.probability, atol=1e-6)
        assert session.summary()[k] == alone.summary()
    with pytest.raises(ValueError, match="0 first frames"):
        segmenter.start_many([])


def test_audio_is_in_step_with_the_frames():
    audio_model = standin_vis.segmenter(audio=True)
    frames, _ = standin_vis.video(5, green=range(5))
    quiet, loud = np.zeros(RATE, np.float32), tone(1)
    session = audio_model.start(frames[0], audio=quiet)
    predictions = [session.first, *(session.step(f, audio=s) for f, s in zip(
        frames[1:], (quiet, loud, np.zeros(0), quiet), strict=True))]
    assert [a.categories[-1] for a in predictions] == [
        "square", "square", "big_box", "big_box", "square"], "the recent samples are kept"
    session = audio_model.start(frames[0], audio=loud)
    assert session.first.categories[-1] == "big_box"
    # A frame without audio drops the recent samples.
    assert session.step(frames[1]).categories[-1] == "square"
    together = audio_model.start_many(frames[[0, 0, 0]], audio=[loud, None, quiet])
    assert [a.categories[-1] for a in together.first] == ["big_box", "square", "square"]
    assert [a.categories[-1] for a in together.step(frames[[1, 1, 1]], audio=[None, loud, None])
            ] == ["square", "big_box", "square"]


def test_a_stream_gets_the_patches_of_a_training_sample():
    """They are those of `vseg_jax.input_pipeline.audio`, however the audio is cut into chunks."""
    from vseg_jax.media.audio import AudioStream, split_by_frame

    random = np.random.default_rng(0)
    samples = random.uniform(-1, 1, 2 * RATE).astype(np.float32)
    pieces = np.split(samples, [3, 5000, 5001, 20000])
    for chunks in ([samples], pieces):
        audio_stream, fps = AudioStream(), 7.3
        for t, now in enumerate(itertools.islice(split_by_frame(chunks, fps), 20)):   # 2.7 s
            patch, valid = audio_stream.push(now)
            np.testing.assert_array_equal(patch, patch_ending_at(samples, (t + 1) / fps))
            assert valid
    assert not audio_stream.push(None)[1]


def test_a_long_video_compiles_one_step_and_keeps_memory_flat():
    audio_model = standin_vis.segmenter(audio=True)
    frames, _ = standin_vis.video(6)
    second = tone(1)
    list(audio_model.segment(frames, audio=[second] * 6))
    before = dict(standin_vis.TRACES)
    last = last_prediction(
        lambda video: audio_model.segment(video, audio=itertools.repeat(second[:640])), frames)
    assert before == standin_vis.TRACES and last.ids[0] == 1 and last.ids[1] > 90


def test_prompts_are_refused(segmenter):
    frames, truth = standin_vis.video()
    for prompt, said in (({"mask": truth[0]}, "mask"), ({"query": "red"}, "query"),
                         ({"mask": truth[0], "query": "red"}, "query and mask")):
        with pytest.raises(ValueError, match=f"finds the objects .* by itself: leave out {said}"):
            segmenter.segment(frames, **prompt)
        with pytest.raises(ValueError, match="by itself"):
            segmenter.start(frames[0], **prompt)
    session = segmenter.start(frames[0])
    with pytest.raises(ValueError, match="by itself: leave out mask"):
        session.step(frames[1], mask=truth[1])
    with pytest.raises(ValueError, match="does not use audio; leave `audio` out"):
        session.step(frames[1], audio=np.zeros(5))
    with pytest.raises(ValueError, match="does not use audio"):
        segmenter.segment(frames, audio=[np.zeros(5)])
    with pytest.raises(ValueError, match="1 category names for a model of 2"):
        Segmenter(segmenter.model, segmenter.variables, clip=standin_vis.CLIP, categories=["x"])


@pytest.mark.parametrize(("samples", "said"), [
    (np.zeros((96, 64)), r"float64 \[96, 64\]; it must be float \[n\]"),
    (np.zeros(5, np.int16), r"int16 \[5\]; it must be float .*16000 Hz"),
    (np.array([0, np.nan]), "with non-finite values"),
])
def test_messages_about_bad_audio_say_what_is_wanted(samples, said):
    audio_model = standin_vis.segmenter(audio=True)
    frames, _ = standin_vis.video()
    with pytest.raises(ValueError, match=f"(?s)audio of frame 0 is .*{said}"):
        audio_model.start(frames[0], audio=samples)
    session = audio_model.start(frames[0], audio=tone(1))
    with pytest.raises(ValueError, match=said):
        session.step(frames[1], audio=samples)
    assert session.step(frames[1], audio=np.zeros(0)).frame == 1, "refused audio changes nothing"
    with pytest.raises(ValueError, match="2 audio arrays for 1 stream; give one per stream"):
        audio_model.start_many([frames[0]], audio=[tone(1)] * 2)
    with pytest.warns(UserWarning, match="no audio was given; the model gets silence"):
        list(audio_model.segment(frames))


def test_predictions_of_other_models_have_no_categories():
    prediction = Segmentation(0, np.zeros((2, 2, 3), np.uint8), np.ones((1, 2, 2), np.float32),
                          np.ones(1, np.float32))
    assert prediction.categories == () and prediction.values == prediction.ids == (1,)
    assert dataclasses.asdict(Track(1, "a", 0.5, 3)) == {
        "id": 1, "category": "a", "score": 0.5, "frames": 3}
