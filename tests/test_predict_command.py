"""`vseg predict` from its arguments to its exit code, with a stand-in for the model."""

import json
import os
import signal

import cv2
import jax
import numpy as np
import pytest
import standin
from commandline import command
from PIL import Image

from vseg_jax import cli
from vseg_jax.experiment import modes
from vseg_jax.inference import segmenter as segmenters
from vseg_jax.media.video import Video, VideoWriter

pytest.importorskip("av")
FRAMES = standin.square_frames(6, size=(24, 32))[0]


@pytest.fixture(autouse=True)
def model(monkeypatch):
    one = standin.segmenter()
    monkeypatch.setattr(modes.runtime, "enable_compilation_cache", lambda: None)
    monkeypatch.setattr(segmenters, "load", lambda model, side, changes: one)


@pytest.fixture
def clips(tmp_path):
    (tmp_path / "clips").mkdir()
    for name in ("a", "b"):
        with VideoWriter(tmp_path / "clips" / f"{name}.mp4", 10.0) as writer:
            for frame in FRAMES:
                writer.add(frame)
    return tmp_path / "clips"


def vseg(capsys, *arguments):
    """(exit status, stdout, stderr) of `vseg predict` of the red square."""
    try:
        code = cli.main(["predict", "--model", "x", "--query", "red", *map(str, arguments)])
    except SystemExit as stop:
        code = stop.code
    return (code, *capsys.readouterr())


def test_several_videos_and_a_part_of_each(clips, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ("--video", clips / "a.mp4", clips / "b.mp4", "--start=1", "--end", "5",
                 "--every=2", "--size=16,20", "--format", "coco", "npz", "--output", out)
    code, said, _ = vseg(capsys, *arguments)
    assert code == 0 and "2 videos: 2 done (4 frames in " in said and f"wrote {out}\n" in said
    table = json.loads((out / "b" / "predictions.json").read_text())
    assert [(row["frame"], row["time"], row["mask"]) for row in table["frames"]] == [
        (1, pytest.approx(0.1), "masks/00001.png"), (3, pytest.approx(0.3), "masks/00003.png")]
    assert (table["height"], table["width"], table["fps"]) == (16, 20, pytest.approx(5.0))
    drawn = Video(out / "b" / "overlay.mp4")
    assert len(list(drawn)) == 2 and drawn.times == pytest.approx([0, 0.2, 0.4], abs=1e-3)
    assert len(json.loads((out / "coco.json").read_text())["images"]) == 4
    assert np.load(out / "npz" / "a.npz")["masks"].shape == (2, 16, 20)
    assert "2 done before (0 frames" in vseg(capsys, *arguments)[1]


def test_the_exit_code_tells_of_videos_that_failed(clips, tmp_path, capsys):
    (clips / "broken.mp4").write_text("no video")
    code, said, err = vseg(capsys, "--video", clips, "--no_overlay", "--output", tmp_path / "out")
    assert code == 1 and "3 videos: 2 done, 1 failed" in said and "failed: broken: " in err
    assert not (tmp_path / "out" / "a" / "overlay.mp4").exists()
    code, said, err = vseg(capsys, "--video", clips / "broken.mp4", "--output", tmp_path / "no")
    assert code == 2 and not said and err.startswith("error: ") and err.count("\n") == 1
    for wrong, error in (
            (["--every=0"], "every is 0"), (["--start=9", "--end=9"], "end is 9 and start 9"),
            (["--format=cocoo"], "there is no format 'cocoo'; did you mean 'coco'?"),
            (["--device=abacus"], "there is no device abacus; here are cpu:0"),
            (["--query=blue"], "--query is given twice, as 'red' and 'blue'; give one"),
            (["--fps=12"], "fps is 12.0, but each of the 3 videos has a frame rate of its own"),
            (["--device=cpu:99"], "there is no device cpu:99"), (["--size=0,4"], "--size is '0,4'"),
            (["--mask=x"], "this model takes a query: give a referring expression that")):
        code, said, err = vseg(capsys, "--video", clips, "--output", tmp_path / "no", *wrong)
        assert code == 2 and err.startswith(f"error: {error}"), err
    assert not (tmp_path / "no").exists()


def test_ctrl_c_ends_with_130_after_the_summary(clips, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(segmenters.Segmenter, "_predictions",
                        lambda *a, **k: os.kill(os.getpid(), signal.SIGINT) or interrupted())

    def interrupted():
        raise KeyboardInterrupt

    code, said, err = vseg(capsys, "--video", clips, "--output", tmp_path / "out")
    assert code == 130 and "2 videos: 2 not finished" in said and "error: interrupted" in err


def test_the_long_form_repeats_flags_and_takes_a_device(clips, tmp_path):
    try:
        code, out, err = command(
            "--mode=predict", "--model=x", "--query=red", "--video", clips / "a.mp4", "--video",
            clips / "gone.mp4", "--device=cpu", "--output", tmp_path / "out")
        assert jax.config.jax_default_device == jax.devices("cpu")[0]
    finally:
        jax.config.update("jax_default_device", None)
    assert code == 1 and "2 videos: 1 done, 1 failed" in out and "gone.mp4" in err


class Capture:
    """A camera that gives the frames of FRAMES; Ctrl-C is pressed at the fourth."""

    def __init__(self, number):
        assert number == 0
        self.given = 0

    def isOpened(self):
        return True

    def get(self, what):
        return 25.0

    def read(self):
        self.given += 1
        if self.given == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return True, FRAMES[self.given % 6][..., ::-1]

    def release(self):
        pass


def test_a_camera_is_recorded_until_ctrl_c(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    code, said, err = vseg(capsys, "--video", "0", "--output", tmp_path / "out")
    assert code == 0 and f"wrote {tmp_path / 'out'}" in said
    assert "no live window: there is no display. The files are written until Ctrl-C" in err
    table = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert table["video"] == "camera 0" and 4 <= len(table["frames"]) <= 6
    assert len(list((tmp_path / "out" / "masks").iterdir())) == len(table["frames"])
    assert len(list(Video(tmp_path / "out" / "overlay.mp4"))) == len(table["frames"])
    with Image.open(tmp_path / "out" / "masks" / "00002.png") as image:
        assert np.asarray(image).any()
    assert vseg(capsys, "--video", "0", "--output", tmp_path / "out")[2].startswith("error: ")
    (tmp_path / "two.unfinished").mkdir()
    assert "holds a recording that was not finished" in vseg(
        capsys, "--video", "0", "--output", tmp_path / "two")[2]
    assert "alpha-video reads the video again, which a camera cannot" in vseg(
        capsys, "--video", "0", "--format", "alpha-video", "--output", tmp_path / "three")[2]


def test_closing_the_window_ends_a_recording(tmp_path, capsys, monkeypatch):
    shown = []
    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISPLAY", ":0")
    for name, function in (
            ("namedWindow", lambda *a: None), ("imshow", lambda title, image: shown.append(title)),
            ("waitKey", lambda wait: ord("q") if len(shown) == 2 else -1),
            ("getWindowProperty", lambda *a: 1), ("destroyAllWindows", lambda: shown.append(""))):
        monkeypatch.setattr(cv2, name, function, raising=False)
    code, _, err = vseg(capsys, "--video", "0", "--no_overlay", "--output", tmp_path / "out")
    assert code == 0, err
    frames = json.loads((tmp_path / "out" / "predictions.json").read_text())["frames"]
    assert 2 <= len(frames) <= 4 and shown == ["camera 0: q ends"] * len(frames) + [""]
