"""One video that shows what a model does: clips side by side, a sentence below each, or videos
one after another."""

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

CELL = 256  # side of a clip in the video, pixels
_GAP = 8


def showcase(segmenter: Segmenter, datasets: Iterable[Dataset], clips: int, path: Path) -> None:
    """Writes a video: a row a dataset, `clips` clips in it, twice with another sentence each.

    Args:
      segmenter: the model that answers.
      datasets: opened datasets with sentences; short clips are repeated.
      clips: clips shown of each; the first ones in which two objects are named.
      path: the video, .mp4.
    """
    rows = [_row(segmenter, dataset, clips) for dataset in datasets]
    length = max(len(cell) for row in rows for cell in row)
    with VideoWriter(path, 8.0) as video:
        for t in range(2 * length):
            video.add(_join([
                _join([cell[t % len(cell)] for cell in row], axis=1) for row in rows
            ], axis=0))


def one_after_another(
    drawn: Callable[[Dataset, int], Iterable[np.ndarray]], datasets: Iterable[Dataset],
    videos: int, path: Path,
) -> None:
    """Writes a video of the first `videos` of each dataset, at the size of the first one's frames.

    Args:
      drawn: the frames, uint8 RGB, of a dataset's video of that number.
    """
    size = None
    with VideoWriter(path, 12.0) as video:
        for dataset in datasets:
            for number in range(min(videos, len(dataset))):
                for picture in drawn(dataset, number):
                    size = size or picture.shape[1::-1]
                    video.add(overlay.fit(picture, size))


def _row(segmenter: Segmenter, dataset: Dataset, clips: int) -> list[list[np.ndarray]]:
    cells = []
    for number, entry in enumerate(dataset.index):
        named = {e.object_id: e.text for e in entry.expressions}
        if len(named) < 2:
            continue
        record = dataset[number]
        frames = [decode_image(data, f"{dataset.name} {record.video_id} frame {t}")
                  for t, data in enumerate(record.frames)]
        for object_id, text in list(named.items())[:2]:
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
