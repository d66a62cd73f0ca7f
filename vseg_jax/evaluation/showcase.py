"""The overlay video after a training: predictions drawn on clips of the evaluated datasets."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from vseg_jax.binarize import foreground
from vseg_jax.index_masks import VOID
from vseg_jax.inference.segmentation import Segmentation
from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.input_pipeline.frames import read_frame, read_mask
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
        objects or more; of a dataset without such clips, the first ones with an expression.
      path: the video, .mp4; not written if there is no expression.
    """
    rows = [row for dataset in datasets if (row := _row(segmenter, dataset, clips))]
    if not rows:
        return
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


def write_example(
    dataset: Dataset, path: Path, number: int = 0, *, mask: Path | None = None
) -> None:
    """Writes a video of a dataset by itself, as an example to predict.

    Args:
      dataset: where it is from.
      path: the video, .mp4; small frames are enlarged by a whole number.
      number: which one.
      mask: where the first frame's index mask is written; the video then starts at its first
        annotated frame.
    """
    record = dataset[number]
    first = dataset.index[number].annotated[0] if mask else 0
    scale = max(1, round(CELL / min(record.height, record.width)))
    size = (scale * record.width, scale * record.height)
    with VideoWriter(path, record.fps or 10.0) as video:
        for t in range(first, len(record.frames)):
            video.add(cv2.resize(read_frame(dataset, record, t), size,
                                 interpolation=cv2.INTER_CUBIC))
    if mask:
        index = read_mask(dataset, record, first)
        index = np.where(index == VOID, 0, index).astype(np.uint8)
        overlay.save_index(mask, index.repeat(scale, 0).repeat(scale, 1))


def _row(segmenter: Segmenter, dataset: Dataset, clips: int) -> list[list[np.ndarray]]:
    cells = []
    named = [{e.object_id: e.text for e in entry.expressions} for entry in dataset.index]
    fewest = min(2, max(map(len, named), default=0))
    for number, texts in enumerate(named):
        if not fewest or len(texts) < fewest:
            continue
        record = dataset[number]
        frames = [decode_image(data, f"{dataset.name} {record.video_id} frame {t}")
                  for t, data in enumerate(record.frames)]
        for object_id, text in list(texts.items())[:2]:
            with warnings.catch_warnings():   # unknown words are part of unseen domains
                warnings.simplefilter("ignore", UserWarning)
                predictions = segmenter.segment(np.stack(frames), text)
            cells.append([_cell(prediction, object_id, text) for prediction in predictions])
        if len(cells) >= fewest * clips:
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
