"""The audio of videos: in step with the frames, whatever the container says, or missing."""

import itertools
import struct
import warnings

import numpy as np
import pytest
import standin_vis
from standin_vis import Finder, FinderConfig

from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.input_pipeline.audio import read_audio
from vseg_jax.media import audio
from vseg_jax.media.video import Video

av = pytest.importorskip("av")
FPS = 10


def write(path, samples=None, rate=16000, delay=0.0, frames=20, codec="pcm_s16le"):
    """Writes a video of a green square whose audio, `samples`, starts `delay` seconds late."""
    picture = np.zeros((24, 32, 3), np.uint8)
    picture[4:20, 4:20, 1] = 255
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=FPS)
        video.width, video.height, video.pix_fmt = 32, 24, "yuv420p"
        track = container.add_stream(codec, rate=rate, layout="stereo") \
            if samples is not None else None
        for _ in range(frames):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode())
        if track is not None and len(samples):
            kind, scaled = ("flt", samples) if codec == "pcm_f32le" else \
                ("s16", np.rint(samples * 32767).astype(np.int16))
            frame = av.AudioFrame.from_ndarray(np.repeat(scaled, 2)[None], format=kind,
                                               layout="stereo")
            frame.sample_rate, frame.pts = rate, round(delay * rate)
            container.mux(track.encode(frame))
            container.mux(track.encode())
    return path


@pytest.fixture(scope="module")
def samples():
    """Silence for a second, then a tone of 2.5 seconds, at 16 kHz."""
    tone = 0.5 * np.sin(np.arange(40000) * 0.3)
    return np.concatenate([np.zeros(16000), tone]).astype(np.float32)


def cut(path, frames):
    video = Video(path)
    return [samples for _, samples in
            itertools.islice(zip(video, audio.audio_of_video(video), strict=False), frames)]


def test_each_frame_gets_its_part_of_the_videos_audio(samples, tmp_path):
    path = write(tmp_path / "video.mkv", samples, frames=40)
    parts = cut(path, 40)
    assert {len(p) for p in parts[:35]} == {1600} and not any(len(p) for p in parts[35:])
    np.testing.assert_allclose(np.concatenate(parts), samples, atol=1e-4)
    np.testing.assert_array_equal(np.concatenate(parts), read_audio(path))
    assert not np.abs(parts[9]).any() and np.abs(parts[10]).max() > 0.4


def test_audio_that_starts_with_the_second_frame_or_has_another_rate(samples, tmp_path):
    late = cut(write(tmp_path / "late.mkv", samples, delay=0.1), 20)
    np.testing.assert_allclose(np.concatenate(late)[1600:], samples[:30400], atol=1e-4)
    assert not late[0].any() and len(late[0]) == 1600
    tone = 0.5 * np.sin(np.arange(96000) * 0.1).astype(np.float32)   # 764 Hz at 48 kHz
    parts = cut(write(tmp_path / "fine.mkv", tone, rate=48000), 20)
    wanted = 0.5 * np.sin(np.arange(32000) * 0.3)
    np.testing.assert_allclose(np.concatenate(parts)[100:31000], wanted[100:31000], atol=0.01)


def test_videos_without_audio_are_segmented_with_a_warning(samples, tmp_path):
    with_audio = Segmenter(Finder(FinderConfig(audio=True)), standin_vis.variables(),
                           clip=standin_vis.CLIP, categories=standin_vis.NAMES)
    normal = write(tmp_path / "normal.mkv", samples)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        names = [a.categories for a in with_audio.segment(normal)]
    assert names == [("square",)] * 10 + [("big_box",)] * 10, "it changes as the tone starts"
    low = write(tmp_path / "low.mkv", samples, rate=8000)
    high, unknown = tmp_path / "high.mkv", tmp_path / "unknown.mkv"
    broken = write(tmp_path / "broken.mkv", samples + np.float32(np.nan), codec="pcm_f32le")
    rates = struct.pack(">d", 16000), struct.pack(">d", 1e9)
    high.write_bytes(normal.read_bytes().replace(*rates))
    unknown.write_bytes(normal.read_bytes().replace(b"A_PCM/INT/LIT", b"A_XYZ/INT/LIT"))
    silent = write(tmp_path / "silent.mkv")
    for path, said in ((silent, "silent.mkv has no audio track; the model gets silence"),
                       (write(tmp_path / "empty.mkv", samples[:0]), "audio track without samples"),
                       (low, "low.mkv has audio with a sample rate of 8000 Hz; at least 16000"),
                       (high, "of 1000000000 Hz; .* at most 768000 are read"),
                       (unknown, "unknown.mkv has audio of a kind that cannot be decoded"),
                       (broken, "broken.mkv cannot be decoded further .non-finite samples")):
        with pytest.warns(UserWarning, match=said):
            predictions = list(with_audio.segment(path))
        assert [a.categories for a in predictions] == [("square",)] * 20


def test_a_model_without_audio_does_not_open_the_audio_track(samples, tmp_path):
    without = Segmenter(Finder(), standin_vis.variables(), clip=standin_vis.CLIP,
                        categories=standin_vis.NAMES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predictions = list(without.segment(write(tmp_path / "silent.mkv")))
    assert len(predictions) == 20


def test_gaps_in_a_recording_are_silent(tmp_path):
    path, tone = tmp_path / "gap.mkv", np.full((1, 3200), 16000, np.int16)
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=FPS)
        video.width, video.height, video.pix_fmt = 32, 24, "yuv420p"
        track = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for _ in range(10):
            picture = np.zeros((24, 32, 3), np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode())
        for start in (0, 9600):   # 0.2 s of tone, and again after 0.6 s
            frame = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16000, start
            container.mux(track.encode(frame))
        container.mux(track.encode())
    loud = [float(np.abs(part).max(initial=0)) > 0.1 for part in cut(path, 10)]
    assert loud == [True, True] + [False] * 4 + [True, True] + [False] * 2
