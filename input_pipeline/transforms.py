"""Geometry and color of a clip, applied to a frame and its mask together.

Coordinates are pixel edges: (0, 0) is the upper-left corner of the upper-left pixel.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from vseg_jax.index_masks import VOID
from vseg_jax.input_pipeline.settings import ClipConfig, PropagationConfig

Resize = Callable[[np.ndarray, tuple[int, int]], np.ndarray]  # image and (width, height)
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


@dataclasses.dataclass(frozen=True)
class Geometry:
    """A crop of the original frame, a resize to the input, and possibly a mirroring.

    Attributes:
      crop: (top, left, height, width) in original pixels.
      size: (height, width) of the input.
      inner: (height, width) of the resized crop; the rest is padding.
      flip: whether the input is mirrored left to right.
      corner: (top, left) of the resized crop in the input, before the mirroring.
      bicubic: whether frames are resized by Pillow's bicubic filter, see `frame`.
      border: index of padding in masks.
    """

    crop: tuple[int, int, int, int]
    size: tuple[int, int]
    inner: tuple[int, int]
    flip: bool = False
    corner: tuple[int, int] = (0, 0)
    bicubic: bool = False
    border: int = VOID

    @property
    def affine(self) -> np.ndarray:
        """float32 (scale_y, scale_x, offset_y, offset_x): input edge = original * scale + offset.

        In a mirrored input scale_x is negative.
        """
        top, left, height, width = self.crop
        scale_y, scale_x = self.inner[0] / height, self.inner[1] / width
        offset_y, offset_x = self.corner[0] - top * scale_y, self.corner[1] - left * scale_x
        if self.flip:
            scale_x, offset_x = -scale_x, self.size[1] - offset_x
        return np.array([scale_y, scale_x, offset_y, offset_x], np.float32)

    def frame(self, rgb: np.ndarray) -> np.ndarray:
        """Returns a frame uint8 [h, w, 3] at the input size; padding is black.

        It is area-averaged if it shrinks and else bilinear; or bicubic, with Pillow's filter, which
        widens with the scale if the frame shrinks.
        """
        if self.bicubic:
            return self._apply(rgb, _bicubic, 0)
        shrinks = self.inner[0] < self.crop[2] or self.inner[1] < self.crop[3]
        return self._apply(rgb, _resize(cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), 0)

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """Returns an index mask uint8 [h, w] at the input size, nearest; padding is `border`."""
        return self._apply(mask, _resize(cv2.INTER_NEAREST_EXACT), self.border)

    def _apply(self, image: np.ndarray, resize: Resize, border: int) -> np.ndarray:
        top, left, height, width = self.crop
        image = image[top:top + height, left:left + width]
        if image.shape[:2] != self.inner:
            image = resize(image, self.inner[::-1])
        if self.inner != self.size:
            padded = np.full((*self.size, *image.shape[2:]), border, np.uint8)
            y, x = self.corner
            padded[y:y + self.inner[0], x:x + self.inner[1]] = image
            image = padded
        return cv2.flip(image, 1) if self.flip else image


def _resize(interpolation: int) -> Resize:
    return functools.partial(cv2.resize, interpolation=interpolation)


def _bicubic(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def plain_geometry(height: int, width: int, config: ClipConfig) -> Geometry:
    """Returns the geometry of the whole frame, without crop and mirroring."""
    return _fit((0, 0, height, width), config, flip=False)


def random_geometry(
    height: int, width: int, config: ClipConfig, rng: np.random.Generator,
    object_mask: np.ndarray | None = None,
) -> Geometry:
    """Draws a crop and mirroring of a `height` x `width` frame.

    Both sides of the crop are `s` times those of the frame, s uniform in [config.crop, 1]. If
    `object_mask` (bool [h, w]) has pixels, the crop contains one of them, drawn at random. The size
    to which it is resized is a share of the input's, uniform in [config.shrink, 1].
    """
    side = rng.uniform(config.crop, 1.0)
    crop_h, crop_w = max(1, round(height * side)), max(1, round(width * side))
    lowest, highest = np.zeros(2, int), np.array([height - crop_h, width - crop_w])
    pixels = np.flatnonzero(object_mask) if object_mask is not None else ()
    if len(pixels):
        pixel = np.array(divmod(int(rng.choice(pixels)), width))
        lowest = np.maximum(lowest, pixel - (crop_h, crop_w) + 1)
        highest = np.minimum(highest, pixel)
    top, left = (int(v) for v in rng.integers(lowest, highest, endpoint=True))
    flip = bool(rng.random() < config.flip)
    share = rng.uniform(config.shrink, 1.0) if config.shrink < 1 else 1.0
    return _fit((top, left, crop_h, crop_w), config, flip, share)


def _fit(
    crop: tuple[int, int, int, int], config: ClipConfig, flip: bool, share: float = 1.0
) -> Geometry:
    size = (config.height, config.width)
    scales = size[0] / crop[2], size[1] / crop[3]
    if config.resize != "stretch":
        scales = (min(scales),) * 2
    height, width = (max(1, min(whole, round(side * scale * share)))
                     for whole, side, scale in zip(size, crop[2:], scales, strict=True))
    corner = (0, 0)
    if config.resize == "pad_centered":
        corner = ((size[0] - height) // 2, (size[1] - width) // 2)
    border = VOID if config.padding == "void" else 0
    return Geometry(
        crop, size, (height, width), flip, corner, config.interpolation == "bicubic", border
    )


def scaling(y: float, x: float) -> np.ndarray:
    """Returns the 3x3 matrix, for (x, y, 1), that scales the axes."""
    return np.diag([x, y, 1.0])


def translation(y: float, x: float) -> np.ndarray:
    """Returns the 3x3 matrix, for (x, y, 1), that moves down by `y` and right by `x`."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def random_affine(
    config: PropagationConfig, height: float, width: float, rng: np.random.Generator
) -> np.ndarray:
    """Draws a 3x3 matrix about the center of `height` x `width`.

    Scale, shear, rotation and translation are each applied with probability 1/2, in this order (in
    STM's training code in random order).
    """
    lowest, highest = config.scale
    scale = rng.uniform(lowest, highest, 2)
    shear, turn = np.deg2rad(rng.uniform(-1, 1, 2) * (config.shear, config.rotate))
    move = rng.uniform(-config.translate, config.translate, 2) * (height, width)
    steps = [
        scaling(*scale),
        np.array([[1.0, np.tan(shear), 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        np.array([[np.cos(turn), -np.sin(turn), 0.0], [np.sin(turn), np.cos(turn), 0.0],
                  [0.0, 0.0, 1.0]]),
        translation(*move),
    ]
    matrix = translation(-height / 2, -width / 2)
    for step, taken in zip(steps, rng.random(4) < 0.5, strict=True):
        if taken:
            matrix = step @ matrix
    return translation(height / 2, width / 2) @ matrix


def warp_frame(
    rgb: np.ndarray, matrix: np.ndarray, size: tuple[int, int], border: int | None = None
) -> np.ndarray:
    """Warps a frame uint8 [h, w, C] to `size` (height, width) by a 3x3 matrix of pixel edges.

    Beyond its border the frame is mirrored, as its mask is in `warp_mask`, or filled with `border`
    in all channels. A frame that shrinks to half its sides or less is first averaged over whole
    blocks of pixels.
    """
    shrinks = int(1 / np.sqrt(abs(np.linalg.det(matrix[:2, :2]))) + 1e-6)
    if shrinks > 1:
        height, width = rgb.shape[:2]
        rgb = cv2.resize(rgb, (-(-width // shrinks), -(-height // shrinks)),
                         interpolation=cv2.INTER_AREA)
        matrix = matrix @ scaling(height / rgb.shape[0], width / rgb.shape[1])
    mode = cv2.BORDER_REFLECT if border is None else cv2.BORDER_CONSTANT
    return cv2.warpAffine(rgb, _centers(matrix), size[::-1], flags=cv2.INTER_LINEAR,
                          borderMode=mode, borderValue=(border or 0,) * 4)


def warp_mask(
    mask: np.ndarray, matrix: np.ndarray, size: tuple[int, int], border: int | None = None
) -> np.ndarray:
    """Warps an index mask uint8 [h, w] as `warp_frame`, nearest; `border` fills the outside."""
    mode = cv2.BORDER_REFLECT if border is None else cv2.BORDER_CONSTANT
    return cv2.warpAffine(mask, _centers(matrix), size[::-1], flags=cv2.INTER_NEAREST,
                          borderMode=mode, borderValue=border or 0)


def _centers(matrix: np.ndarray) -> np.ndarray:
    """Returns the 2x3 matrix between pixel centers (OpenCV's) of one between pixel edges."""
    return (translation(-0.5, -0.5) @ matrix @ translation(0.5, 0.5))[:2]


def random_color(
    strength: float | tuple[float, float, float], rng: np.random.Generator
) -> np.ndarray:
    """Draws the matrix float64 [3, 4] of a change in brightness, contrast and saturation.

    Each factor is uniform in [1 - strength, 1 + strength], with one strength for all three or one
    for each; contrast is relative to mid-gray.
    """
    spread = np.broadcast_to(strength, 3)
    brightness, contrast, saturation = rng.uniform(1.0 - spread, 1.0 + spread)
    mix = saturation * np.eye(3) + (1.0 - saturation) * _LUMA[None, :]
    offset = np.full((3, 1), 127.5 * (1.0 - contrast))
    return np.concatenate([brightness * contrast * mix, brightness * offset], axis=1)


def apply_color(rgb: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Applies a color matrix [3, 4] to uint8 [h, w, 3]; rounds and clips to 0..255."""
    return cv2.transform(rgb, matrix)
