"""The part of a video that the page works on, and its limits."""

import numpy as np
import pytest
from two_squares import SIZE, squares

from vseg_jax.demo.clip import frames_from, read_clip
from vseg_jax.demo.limits import Limits


def test_frames_and_times_are_those_of_the_file(file):
    seen = []
    clip = read_clip(file, progress=seen.append)
    frames, _ = squares()
    assert len(clip) == 8 and clip.size == clip.original == SIZE and clip.first == 0
    assert np.abs(clip[3].astype(int) - frames[3]).mean() < 12   # two lossy encodings
    assert clip.times == pytest.approx([t / 10 for t in range(9)]) and clip.fps == 10
    assert seen == list(range(1, 9)) and not clip.more and clip.audio is None
    assert clip.summary == "8 frames, 0.8 s, 64 x 48."


def test_a_long_video_is_cut_and_says_so(file):
    clip = read_clip(file, Limits(frames=3), begin=0.25)
    assert len(clip) == 3 and clip.first == 2 and clip.more
    assert clip.times == pytest.approx([0.2, 0.3, 0.4, 0.5])
    assert "the part from 0.2 s to 0.5 s" in clip.summary and "`vseg predict`" in clip.summary
    assert not read_clip(file, Limits(frames=8)).more


def test_a_large_video_is_scaled_down_and_says_so(file):
    clip = read_clip(file, Limits(side=32))
    assert clip.size == clip[0].shape[:2] == (24, 32) and clip.original == SIZE
    assert "32 x 24 (scaled down from 64 x 48)" in clip.summary


def test_what_cannot_be_read_is_refused(file, tmp_path):
    with pytest.raises(ValueError, match=r"0 MB; this page takes up to 0 MB\. Cut it"):
        read_clip(file, Limits(megabytes=0))
    with pytest.raises(ValueError, match="ends before 3 s"):
        read_clip(file, begin=3.0)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match="cannot be opened as a video"):
        read_clip(tmp_path / "text.mp4")


def test_a_truncated_video_says_so(file, tmp_path):
    data = file.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[:-100])   # the index is at the front
    with pytest.warns(UserWarning, match="cut off"):
        clip = read_clip(tmp_path / "cut.mp4")
    assert 0 < len(clip) < 8
    assert f"Warning: only {len(clip)} of 8 frames could be decoded" in clip.summary
    assert "cut off" in clip.summary and "Warning" not in read_clip(file).summary


def test_frames_that_a_session_has_seen_are_counted_only(clip_of_file):
    frames = list(frames_from(clip_of_file, 5))
    assert len(frames) == 8
    assert all((frame == clip_of_file[0]).all() for frame in frames[:5])
    assert all((frame == clip_of_file[t]).all() for t, frame in enumerate(frames) if t >= 5)
