"""The picture after a training: what the model predicted before it, and what it predicts now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import jax
import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from vseg_jax.atomic import atomic_file
from vseg_jax.binarize import foreground
from vseg_jax.evaluation import frames
from vseg_jax.inference.geometry import sigmoid, to_original
from vseg_jax.input_pipeline.frames import read_frame
from vseg_jax.input_pipeline.samples import ReferringSamples
from vseg_jax.models.base import Model, Variables

SIDE = 144   # longer side of a panel, pixels
_GAP = 6
_SEARCHED = 100   # samples of a dataset among which those that are shown are chosen
_HEAD, _TITLE, _CAPTION = 40, 34, 22   # heights of the lines of text, pixels
_INK, _FAINT = (30, 30, 30), (110, 110, 110)

Panels = list[tuple[str, str, list[np.ndarray]]]  # heading, heading of the group, a panel per row


def write(
    model: Model, before: Variables, after: Variables, sets: Mapping[str, ReferringSamples],
    path: Path, *, rows: int = 3, protocol: str = "legacy",
) -> None:
    """Writes a picture with a row for each of a few samples.

    Columns: the frame, its ground truth, the predictions before and after the training; for a model
    with a `heat_map` (see `vseg_jax.models.base.Model`) also where the expression points, before
    and after.

    Args:
      model: takes queries.
      before, after: its variables.
      sets: {title: samples}. The first clips are shown whose expressions name two objects or more,
        with an expression of each of two objects.
      path: the picture, .png.
      rows: samples of each set.
      protocol: how probabilities become masks, see `vseg_jax.binarize`.
    """
    parts = []
    for title, samples in sets.items():
        numbers = choose(samples, rows)
        panels = _panels(model, before, after, samples, numbers, protocol)
        texts = [samples.truth(number).text for number in numbers]
        parts.append(_text(title, _width(panels), _TITLE, 17, bottom=True))
        for row, text in enumerate(texts):
            parts.append(_text(f"“{text}”", _width(panels), _CAPTION, 13, _FAINT))
            parts.append(_beside([column[row] for _, _, column in panels]))
    picture = np.concatenate([_headings(panels), *parts], axis=0)
    with atomic_file(path) as temporary:
        Image.fromarray(np.pad(picture, ((4, 8), (8, 8), (0, 0)), constant_values=255)).save(
            temporary, format="PNG")


def choose(samples: ReferringSamples, count: int) -> list[int]:
    """Returns the numbers of up to `count` samples: of one clip after another, a sample for each of
    the first two objects. Clips with one named object are taken only where the first `_SEARCHED`
    samples are of no other clip."""
    clips: dict[str, dict[int, int]] = {}
    for number in range(min(len(samples), _SEARCHED)):
        truth = samples.truth(number)
        clips.setdefault(truth.video_id, {}).setdefault(truth.object_id, number)
        if sum(min(len(objects), 2) for objects in clips.values() if len(objects) > 1) > count:
            break
    several = [objects for objects in clips.values() if len(objects) > 1] or list(clips.values())
    return [number for objects in several for number in list(objects.values())[:2]][:count]


def _panels(
    model: Model, before: Variables, after: Variables, samples: ReferringSamples,
    numbers: Sequence[int], protocol: str,
) -> Panels:
    """Returns the columns of some samples."""
    truths = [samples.truth(number) for number in numbers]
    dataset, videos = samples.dataset, frames.video_numbers(samples.dataset)
    images = [_large(read_frame(dataset, dataset[videos[truth.video_id]], truth.frame))
              for truth in truths]
    masks = [truth.mask == truth.object_id for truth in truths]
    batch = frames.batch_of(samples, numbers)

    def at_frame(maps: np.ndarray) -> list[np.ndarray]:
        return [to_original(each, geometry, truth.mask.shape)
                for each, geometry, truth in zip(maps, batch["geometry"], truths, strict=True)]

    def predicted(variables: Variables) -> list[np.ndarray]:
        logits, _ = frames.predict(model, variables, batch)
        return marked([foreground(sigmoid(x), protocol) for x in at_frame(np.asarray(logits))])

    def marked(shown: list[np.ndarray]) -> list[np.ndarray]:
        return [_mark(image, mask) for image, mask in zip(images, shown, strict=True)]

    columns = [("frame", "", images), ("truth", "", marked(masks)),
               ("before training", "prediction", predicted(before)),
               ("after training", "prediction", predicted(after))]
    if hasattr(model, "heat_map"):
        maps = jax.jit(model.heat_map)
        for heading, variables in (("before", before), ("after", after)):
            heat = _at_input_size(np.asarray(maps(variables, batch)), batch["frames"].shape[2:4])
            columns.append((heading, "where the expression points (bright)", [
                _heat(image, each) for image, each in zip(images, at_frame(heat), strict=True)]))
    return columns


def _at_input_size(maps: np.ndarray, size: tuple[int, int]) -> Float[np.ndarray, "B H W"]:
    known = np.nan_to_num(maps.astype(np.float32))   # weights that are all 0 have no largest one
    return np.stack([cv2.resize(x, size[::-1], interpolation=cv2.INTER_LINEAR) for x in known])


def _size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Returns the width and height of a panel for a frame of that shape."""
    scale = SIDE / max(shape[:2])
    return round(shape[1] * scale), round(shape[0] * scale)


