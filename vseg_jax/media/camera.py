"""A camera as a video, and a live window."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

_FPS = 30.0   # of cameras that do not say it
_FASTEST = 120.0
_END = (27, ord("q"))   # keys: Esc and q


class Camera:
    """A camera as an iterable of uint8 [H, W, 3] RGB frames, until `stop` is called.

    Attributes:
      path: "camera 0".
      fps: frames per second, as the camera says.
      length: 0, which is unknown.
      names: none.
      times: when the frames came, in seconds after the first one; frame t is shown from times[t] to
        times[t + 1].

    Raises:
      ValueError: the camera cannot be opened; while iterating: it gives no frame.
    """

    length = 0
    names: tuple[str, ...] = ()

    def __init__(self, number: int) -> None:
        self.path = Path(f"camera {number}")
        self.times: list[float] = []
        self._capture = cv2.VideoCapture(number)
        if not self._capture.isOpened():
            raise ValueError(f"{self.path} cannot be opened; 0 is the first one, and another "
                             "program may be using it")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps <= _FASTEST else _FPS
        self._stopped = False

    def stop(self) -> None:
        """Ends the iteration before the next frame."""
        self._stopped = True

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        times: list[float] = []
        self.times, began = times, 0.0
        try:
            while not self._stopped:
                read, frame = self._capture.read()
                if not read:
                    break
                began = began or time.monotonic()
                start = time.monotonic() - began
                times[-1:] = [start, start + 1 / self.fps]
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            if not self._stopped:
                if not times:
                    raise ValueError(f"{self.path} gives no frame; check that it is connected")
                warnings.warn(f"{self.path} gives no more frames", stacklevel=2)
        finally:
            self._capture.release()


class Window:
    """A window that shows pictures as they come; `open_window` makes one.

    Attributes:
      closed: whether the user has closed it, or pressed q or Esc.
    """

    def __init__(self, title: str) -> None:
        self._title, self.closed = title, False
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)

    def show(self, rgb: UInt8[np.ndarray, "H W 3"]) -> None:
        """Shows a picture and looks for what the user did."""
        cv2.imshow(self._title, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        pressed = cv2.waitKey(1) & 0xFF in _END
        visible = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1
        self.closed = pressed or not visible

    def close(self) -> None:
        """Removes the window."""
        cv2.destroyAllWindows()


def open_window(title: str) -> Window | None:
    """Returns a live window; None, with a warning, where there can be none."""
    # Without a display, OpenCV's windows end the process on Linux.
    if sys.platform == "linux" and not any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY"))):
        reason = "there is no display"
    else:
        try:
            return Window(title)
        except cv2.error:
            reason = ("opencv-python-headless has none; with opencv-python in its place (pip "
                      "uninstall the first, then install the second) there is one")
    warnings.warn(f"no live window: {reason}. The files are written until Ctrl-C", stacklevel=2)
    return None
