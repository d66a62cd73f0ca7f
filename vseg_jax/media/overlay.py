"""Visualizations: masks, labels and a caption drawn over a frame, and index PNGs with a palette."""

from __future__ import annotations

import functools
import io
import os
import statistics
from collections.abc import Mapping

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from vseg_jax.index_masks import VOID, palette

# Distinct from one another in hue and lightness, and from most natural scenes.
COLORS = np.array([
    (0, 176, 255), (255, 87, 51), (126, 217, 87), (255, 200, 30), (186, 104, 255), (0, 214, 186),
    (255, 105, 180), (160, 190, 220), (205, 255, 60), (110, 80, 255), (255, 30, 90), (0, 120, 95),
], np.uint8)
_FILL = 0.42  # opacity of an object's color
_SMALLEST_FONT = 9  # size, pixels


def draw(
    frame: UInt8[np.ndarray, "H W 3"], index: UInt8[np.ndarray, "H W"], caption: str = "",
    labels: Mapping[int, str] | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """Returns the frame with each object of an index mask filled and outlined, and a caption.

    Args:
      frame: RGB; not modified.
      index: 0 background, object ids from 1; 255 (void) is not drawn.
      caption: text at the lower edge, usually the query. It is wrapped and shrunk to fit the width,
        and ends in an ellipsis if it would still cover more than a third of the height.
      labels: {id: text}, written above the objects in their colors; a label wider than the frame
        is left out.
    """
    out = np.ascontiguousarray(frame).copy()
    unit = max(min(frame.shape[:2]) / 360.0, 0.5)   # a line of 2 pixels at 360p
    counts = cv2.calcHist([index], [0], None, [256], [0, 256]).ravel()   # faster than np.unique
    for number in np.flatnonzero(counts).tolist():
        if number in (0, VOID):
            continue
        mask = np.uint8(255) * (index == number)
        x, y, w, h = cv2.boundingRect(mask)
        reach = int(np.ceil(4 * unit)) + 1   # pixels beyond the box that the outline touches
        window = np.s_[max(y - reach, 0):y + h + reach, max(x - reach, 0):x + w + reach]
        _draw_object(out[window], mask[window], COLORS[(number - 1) % len(COLORS)], unit)
    for number, text in (labels or {}).items():
        _label(out, index == number, text, COLORS[(number - 1) % len(COLORS)])
    return _with_caption(out, caption) if caption.strip() else out


def _draw_object(out: np.ndarray, mask: np.ndarray, color: np.ndarray, unit: float) -> None:
    """Fills an object and draws a bright line along its border, with a soft shadow, in place.

    Only 8-bit images of the whole window are computed, and floats where the outline is, because
    drawing should be quicker than a model.
    """
    full = np.empty_like(out)
    full[:] = color
    cv2.copyTo(cv2.addWeighted(out, 1 - _FILL, full, _FILL, 0), mask, out)
    blurred = cv2.GaussianBlur(mask, (0, 0), _blur(unit), borderType=cv2.BORDER_CONSTANT)
    keep, line = _outline(unit)
    band = np.nonzero(cv2.LUT(blurred, (keep < 1).astype(np.uint8)))
    level = blurred[band]
    bright = np.minimum(color * 1.1 + 30, 255).astype(np.float32)
    out[band] = np.rint(out[band] * keep[level, None] + bright * line[level, None])


def _blur(unit: float) -> float:
    """Returns the standard deviation of the blur in which an outline is found, pixels."""
    return 1.5 * unit


@functools.lru_cache(maxsize=8)
def _outline(unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns how an outline is drawn where a blurred mask has the values 0 to 255.

    Across a straight border, the value of a blurred mask is the normal distribution of the distance
    to the border.

    Returns:
      keep: share of the picture that remains, float32 [256].
      line: share of the line's color, float32 [256].
    """
    normal = statistics.NormalDist(0, _blur(unit))
    inside = [normal.inv_cdf(min(max(value / 255, 1e-9), 1 - 1e-9)) for value in range(256)]
    distance = -np.array(inside)   # signed, 0 on the border, positive outside
    shade = 0.5 * np.clip(1.0 - (distance - 0.8 * unit) / (2.5 * unit), 0, 1) * (distance > 0)
    line = np.clip(1.0 * unit + 0.5 - np.abs(distance), 0, 1)
    return ((1.0 - shade) * (1.0 - line)).astype(np.float32), line.astype(np.float32)


def _label(out: np.ndarray, mask: np.ndarray, text: str, color: np.ndarray) -> None:
    """Draws a tag above the mask, or inside the frame if there is no room above, in place."""
    x, y, w, _ = cv2.boundingRect(mask.astype(np.uint8))
    height, width = mask.shape
    size = max(_SMALLEST_FONT, round(min(height, width * 0.75) / 24))
    font = _font(size)
    tall, wide = round(size * 1.4), round(font.getlength(text) + 0.6 * size)
    if not w or tall > height or wide > width:
        return
    top, left = max(y - tall, 0), min(max(x + (w - wide) // 2, 0), width - wide)
    tag = Image.new("RGB", (wide, tall), tuple(color.tolist()))
    ink = (0, 0, 0) if color @ (0.299, 0.587, 0.114) > 110 else (255, 255, 255)
    ImageDraw.Draw(tag).text((0.3 * size, tall / 2), text, font=font, fill=ink, anchor="lm")
    out[top:top + tall, left:left + wide] = np.asarray(tag)


def _with_caption(frame: np.ndarray, caption: str) -> np.ndarray:
    height, width = frame.shape[:2]
    strip = _caption(caption, height, width)
    if strip is None:
        return frame
    color, alpha = strip[..., :3].astype(np.float32), strip[..., 3:].astype(np.float32) / 255
    below = frame[height - strip.shape[0]:]
    below[...] = np.rint(below + alpha * (color - below)).astype(np.uint8)
    return frame


@functools.lru_cache(maxsize=8)
def _caption(text: str, height: int, width: int) -> np.ndarray | None:
    """Returns a uint8 RGBA strip [h, width, 4] for the lower edge; None if no letter would fit."""
    fitted = _fit_text(" ".join(text.split()), height, width)
    if fitted is None:
        return None
    size, lines = fitted
    font, step = _font(size), _line_step(size)
    tall = min(height, len(lines) * step + 2 * size)
    # The background darkens gradually towards the lower edge, like a subtitle band.
    ramp = np.clip(np.arange(tall) / (1.6 * size), 0, 1) ** 1.5 * 165
    strip = np.zeros((tall, width, 4), np.uint8)
    strip[..., 3] = ramp[:, None].astype(np.uint8)
    letters = Image.new("L", (width, tall))
    pen = ImageDraw.Draw(letters)
    for number, line in enumerate(lines):
        at = ((width - font.getlength(line)) / 2,
              tall - size * 0.55 - (len(lines) - number) * step + (step - size) / 2)
        pen.text(at, line, font=font, fill=255)
    ink = np.asarray(letters).astype(np.float32)[..., None] / 255
    strip[..., :3] = np.rint(ink * 255).astype(np.uint8)
    strip[..., 3:] = np.rint(np.maximum(strip[..., 3:], ink * 255)).astype(np.uint8)
    return strip


def _fit_text(text: str, height: int, width: int) -> tuple[int, list[str]] | None:
    """Returns the largest font size at which the text covers at most a third of the height, and its
    lines. At the smallest size the text ends in an ellipsis; None if not even one line fits."""
    room, tallest = width - 2 * max(2, round(width * 0.03)), height / 3
    largest = max(_SMALLEST_FONT, round(min(height, width * 0.75) / 16))
    lines: list[str] = []
    for size in range(largest, _SMALLEST_FONT - 1, -1):
        lines = _lines(text, _font(size), room)
        if len(lines) * _line_step(size) + size <= tallest:
            return size, lines
    fitting = int((tallest - _SMALLEST_FONT) // _line_step(_SMALLEST_FONT))
    if fitting < 1:
        return None
    font, lines = _font(_SMALLEST_FONT), lines[:fitting]
    while lines[-1] and font.getlength(lines[-1] + "…") > room:
        lines[-1] = lines[-1][:-1]
    lines[-1] += "…"
    return _SMALLEST_FONT, lines


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)   # the other kind has no sizes
    return font


def _line_step(size: int) -> int:
    return round(size * 1.35)


def _lines(text: str, font: ImageFont.FreeTypeFont, room: int) -> list[str]:
    """Returns the words in lines no wider than `room`; wider words are broken."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= room:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > room:
                lines.append("")
            lines[-1] += letter
    return lines


def save_index(
    path: str | os.PathLike | io.BytesIO, index: UInt8[np.ndarray, "H W"]
) -> None:
    """Writes an index mask as a palette PNG: pixel values are ids, the colors are for display."""
    image = Image.fromarray(index)
    image.putpalette(palette())
    image.save(path, "PNG")


def read_index(path: str | os.PathLike) -> UInt8[np.ndarray, "H W"]:
    """Returns the index mask that `save_index` wrote."""
    with Image.open(path) as image:
        return np.asarray(image)


def fit(picture: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """Returns the picture scaled to fit `size` (width, height), centered on black."""
    height, width = picture.shape[:2]
    scale = min(size[0] / width, size[1] / height)
    if scale != 1:
        inner = max(1, round(width * scale)), max(1, round(height * scale))
        shrinks = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        picture = cv2.resize(picture, inner, interpolation=shrinks)
    out = np.zeros((size[1], size[0], 3), np.uint8)
    top, left = (size[1] - picture.shape[0]) // 2, (size[0] - picture.shape[1]) // 2
    out[top:top + picture.shape[0], left:left + picture.shape[1]] = picture
    return out
