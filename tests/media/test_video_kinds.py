"""Videos of all kinds: codecs, uneven time stamps, mirrored and late streams, sound."""

import itertools
import struct
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from vseg_jax.media.audio import audio_of_video, sound_of_video
from vseg_jax.media.images import open_video
from vseg_jax.media.video import SOUND_RATE, Video, VideoWriter

av = pytest.importorskip("av")
SIZE = (48, 64)
UNEVEN = [0.0, 0.05, 0.1, 0.134, 0.168, 0.5, 1.2]   # a recorder's


def corner(t=0):
    """A picture whose upper left quarter is red, the more the later."""
    frame = np.full((*SIZE, 3), 40, np.uint8)
    frame[:24, :32] = 140 + 10 * t, 30, 30
    return frame


def write(path, times, codec="libx264", pixels="yuv420p", rate=10, tone=None, cover=False,
          **options):
    """Writes `corner(t)` at each of the times; the sound has a tone in tone[:2] of tone[2] seconds.
    """
    unit = Fraction(1, rate if path.suffix == ".avi" else 1000)
    with av.open(str(path), "w") as container:
        if cover:
            picture = container.add_stream("png")
            picture.width, picture.height, picture.pix_fmt = 8, 8, "rgb24"
            picture.disposition = av.stream.Disposition.attached_pic
        video = container.add_stream(codec, rate=rate, options=options)
        video.height, video.width, video.pix_fmt = *SIZE, pixels
        video.codec_context.time_base = unit
        track = container.add_stream("libopus" if path.suffix == ".webm" else "aac", rate=48000,
                                     layout="mono") if tone else None
        if cover:
            container.mux(picture.encode(
                av.VideoFrame.from_ndarray(np.zeros((8, 8, 3), np.uint8), format="rgb24")))
        for t, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(corner(t), format="rgb24")
            frame.pts, frame.time_base = round(time / unit), unit
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if track is not None:
            seconds = np.arange(round(48000 * tone[2])) / 48000
            samples = np.where((seconds >= tone[0]) & (seconds < tone[1]),
                               0.5 * np.sin(2 * np.pi * 440 * seconds), 0)
            frame = av.AudioFrame.from_ndarray(
                np.rint(samples * 32767).astype(np.int16)[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = 48000, 0
            container.mux(track.encode(frame))
            container.mux(track.encode())
    return path


def is_red(frame):
    """Where the red quarter is: (row, column) of the picture's halves."""
    halves = frame[..., 0].reshape(2, frame.shape[0] // 2, 2, -1).mean((1, 3))
    return divmod(int(halves.argmax()), 2)


@pytest.mark.parametrize(("name", "codec", "pixels", "options"), [
    ("a.webm", "libvpx-vp9", "yuv420p", {}), ("alpha.webm", "libvpx-vp9", "yuva420p", {}),
    ("hevc10.mp4", "libx265", "yuv420p10le", {"x265-params": "log-level=none"}),
    ("av1.mkv", "libsvtav1", "yuv420p10le", {"preset": "12"}), ("a.GIF", "gif", "rgb8", {}),
    ("a.apng", "apng", "rgba", {}), ("a.avi", "mpeg4", "yuv420p", {}),
    ("a.mkv", "ffv1", "yuv420p", {}), ("a.mov", "prores_ks", "yuv422p10le", {}),
])
def test_kinds_of_videos(tmp_path, name, codec, pixels, options):
    video = open_video(write(tmp_path / name, [0.0, 0.1, 0.2], codec, pixels, **options))
    frames = list(video)
    assert [frame.shape for frame in frames] == [(*SIZE, 3)] * 3
    for t, frame in enumerate(frames):
        assert np.abs(frame[8:16, 8:24].mean((0, 1)) - corner(t)[0, 0]).max() < 25
    np.testing.assert_allclose(video.times, [0, 0.1, 0.2, 0.3], atol=0.011)
    assert 9 < video.fps < 11


def test_an_animated_webp(tmp_path):
    pictures = [Image.fromarray(corner(t)) for t in range(3)]
    pictures[0].save(tmp_path / "a.webp", save_all=True, append_images=pictures[1:],
                     duration=[40, 300, 100], lossless=True)
    video = open_video(tmp_path / "a.webp")
    for t, frame in enumerate(video):
        np.testing.assert_array_equal(frame, corner(t))
    assert video.length == 3 and video.times == pytest.approx([0, 0.04, 0.34, 0.44])
    pictures[0].save(tmp_path / "one.webp", lossless=True)
    assert len(list(open_video(tmp_path / "one.webp"))) == 1
    (tmp_path / "no.webp").write_bytes(b"RIFF0000WEBP")
    with pytest.raises(ValueError, match=r"no\.webp cannot be opened as an image"):
        open_video(tmp_path / "no.webp")


@pytest.mark.parametrize(("name", "codec"), [("a.webm", "libvpx"), ("a.mp4", "libx264"),
                                             ("a.mkv", "libx264")])
def test_uneven_times_are_kept(tmp_path, name, codec):
    """A recorder's header tells no duration of frames, and 1000 frames per second."""
    video = Video(write(tmp_path / name, UNEVEN, codec, rate=1000 if "webm" in name else 10))
    with VideoWriter(tmp_path / "again.mp4", video.fps) as writer:
        for t, frame in enumerate(video):
            assert video.times[t:t + 2] == pytest.approx(UNEVEN[t:t + 2], abs=2e-3) or t == 6
            writer.add(frame, *video.times[t:t + 2])
    again = Video(tmp_path / "again.mp4")
    assert len(list(again)) == len(UNEVEN) and video.fps <= 120
    np.testing.assert_allclose(again.times[:-1], UNEVEN, atol=2e-3)


def test_frames_without_or_with_equal_times_follow_each_other(tmp_path):
    video = Video(write(tmp_path / "a.h264", [0.0, 0.1, 0.2]))   # a stream without time stamps
    assert len(list(video)) == 3
    assert (np.diff(video.times) > 0).all()
    with VideoWriter(tmp_path / "b.mp4", 10.0) as writer:
        for start in (0.0, 0.0, 0.1):
            writer.add(corner(), start)
    assert len(list(Video(tmp_path / "b.mp4"))) == 3


@pytest.mark.parametrize(("matrix", "place"), [
    ((1, 0, 0, 1), (0, 0)), ((-1, 0, 0, 1), (0, 1)), ((1, 0, 0, -1), (1, 0)),
    ((-1, 0, 0, -1), (1, 1)), ((0, 1, -1, 0), (0, 1)), ((0, -1, 1, 0), (1, 0)),
    ((0, 1, 1, 0), (0, 0)), ((0, -1, -1, 0), (1, 1)),
])
def test_mirrored_and_turned_videos_are_as_players_show_them(tmp_path, matrix, place):
    """x' = a x + c y, y' = b x + d y: the corner of the picture goes where the matrix says."""
    data = bytearray(write(tmp_path / "a.mp4", [0.0]).read_bytes())
    at = data.find(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    data[at:at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / "b.mp4").write_bytes(data)
    [frame] = Video(tmp_path / "b.mp4")
    assert is_red(frame) == place
    assert frame.shape == ((*SIZE, 3) if matrix[0] else (*SIZE[::-1], 3))


def test_frames_before_the_start_of_an_edit_are_no_damage(tmp_path, recwarn):
    path = write(tmp_path / "a.mp4", [t / 10 for t in range(10)])
    data = bytearray(path.read_bytes())
    at = data.find(b"elst") + 4 + 8   # duration, start in the media, rate
    duration, _ = struct.unpack(">ii", data[at:at + 8])
    scale = struct.unpack(">i", data[(m := data.find(b"mdhd") + 4 + 12):m + 4])[0]
    data[at:at + 8] = struct.pack(">ii", duration * 6 // 10, 4 * scale // 10)
    path.write_bytes(data)
    video = Video(path)
    assert len(list(video)) == 6 and video.length == 10 and not recwarn.list
    assert video.times[0] == pytest.approx(0, abs=0.01)


def test_the_picture_is_no_cover_and_may_begin_late(tmp_path):
    video = Video(write(tmp_path / "a.mkv", [0.5, 0.6, 0.7], tone=(0.5, 0.6, 1.0)))
    loud = [np.abs(samples).max() > 0.1 for _, samples in
            zip(video, audio_of_video(video), strict=False)]
    assert video.times[0] == pytest.approx(0.5, abs=0.03)   # the sound begins the file
    assert loud == [True, False, False]
    cover = Video(write(tmp_path / "cover.mp4", [0.0, 0.1], cover=True))
    assert [frame.shape for frame in cover] == [(*SIZE, 3)] * 2
    with av.open(str(tmp_path / "song.m4a"), "w", format="mp4") as container:
        picture = container.add_stream("png")
        picture.width, picture.height, picture.pix_fmt = 8, 8, "rgb24"
        picture.disposition = av.stream.Disposition.attached_pic
        container.mux(picture.encode(
            av.VideoFrame.from_ndarray(np.zeros((8, 8, 3), np.uint8), format="rgb24")))
    with pytest.raises(ValueError, match=r"song\.m4a holds no video"):
        Video(tmp_path / "song.m4a")


def test_sound_is_kept_at_its_time(tmp_path):
    """The tone comes with the fourth of unevenly spaced frames."""
    source = Video(write(tmp_path / "a.webm", UNEVEN, "libvpx", tone=(0.5, 1.2, 1.4)))
    with VideoWriter(tmp_path / "b.mp4", source.fps, sound_of_video(source)) as writer:
        for t, frame in enumerate(source):
            writer.add(frame, *source.times[t:t + 2])
    for video in (source, Video(tmp_path / "b.mp4")):
        loud = [np.abs(samples).max(initial=0) > 0.1 for _, samples in
                zip(video, audio_of_video(video), strict=False)]
        assert loud == [False] * 5 + [True, False], video.path
    silent = Video(write(tmp_path / "c.mp4", [0.0, 0.1]))
    assert sound_of_video(silent) is None
    chunks = itertools.repeat(np.zeros((2, 1000), np.float32))   # longer than the picture
    with VideoWriter(tmp_path / "d.mp4", 10.0, chunks) as writer:
        writer.add(corner())
    with av.open(str(tmp_path / "d.mp4")) as container:
        assert float(container.duration) / av.time_base < 0.1 + 2000 / SOUND_RATE + 0.03


def test_overlays_play_in_browsers_with_the_right_colors(tmp_path):
    path = tmp_path / "a.mp4"
    color = (200, 60, 40)
    with VideoWriter(path, 10.0, iter([np.zeros((2, 4800), np.float32)])) as writer:
        writer.add(np.full((720, 1280, 3), color, np.uint8))
    data = path.read_bytes()
    assert data.find(b"moov") < data.find(b"mdat"), "browsers begin to play at once"
    with av.open(str(path)) as container:
        video, sound = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.pix_fmt) == ("h264", "yuv420p")
        assert (sound.codec_context.name, sound.rate) == ("aac", 48000)
        [frame] = container.decode(video)
    # As players decode HD, whatever the file says: BT.709, 16 to 235.
    y, u, v = (float(np.frombuffer(plane, np.uint8)[5]) for plane in frame.planes)
    red, blue = 1.5748 * (v - 128) * 255 / 224, 1.8556 * (u - 128) * 255 / 224
    luma = (y - 16) * 255 / 219
    green = (luma - 0.2126 * (luma + red) - 0.0722 * (luma + blue)) / 0.7152
    np.testing.assert_allclose((luma + red, green, luma + blue), color, atol=3)
    assert (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) == (
        1, 1, 1, 1)
    np.testing.assert_allclose(next(iter(Video(path)))[5, 5], color, atol=3)