def _large(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
    shrinks = max(image.shape[:2]) > SIDE
    return cv2.resize(image, _size(image.shape),
                      interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def _mark(image: UInt8[np.ndarray, "H W 3"], mask: Bool[np.ndarray, "h w"]) -> np.ndarray:
    """Keeps the colors of the mask, darkens everything else, and draws the outline."""
    smooth = cv2.resize(mask.astype(np.float32), image.shape[1::-1],
                        interpolation=cv2.INTER_LINEAR) > 0.5
    dark = 0.3 * image.mean(axis=2, keepdims=True)
    out = np.rint(np.where(smooth[..., None], image, dark)).astype(np.uint8)
    lines, _ = cv2.findContours(smooth.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(out, lines, -1, (255, 255, 255), 1, cv2.LINE_AA)


def _heat(image: UInt8[np.ndarray, "H W 3"], heat: Float[np.ndarray, "h w"]) -> np.ndarray:
    """Draws weights from 0 (dark) to 1 (bright) over the gray frame."""
    heat = np.clip(cv2.resize(heat, image.shape[1::-1], interpolation=cv2.INTER_LINEAR), 0, 1)
    colors = cv2.applyColorMap(np.rint(255 * heat).astype(np.uint8), cv2.COLORMAP_INFERNO)
    gray = image.mean(axis=2, keepdims=True)
    return np.rint(0.25 * gray + 0.75 * colors[..., ::-1]).astype(np.uint8)


def _width(panels: Panels) -> int:
    return sum(column[0].shape[1] + _GAP for _, _, column in panels) - _GAP


def _beside(pictures: list[np.ndarray]) -> UInt8[np.ndarray, "H W 3"]:
    gap = np.full((len(pictures[0]), _GAP, 3), 255, np.uint8)
    return np.concatenate([x for picture in pictures for x in (picture, gap)][:-1], axis=1)


def _headings(panels: Panels) -> UInt8[np.ndarray, "H W 3"]:
    """Returns the headings of the columns, and above them those of their groups."""
    picture = Image.new("RGB", (_width(panels), _HEAD), "white")
    pen, left = ImageDraw.Draw(picture), 0
    font = ImageFont.load_default(13)
    spans: dict[str, tuple[int, int]] = {}
    for heading, group, column in panels:
        right = left + column[0].shape[1]
        pen.text(((left + right) / 2, _HEAD - 9), heading, _FAINT, font, anchor="mm")
        spans[group] = (spans.get(group, (left, 0))[0], right)
        left = right + _GAP
    for group, (left, right) in spans.items():
        if group:
            pen.text(((left + right) / 2, 9), group, _INK, font, anchor="mm")
            pen.line([(left + 4, 20), (right - 4, 20)], fill=(200, 200, 200))
    return np.asarray(picture)


def _text(
    text: str, width: int, height: int, size: int, color: tuple[int, int, int] = _INK,
    bottom: bool = False,
) -> UInt8[np.ndarray, "H W 3"]:
    """Returns a line of text, at the left."""
    picture = Image.new("RGB", (width, height), "white")
    at = (0, height - 3 if bottom else height / 2)
    ImageDraw.Draw(picture).text(at, text, color, ImageFont.load_default(size),
                                 anchor="ls" if bottom else "lm")
    return np.asarray(picture)
