"""A camera and a live window, in place of which OpenCV's functions are replaced."""

import cv2
import numpy as np
import pytest

from vseg_jax.media import camera as cameras
from vseg_jax.media.camera import Camera, open_window
from vseg_jax.media.excerpt import Part, open_source


class FakeCapture:
    """Gives `frames` in BGR, then no more."""

    frames = tuple(np.full((4, 6, 3), (10 * t, 0, 200), np.uint8) for t in range(5))
    fps, opens = 20.0, True
    released = 0

    def __init__(self, number):
        self.rest = list(self.frames)

    def isOpened(self):
        return self.opens

    def get(self, what):
        assert what == cv2.CAP_PROP_FPS
        return self.fps

    def read(self):
        return (True, self.rest.pop(0)) if self.rest else (False, None)

    def release(self):
        FakeCapture.released += 1


@pytest.fixture
def capture(monkeypatch):
    fake = type("Capture", (FakeCapture,), {})
    monkeypatch.setattr(cv2, "VideoCapture", fake)
    return fake


def test_frames_come_in_rgb_with_their_times_until_the_camera_is_stopped(capture, monkeypatch):
    clock = iter([100.0, 100.0, 100.25, 100.75])
    monkeypatch.setattr(cameras.time, "monotonic", lambda: next(clock))
    camera, seen = Camera(0), []
    for frame in camera:
        seen.append(frame[0, 0].tolist())
        if len(seen) == 3:
            camera.stop()
    assert seen == [[200, 0, 0], [200, 0, 10], [200, 0, 20]]
    assert camera.times == pytest.approx([0, 0.25, 0.75, 0.8]) and camera.fps == 20
    assert str(camera.path) == "camera 0" and FakeCapture.released == 1


def test_a_part_of_what_a_camera_sees(capture):
    frames = list(open_source("3", part=Part(1, 4, 2)))
    assert [frame[0, 0, 2] for frame in frames] == [10, 30]


def test_a_camera_that_fails(capture):
    camera = Camera(0)
    with pytest.warns(UserWarning, match="camera 0 gives no more frames"):
        assert len(list(camera)) == 5
    capture.frames = ()
    with pytest.raises(ValueError, match="camera 1 gives no frame; check that it is connected"):
        list(Camera(1))
    capture.fps = 0.0
    assert Camera(0).fps == 30
    capture.opens = False
    with pytest.raises(ValueError, match="camera 0 cannot be opened; 0 is the first one"):
        open_source("0")
    with pytest.raises(ValueError, match=r"fps is 9\.0, but a camera has a frame rate of its own"):
        open_source("0", 9.0)


def test_without_a_display_or_without_windows_in_opencv_there_is_a_warning(monkeypatch):
    monkeypatch.setattr(cameras.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.warns(UserWarning, match="no live window: there is no display. The files are"):
        assert open_window("x") is None
    monkeypatch.setenv("DISPLAY", ":0")

    def missing(*arguments):
        raise cv2.error("The function is not implemented")

    monkeypatch.setattr(cv2, "namedWindow", missing, raising=False)
    with pytest.warns(UserWarning, match="no live window: opencv-python-headless has none; with"):
        assert open_window("x") is None


@pytest.mark.parametrize(("key", "visible", "closed"), [
    (-1, 1, False), (ord("x"), 1, False), (ord("q"), 1, True), (27, 1, True), (-1, 0, True)])
def test_a_window_shows_pictures_until_it_is_closed(monkeypatch, key, visible, closed):
    shown = []
    monkeypatch.setenv("DISPLAY", ":0")
    for name, function in (
            ("namedWindow", lambda *a: None), ("imshow", lambda title, image: shown.append(image)),
            ("waitKey", lambda wait: key), ("getWindowProperty", lambda *a: visible),
            ("destroyAllWindows", lambda: shown.append(None))):
        monkeypatch.setattr(cv2, name, function, raising=False)
    window = open_window("x")
    window.show(np.full((2, 2, 3), (1, 2, 3), np.uint8))
    assert shown[0][0, 0].tolist() == [3, 2, 1] and window.closed is closed
    window.close()
    assert shown[-1] is None
