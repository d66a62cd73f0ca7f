"""Video files in and out: damage is reported, and nothing is half-written."""

import io
import struct
import subprocess
import sys
import wave

import numpy as np
import pytest

from vseg_jax.media.audio import sound_of_video
from vseg_jax.media.video import SOUND_RATE, Video, VideoWriter

av = pytest.importorskip("av")


def write(path, frames, fps=10.0):
    with VideoWriter(path, fps) as video:
        for frame in frames:
            video.add(frame)


def scene(number, size=(48, 64)):
    """A bright square that moves right, on a ramp."""
    frames = np.zeros((number, *size, 3), np.uint8)
    frames[..., 2] = np.linspace(0, 120, size[1], dtype=np.uint8)
    for t in range(number):
        frames[t, 4:16, 4 + t : 16 + t, 0] = 230
    return frames


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "scene.mp4"
    write(path, scene(40))
    return path


@pytest.mark.parametrize(("size", "fps"), [((48, 64), 29.97), ((33, 17), 0.5), ((1, 1), 240.0)])
def test_round_trip_of_any_size_and_rate(tmp_path, size, fps):
    path = tmp_path / "a.mp4"
    frames = scene(5, size) if size[0] > 40 else np.full((5, *size, 3), 90, np.uint8)
    write(path, frames, fps)
    video = Video(path)
    back = np.stack(list(video))
    even = tuple(s + s % 2 for s in size)
    assert back.shape == (5, *even, 3) and video.length == 5
    assert video.fps == pytest.approx(fps, rel=1e-3)
    difference = np.abs(back[:, : size[0], : size[1]].astype(int) - frames)
    assert difference.mean() < 6
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_a_video_that_stops_half_way_is_not_written(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"what was there before")
    with pytest.raises(ValueError, match="32 x 24, but the video is 64 x 48"), \
            VideoWriter(path, 10.0) as video:
        video.add(scene(1)[0])
        video.add(np.zeros((24, 32, 3), np.uint8))
    with pytest.raises(ValueError, match="no frame was added"), VideoWriter(path, 10.0):
        pass
    assert path.read_bytes() == b"what was there before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    with pytest.raises(ValueError, match="positive"):
        VideoWriter(path, 0.0)


def test_a_phone_held_upright_gives_upright_frames(video, tmp_path):
    data = bytearray(video.read_bytes())
    matrix = data.find(b"tkhd") + 4 + 40   # the track's display matrix, here a quarter turn right
    one = 1 << 16
    data[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 48 * one, 0, 1 << 30)
    (tmp_path / "turned.mp4").write_bytes(data)
    turned = next(iter(Video(tmp_path / "turned.mp4")))
    plain = next(iter(Video(video)))
    assert turned.shape == (64, 48, 3)
    np.testing.assert_array_equal(turned, np.rot90(plain, -1))


def test_a_truncated_video_yields_its_frames_with_a_warning(video, tmp_path):
    data = video.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: int(len(data) * 0.7)])   # the index is at the front
    with pytest.warns(UserWarning, match=r"cut\.mp4: only .* frames could be decoded.*cut off"):
        frames = list(Video(cut))
    assert 0 < len(frames) < 40
    np.testing.assert_array_equal(frames[0], next(iter(Video(video))))


def damaged(path, kind, numbers, to):
    """Writes a copy of a video in which packets of the picture or the sound are overwritten."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(**{kind: 0}) if p.size]
        places = [(packets[n].pos, packets[n].size) for n in numbers]
    for start, size in places:
        data[start:start + size] = b"\xff" * size
    to.write_bytes(data)
    return to


def test_damage_in_the_middle_loses_only_the_frames_that_it_hits(video, tmp_path):
    hurt = Video(damaged(video, "video", [15], tmp_path / "hurt.mp4"))
    with pytest.warns(UserWarning, match=r"hurt\.mp4: only 39 of 40 frames .*in between are dam"):
        frames = list(hurt)
    whole = Video(video)
    np.testing.assert_array_equal(frames[14], list(whole)[14])
    assert len(frames) == 39 and hurt.flaw.startswith("only 39 of 40") and not whole.flaw
    assert hurt.times == whole.times[:15] + whole.times[16:]   # each at its own time


def test_damage_in_the_sound_is_silent(tmp_path):
    tone = np.tile(np.sin(np.arange(2 * SOUND_RATE) * 0.06).astype(np.float32), (2, 1))
    with VideoWriter(tmp_path / "a.mp4", 10.0, iter([tone])) as writer:
        for frame in scene(20):
            writer.add(frame)
    hurt = Video(damaged(tmp_path / "a.mp4", "audio", range(40, 50), tmp_path / "hurt.mp4"))
    next(iter(hurt))
    with pytest.warns(UserWarning, match="some of the audio of .*the overlay has silence there"):
        sound = np.concatenate(list(sound_of_video(hurt)), axis=1)[:, :2 * SOUND_RATE]
    loud = np.abs(sound[0]).reshape(20, -1).max(axis=1) > 0.1   # of each tenth of a second
    assert loud.tolist() == [True] * 9 + [False] + [True] * 10


def test_messages_name_files_that_are_not_videos(video, tmp_path):
    def fails(name, data, match):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=match):
            list(Video(tmp_path / name))

    with pytest.raises(ValueError, match=r"there is no video file .*gone\.mp4"):
        Video(tmp_path / "gone.mp4")
    fails("empty.mp4", b"", r"empty\.mp4 is empty \(0 bytes\)")
    fails("text.mp4", b"this is no video" * 100, r"text\.mp4 cannot be opened as a video \(.*\)")
    data = video.read_bytes()
    fails("head.mp4", data[:200], r"head\.mp4 (cannot be opened|holds no)")
    start = data.find(b"mdat") + 4
    fails("noise.mp4", data[:start] + bytes(len(data) - start), r"no frame of .*noise\.mp4 can be")
    audio = io.BytesIO()
    with wave.open(audio, "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(800))
    fails("sound.wav", audio.getvalue(), r"sound\.wav holds no video")


def test_frames_that_change_size_are_an_error(tmp_path):
    frames = [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 10, 3), np.uint8)]
    with open(tmp_path / "two.mjpeg", "wb") as file:
        import cv2

        for frame in frames:
            file.write(cv2.imencode(".jpg", frame)[1].tobytes())
    with pytest.raises(ValueError, match=r"frame 1 of .*two\.mjpeg is 10 x 8, those before it are"):
        list(Video(tmp_path / "two.mjpeg"))


def test_without_pyav_the_extra_is_named(video):
    script = ("import sys; sys.modules['av'] = None\n"
              "from vseg_jax.media.video import Video\n"
              f"try: Video({str(video)!r})\nexcept ValueError as error: print(error)")
    done = subprocess.run([sys.executable, "-c", script], text=True, capture_output=True,
                          check=True)
    assert "pip install 'vseg_jax[video]'" in done.stdout


def test_the_package_alone_imports_no_jax():
    script = ("import sys, vseg_jax; assert 'jax' not in sys.modules and 'load' in dir(vseg_jax)\n"
              "import vseg_jax.metrics.a2d; assert 'jax' not in sys.modules")
    subprocess.run([sys.executable, "-c", script], check=True)
