"""The overlay video after a training: predictions drawn on clips of the evaluated datasets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from vseg_jax.binarize import foreground
from vseg_jax.inference.segmentation import Segmentation
from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.input_pipeline.records import Dataset, decode_image
from vseg_jax.media import overlay
from vseg_jax.media.video import VideoWriter

CELL = 256  # side of a clip in a grid, pixels
_GAP = 8


def write_grid(segmenter: Segmenter, datasets: Iterable[Dataset], clips: int, path: Path) -> None:
    """Writes a video of clips in a grid: a row per dataset, each clip with two of its expressions.

    Args:
      segmenter: of a model that takes queries.
      datasets: with expressions; short clips are repeated.
      clips: how many clips of each dataset are shown: the first ones whose expressions refer to two
        objects or more.
      path: the video, .mp4.
    """
    rows = [_row(segmenter, dataset, clips) for dataset in datasets]
    length = max(len(cell) for row in rows for cell in row)
    with VideoWriter(path, 8.0) as video:
        for t in range(2 * length):
            video.add(_join([
                _join([cell[t % len(cell)] for cell in row], axis=1) for row in rows
            ], axis=0))


def write_sequence(
    draw: Callable[[Dataset, int], Iterable[np.ndarray]], datasets: Iterable[Dataset],
    videos: int, path: Path,
) -> None:
    """Writes the first videos of each dataset one after another, at the size of the first frame.

    Args:
      draw: (dataset, number of a video) -> its frames with predictions, uint8 RGB.
      datasets: where the videos are from.
      videos: how many of each dataset.
      path: the video, .mp4.
    """
    size = None
    with VideoWriter(path, 12.0) as video:
        for dataset in datasets:
            for number in range(min(videos, len(dataset))):
                for frame in draw(dataset, number):
                    size = size or frame.shape[1::-1]
                    video.add(overlay.fit(frame, size))


def _row(segmenter: Segmenter, dataset: Dataset, clips: int) -> list[list[np.ndarray]]:
    cells = []
    for number, entry in enumerate(dataset.index):
        texts = {e.object_id: e.text for e in entry.expressions}
        if len(texts) < 2:
            continue
        record = dataset[number]
        frames = [decode_image(data, f"{dataset.name} {record.video_id} frame {t}")
                  for t, data in enumerate(record.frames)]
        for object_id, text in list(texts.items())[:2]:
            predictions = segmenter.segment(np.stack(frames), text)
            cells.append([_cell(prediction, object_id, text) for prediction in predictions])
        if len(cells) >= 2 * clips:
            break
    return cells


def _cell(prediction: Segmentation, object_id: int, text: str) -> UInt8[np.ndarray, "CELL CELL 3"]:
    size = (CELL, CELL)
    image = cv2.resize(prediction.image, size, interpolation=cv2.INTER_CUBIC)
    probability = cv2.resize(prediction.probability[0], size, interpolation=cv2.INTER_LINEAR)
    mask = foreground(probability, prediction.protocol)
    return overlay.draw(image, mask * np.uint8((object_id - 1) % 8 + 1), text)


def _join(pictures: list[np.ndarray], axis: int) -> np.ndarray:
    height, width = pictures[0].shape[:2]
    gap = np.full((height, _GAP, 3) if axis else (_GAP, width, 3), 255, np.uint8)
    joined = [pictures[0]]
    for picture in pictures[1:]:
        joined += [gap, picture]
    return np.concatenate(joined, axis)
