"""A video file and its prompt to files: index PNGs, a video with the masks drawn in, a table."""

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
from vseg_jax.inference.prompts import masks
from vseg_jax.inference.segmentation import Segmentation
from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.media import overlay
from vseg_jax.media.video import Video, VideoWriter


def predict_to_folder(
    segmenter: Segmenter, video: str | os.PathLike, output: str | os.PathLike, *,
    query: str | None = None, mask: str | os.PathLike | None = None, progress: bool = True,
) -> dict[str, Any]:
    """Answers for every frame of a video file, into a new folder, whole or not at all.

    Writes `masks/00000.png` ... (index PNGs with DAVIS' palette, at the video's size, with the ids
    of the given masks), `overlay.mp4`, and `predictions.json`, which is also returned: {"video",
    "query" or "mask", "fps", "height", "width", "frames": [{"frame", "mask", "objects": [{"id",
    "score", "area", "box"}]}]}; areas are in pixels, boxes [left, top, right, bottom] in pixel
    edges, None where nothing was found.

    A model that finds objects by itself takes no prompt. The video then shows each object's category
    and identity; an object also has "category", and "value", which is its pixels' in the index PNG
    and its id as long as that is at most 254; and the table has "identities", what the model says
    of each over the whole video: {"id", "category", "score", "frames"}, the number of frames that
    show it (see `Session.summary` for videos of very many).

    Args:
      query: the sentence, for a model of sentences.
      mask: for a model of masks: the first frame's index PNG, or a folder of them, each named by
        the number of its frame (00000.png, 00030.png), for objects that enter later.

    Raises:
      ValueError: the video or a mask cannot be read, the sentence is empty, the prompt is not the
        model's, `output` is there already.
    """
    source = Video(video)
    given = {} if mask is None else masks.read(mask)
    prompt = {"mask": Path(mask).name} if mask is not None else {"query": query} if query else {}
    rows: list[dict[str, Any]] = []
    with atomic_folder(output) as folder:
        (folder / "masks").mkdir()
        predictions = segmenter.segment(source, query, masks=given)
        with VideoWriter(folder / "overlay.mp4", source.fps) as video:
            for prediction in tqdm(predictions, total=source.length or None, desc="predict",
                               unit=" frames", disable=not progress):
                name = f"masks/{prediction.frame:05d}.png"
                index = prediction.index
                overlay.save_index(folder / name, index)
                video.add(overlay.draw(prediction.image, index, query or "", instance_labels(prediction)))
                rows.append({"frame": prediction.frame, "mask": name, "objects": _objects(prediction)})
        table = {"video": Path(video).name, **prompt, "fps": source.fps,
                 "height": index.shape[0], "width": index.shape[1], "frames": rows}
        if segmenter.categories:
            table["identities"] = [
                {**dataclasses.asdict(track), "score": round(track.score, 6)}
                for track in predictions.summary()
            ]
        (folder / "predictions.json").write_text(json.dumps(table, indent=1) + "\n")
    return table


def instance_labels(prediction: Segmentation) -> dict[int, str]:
    """What is written on the objects of a model that finds them: {value in the index: text}."""
    return {value: f"{category.replace('_', ' ')} {number}" for value, category, number
            in zip(prediction.values, prediction.categories, prediction.ids, strict=False)}


def _objects(prediction: Segmentation) -> list[dict[str, Any]]:
    rows = [
        {"id": number, "score": round(float(score), 6), "area": int(mask.sum()), "box": _box(mask)}
        for number, mask, score in zip(prediction.ids, prediction.masks, prediction.scores, strict=True)
    ]
    for row, category, value in zip(rows, prediction.categories, prediction.values, strict=False):
        row.update(category=category, value=value)
    return rows


def _box(mask: Bool[np.ndarray, "H W"]) -> list[int] | None:
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return [x, y, x + width, y + height] if width else None
