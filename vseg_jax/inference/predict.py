"""Segments a video into a folder: index PNGs, a video with the masks drawn in, a table.

The folder holds

- `masks/00000.png` ...: index PNGs with DAVIS' palette, at the video's size, with the ids of the
  mask prompts. Those of a folder of images have the images' names;
- `overlay.mp4`, with the sound of the video and each frame at its time;
- `predictions.json`: {"video", "query" or "mask", "fps", "height", "width", "frames": [{"frame",
  "time", "mask", "objects": [{"id", "score", "area", "box"}]}]}. "time" is when the frame is shown,
  in seconds from the beginning of the video, and "fps" the average rate. Areas are in pixels; boxes
  are [left, top, right, bottom] in pixel edges, None for an empty mask;
- where it is asked for, `probabilities/00000.npz` ..., named as the masks: `probability`, float16
  [N, height, width] in [0, 1], of the N objects of the frame, and their `ids`, int32 [N]. With mask
  prompts the background has the rest, 1 - their sum; without, each object is apart from the others.

A model that finds objects by itself takes no prompt. Its overlay shows each object's category and
identity. Its objects also have "category" and "value", the pixel value in the index PNG (the id, as
long as that is at most 254). Its table also has "identities", the summary of each object over the
video: {"id", "category", "score", "frames"}, where "frames" is the number of frames that show it
(in a long video, objects that use the same slot at different times share an id, see
`Session.summary`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool
from PIL import Image
from tqdm import tqdm

from vseg_jax.inference.predictions import Predictions
from vseg_jax.inference.prompts.files import read_masks
from vseg_jax.inference.segmentation import Segmentation
from vseg_jax.inference.segmenter import Segmenter
from vseg_jax.inference.session import Session
from vseg_jax.inference.unfinished import Unfinished, fingerprint
from vseg_jax.interruption import Interruption
from vseg_jax.media import overlay
from vseg_jax.media.audio import sound_of_video
from vseg_jax.media.images import ImageFolder, open_video
from vseg_jax.media.video import Video, VideoWriter


def predict_to_folder(
    segmenter: Segmenter, video: str | os.PathLike, output: str | os.PathLike, *,
    query: str | None = None, mask: str | os.PathLike | None = None, fps: float | None = None,
    both_directions: bool = False, probabilities: bool = False, drawn: bool = True,
    progress: bool = True,
) -> dict[str, Any]:
    """Segments every frame of a video and writes a new folder, atomically.

    SIGTERM, Ctrl-C and errors leave the frames that are done in `output` with ".unfinished" at the
    end of its name, and the next call with the same arguments goes on after the last save: at the
    interruption, at a frame that cannot be used, and every minute.

    Args:
      segmenter: the model to use.
      video: path of a video file or of a folder of images.
      output: path of the folder; it must not exist, or be empty.
      query: the referring expression, for models that take a query.
      mask: for models that take mask prompts: the first frame's index PNG; a folder of index PNGs,
        each named by the number of its frame (00000.png, 00030.png) or as its image, for objects
        that enter later or are corrected; or a folder of such folders, each named by the id of an
        object (1/00000.png), whose masks speak for that object only.
      fps: frames per second of a folder of images; see `vseg_jax.media.open_video`.
      both_directions: see `Segmenter.segment`.
      probabilities: whether to write `probabilities/`, too.
      drawn: whether to draw `overlay.mp4`.
      progress: whether to show a progress bar.

    Returns:
      What `predictions.json` holds; see the module's docstring.

    Raises:
      ValueError: the video or a mask cannot be read, the query is empty, the model does not take
        this prompt, `output` exists already, or another prediction into it is not finished.
      KeyboardInterrupt: after SIGTERM or Ctrl-C; the message says what is done.
    """
    source = open_video(video, fps)
    names = source.names if isinstance(source, ImageFolder) else ()
    masks, objects = ({}, {}) if mask is None else read_masks(mask, names)
    prompt = {"mask": Path(mask).name} if mask is not None else {"query": query} if query else {}
    command = {**fingerprint(source, masks, objects), "query": query, "fps": fps,
               "both_directions": both_directions, "probabilities": probabilities}
    table: dict[str, Any] = {"video": Path(video).resolve().name, **prompt}
    with Unfinished(Path(output), command) as work, Interruption() as stop:
        for name in ("masks", *(["probabilities"] if probabilities else [])):
            (work.folder / name).mkdir(exist_ok=True)
        with _writer(work.folder, source, drawn) as writer:
            if writer and work.rows:
                _draw_again(writer, source, work, query or "")
            predictions = segmenter._predictions(
                source, query, masks, objects, None, both_directions, work.session)
            with contextlib.closing(predictions):
                height, width = _write_frames(
                    predictions, work, stop, source, writer, query or "", probabilities, progress)
        seconds = source.times[len(work.rows)] - source.times[0]
        table |= {"fps": round(len(work.rows) / seconds, 6), "height": height, "width": width,
                  "frames": work.rows}
        if segmenter.categories:
            table["identities"] = _identities(predictions)
        (work.folder / "predictions.json").write_text(json.dumps(table, indent=1) + "\n")
    return table


def _identities(predictions: Predictions) -> list[dict[str, Any]]:
    return [{**dataclasses.asdict(track), "score": round(track.score, 6)}
            for track in predictions.summary()]


def _write_frames(
    predictions: Predictions, work: Unfinished, stop: Interruption, source: Video | ImageFolder,
    writer: VideoWriter | None, caption: str, probabilities: bool, progress: bool,
) -> tuple[int, int]:
    """Writes the frames that are not done; returns their height and width.

    Raises:
      KeyboardInterrupt: after a request to stop.
    """
    def save(session: Session | None) -> bool:
        work.save(session)
        return stop.requested

    predictions.rest(save, at_errors=True)
    bar = tqdm(predictions, total=source.length or None, desc="predict", unit=" frames",
               initial=len(work.rows), disable=not progress)
    for segmentation in bar:
        number = segmentation.frame
        start, end = source.times[number:number + 2]
        if writer:
            image = overlay.draw(segmentation.image, segmentation.index, caption,
                                 instance_labels(segmentation))
            writer.add(image, start, end)
        name = source.names[number] if isinstance(source, ImageFolder) else f"{number:05d}"
        work.rows.append(_write(segmentation, work.folder, name, start, probabilities))
        if stop.requested or work.due:
            predictions.rest(save)
    if predictions.stopped:
        raise KeyboardInterrupt(f"stopped; {work.folder} holds the {len(work.rows)} frames that "
                                "are done, and the same command resumes after them")
    return segmentation.index.shape


def _draw_again(
    writer: VideoWriter, source: Video | ImageFolder, work: Unfinished, caption: str
) -> None:
    """Draws the frames of an earlier call, which are in its files."""
    for number, (row, frame) in enumerate(zip(work.rows, source, strict=False)):
        with Image.open(work.folder / row["mask"]) as image:
            index = np.asarray(image)
        labels = {o["value"]: _label(o["category"], o["id"]) for o in row["objects"]
                  if "category" in o and o["value"]}
        writer.add(overlay.draw(frame, index, caption, labels), *source.times[number:number + 2])


def _writer(
    folder: Path, source: Video | ImageFolder, drawn: bool
) -> contextlib.AbstractContextManager[VideoWriter | None]:
    """Returns what writes `overlay.mp4`, or None in its place."""
    if not drawn:
        return contextlib.nullcontext()
    sound = sound_of_video(source) if isinstance(source, Video) else None
    return VideoWriter(folder / "overlay.mp4", source.fps, sound)


def _write(
    segmentation: Segmentation, folder: Path, name: str, time: float, probabilities: bool
) -> dict[str, Any]:
    """Writes the files of a frame and returns its row of the table."""
    mask = f"masks/{name}.png"
    overlay.save_index(folder / mask, segmentation.index)
    if probabilities:
        np.savez_compressed(
            folder / f"probabilities/{name}.npz",
            probability=segmentation.probability.astype(np.float16),
            ids=np.array(segmentation.ids, np.int32))
    return {"frame": segmentation.frame, "time": round(time, 6), "mask": mask,
            "objects": _objects(segmentation)}


def instance_labels(segmentation: Segmentation) -> dict[int, str]:
    """Returns "category identity" for each object that a model found: {value in the index: text}.

    It is empty for models whose objects are given by prompts.
    """
    return {value: _label(category, number) for value, category, number
            in zip(segmentation.values, segmentation.categories, segmentation.ids, strict=False)
            if value}


def _label(category: str, number: int) -> str:
    return f"{category.replace('_', ' ')} {number}"


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
