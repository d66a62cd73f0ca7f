"""Segments a video file into a folder: index PNGs, a video with the masks drawn in, a table."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool
from tqdm import tqdm

from vseg_jax.atomic import atomic_folder
from vseg_jax.inference.prompts.masks import read_masks
from vseg_jax.inference.segmentation import Segmentation
from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.media import overlay
from vseg_jax.media.video import Video, VideoWriter


def predict_to_folder(
    segmenter: Segmenter, video: str | os.PathLike, output: str | os.PathLike, *,
    query: str | None = None, mask: str | os.PathLike | None = None, progress: bool = True,
) -> dict[str, Any]:
    """Segments every frame of a video file and writes a new folder, atomically.

    Writes `masks/00000.png` ... (index PNGs with DAVIS' palette, at the video's size, with the ids
    of the mask prompts), `overlay.mp4`, and `predictions.json`, which is also returned: {"video",
    "query" or "mask", "fps", "height", "width", "frames": [{"frame", "mask", "objects": [{"id",
    "score", "area", "box"}]}]}. Areas are in pixels; boxes are [left, top, right, bottom] in pixel
    edges, None for an empty mask.

    A model that finds objects by itself takes no prompt. Its overlay shows each object's category
    and identity. Its objects also have "category" and "value", the pixel value in the index PNG
    (the id, as long as that is at most 254). Its table also has "identities", the summary of each
    object over the video: {"id", "category", "score", "frames"}, where "frames" is the number of
    frames that show it (see `Session.summary` for long videos).

    Args:
      segmenter: the model to use.
      video: path of the video.
      output: path of the folder; it must not exist, or be empty.
      query: the referring expression, for models that take a query.
      mask: for models that take mask prompts: the first frame's index PNG, or a folder of index
        PNGs, each named by the number of its frame (00000.png, 00030.png), for objects that enter
        later.
      progress: whether to show a progress bar.

    Raises:
      ValueError: the video or a mask cannot be read, the query is empty, the model does not take
        this prompt, or `output` exists already.
    """
    source = Video(video)
    masks = {} if mask is None else read_masks(mask)
    prompt = {"mask": Path(mask).name} if mask is not None else {"query": query} if query else {}
    rows: list[dict[str, Any]] = []
    height = width = 0
    with atomic_folder(Path(output)) as folder:
        (folder / "masks").mkdir()
        predictions = segmenter.segment(source, query, masks=masks)
        with VideoWriter(folder / "overlay.mp4", source.fps) as writer:
            for segmentation in tqdm(predictions, total=source.length or None, desc="predict",
                                     unit=" frames", disable=not progress):
                name = f"masks/{segmentation.frame:05d}.png"
                index = segmentation.index
                height, width = index.shape
                overlay.save_index(folder / name, index)
                writer.add(overlay.draw(segmentation.image, index, query or "",
                                        instance_labels(segmentation)))
                rows.append({"frame": segmentation.frame, "mask": name,
                             "objects": _objects(segmentation)})
        table = {"video": Path(video).name, **prompt, "fps": source.fps, "height": height,
                 "width": width, "frames": rows}
        if segmenter.categories:
            table["identities"] = [
                {**dataclasses.asdict(track), "score": round(track.score, 6)}
                for track in predictions.summary()
            ]
        (folder / "predictions.json").write_text(json.dumps(table, indent=1) + "\n")
    return table


def instance_labels(segmentation: Segmentation) -> dict[int, str]:
    """Returns "category identity" for each object that a model found: {value in the index: text}.

    It is empty for models whose objects are given by prompts.
    """
    return {value: f"{category.replace('_', ' ')} {number}" for value, category, number
            in zip(segmentation.values, segmentation.categories, segmentation.ids, strict=False)}


def _objects(segmentation: Segmentation) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"id": number, "score": round(float(score), 6), "area": int(mask.sum()), "box": _box(mask)}
        for number, mask, score in zip(
            segmentation.ids, segmentation.masks, segmentation.scores, strict=True)
    ]
    for row, category, value in zip(
            rows, segmentation.categories, segmentation.values, strict=False):
        row.update(category=category, value=value)
    return rows


def _box(mask: Bool[np.ndarray, "H W"]) -> list[int] | None:
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return [x, y, x + width, y + height] if width else None
