"""Parts of videos: which frames are read, when they are shown, and with which sound."""

import itertools

import numpy as np
import pytest
from PIL import Image

from vseg_jax.media.audio import audio_of_video, sound_of_video
from vseg_jax.media.excerpt import Part, is_camera, open_source
from vseg_jax.media.images import ImageFolder
from vseg_jax.media.video import SOUND_RATE, VideoWriter

pytest.importorskip("av")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Twelve frames of 0.1 s, each brighter than the one before, and a tone from 0.5 to 0.6 s."""
    path = tmp_path_factory.mktemp("excerpt") / "a.mp4"
    seconds = np.arange(round(1.2 * SOUND_RATE)) / SOUND_RATE
    tone = np.where((seconds >= 0.5) & (seconds < 0.6), np.sin(2 * np.pi * 440 * seconds) / 2, 0)
    with VideoWriter(path, 10.0, iter([np.stack([tone, tone]).astype(np.float32)])) as writer:
        for t in range(12):
            writer.add(np.full((32, 48, 3), 20 * t, np.uint8))
    return path


def brightness(frames):
    return [round(float(frame.mean()) / 20) for frame in frames]


@pytest.mark.parametrize(("part", "read"), [
    (Part(), range(12)), (Part(start=3), range(3, 12)), (Part(end=4), range(4)),
    (Part(every=5), (0, 5, 10)), (Part(2, 9, 3), (2, 5, 8)), (Part(10, 50), (10, 11)),
])
def test_the_frames_of_a_part(video, tmp_path, part, read):
    source = open_source(video, part=part)
    assert brightness(source) == list(read) == brightness(source), "it can be read again"
    assert source.length == len(read) and source.fps == pytest.approx(10 / part.every)
    np.testing.assert_allclose(
        source.times, [t / 10 for t in (*read, read[-1] + part.every)], atol=1e-3)
    assert [part.number(k) for k in range(len(read))] == list(read)
    assert [t for t in range(12) if part.index(t) is not None] == list(read)
    assert [part.index(t) for t in read] == list(range(len(read)))
    for t in range(12):
        Image.fromarray(np.full((8, 8, 3), 20 * t, np.uint8)).save(tmp_path / f"{5 * t}.png")
    images = open_source(tmp_path, 10.0, part)
    assert images.names == tuple(str(5 * t) for t in read) and brightness(images) == list(read)


def test_frames_are_scaled(video):
    frames = list(open_source(video, part=Part(size=(16, 20))))
    assert [frame.shape for frame in frames] == [(16, 20, 3)] * 12
    assert brightness(frames) == list(range(12))


def test_what_is_no_part(video, tmp_path):
    for settings, said in (({"start": -1}, "start is -1; frames are numbered from 0"),
                           ({"start": 5, "end": 5}, "end is 5 and start 5"), ({"end": 0}, "end is"),
                           ({"every": 0}, "every is 0; it must be at least 1")):
        with pytest.raises(ValueError, match=said):
            Part(**settings)
    with pytest.raises(ValueError, match=r"a\.mp4 has no frame 12, only 12 frames; give a smaller"):
        list(open_source(video, part=Part(12)))
    Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    with pytest.raises(ValueError, match="has no frame 1, only 1 frames"):
        open_source(tmp_path, part=Part(1))


def test_the_sound_of_a_part(video):
    """The model hears of each frame what came since the frame before it that was read."""
    part = open_source(video, part=Part(1, None, 2))   # frames 1, 3, ..., to 0.3, 0.5, ... seconds
    audio = audio_of_video(part)
    loud = [bool(np.abs(next(audio)).max() > 0.1) for _ in part]
    assert loud == [False, False, True, False, False, False]
    part = open_source(video, part=Part(4))
    sound = sound_of_video(part, begin=None)
    frames = iter(part)
    next(frames)
    tone = np.flatnonzero(np.abs(np.concatenate(list(sound), axis=1)[0]) > 0.1) / SOUND_RATE
    np.testing.assert_allclose([tone[0], tone[-1]], [0.1, 0.2], atol=0.03)
    assert list(itertools.islice(frames, 2))


def test_a_number_is_a_camera_unless_it_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_camera("0") and is_camera("12") and not is_camera("0.mp4") and not is_camera("-1")
    (tmp_path / "0").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "0" / "0.png")
    assert not is_camera("0") and isinstance(open_source("0"), ImageFolder)
