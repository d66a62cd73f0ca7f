"""What the page shows of a frame: its masks, the names of the objects, and the clicks."""

from __future__ import annotations

import base64

import cv2
import numpy as np
from jaxtyping import UInt8

from vseg_jax.demo.work import Work
from vseg_jax.input_pipeline.codecs import encode_image
from vseg_jax.media import overlay

_SIDE = 960   # the longer side of the picture, pixels
_QUALITY = 85   # of the JPEG
_ON, _BESIDE = (40, 220, 90), (230, 50, 60)   # colors of clicks


def picture(work: Work, frame: int, number: int | None = None) -> UInt8[np.ndarray, "H W 3"]:
    """Returns a frame as it is now.

    Args:
      work: of the user.
      frame: its number.
      number: id of the object whose clicks are shown.
    """
    image, index = work.clip[frame], work.index(frame)
    scale = _SIDE / max(image.shape[:2])
    if scale < 1:
        size = round(image.shape[1] * scale), round(image.shape[0] * scale)
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        index = cv2.resize(index, size, interpolation=cv2.INTER_NEAREST)
    drawn = overlay.draw(image, index, labels=work.names)
    prompt = None if number is None else work.prompts.get(frame, number)
    if prompt is not None:
        for color, points in ((_ON, prompt.inside), (_BESIDE, prompt.outside)):
            for x, y in points:
                at = round(x * min(scale, 1)), round(y * min(scale, 1))
                cv2.circle(drawn, at, 6, (255, 255, 255), -1, cv2.LINE_AA)
                cv2.circle(drawn, at, 4, color, -1, cv2.LINE_AA)
    return drawn


def as_url(image: UInt8[np.ndarray, "H W 3"]) -> str:
    """Returns a picture as a URL that holds it, so that no file is left behind."""
    data = base64.b64encode(encode_image(image, _QUALITY)).decode()
    return f"data:image/jpeg;base64,{data}"
