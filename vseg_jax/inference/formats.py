"""Predictions in the formats of other programs, made of the folders of `predict_to_folder`.

| format | files | for |
|---|---|---|
| `davis` | `davis/NAME/00000.png` | DAVIS' tools, `vseg metrics davis` |
| `youtube_vos` | `youtube_vos/Annotations/NAME/00000.png` | the server of YouTube-VOS |
| `youtube_vis` | `youtube_vis.json`: a track per object of a video | programs for YouTube-VIS |
| `coco` | `coco.json`: an annotation per object of a frame | programs for COCO |
| `npz` | `npz/NAME.npz`: `masks` uint8 [T, H, W], `frames` int64 [T], `times` float64 [T] | numpy |
| `alpha-video` | `alpha-video/NAME.mov`: ProRes 4444, transparent without object | video editors |

NAME is that of the video. The index PNGs are links to those of the predictions, where the disk can.
The JSON files have the masks as run-length codes and "score"; their frames are `NAME/00000.jpg`, or
NAME/ and the name of the image in a folder of images. Models without categories have one, "object".
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from vseg_jax.atomic import atomic_file, atomic_folder, write_text
from vseg_jax.inference.predict import TABLE
from vseg_jax.media import overlay
from vseg_jax.media.excerpt import WHOLE, Part, open_source
from vseg_jax.media.images import ImageFolder
from vseg_jax.media.video import VideoWriter
from vseg_jax.run_lengths import encode_rle

ANY_CATEGORY = ("object",)   # of models that do not name any


@dataclasses.dataclass(frozen=True)
class Predicted:
    """The predictions for a video.

    Attributes:
      name: of the video, which may have folders: "a/clip".
      folder: that `predict_to_folder` has written.
      video: its path.
      fps, part: as for `predict_to_folder`.
    """

    name: str
    folder: Path
    video: Path
    fps: float | None = None
    part: Part = WHOLE

    @property
    def table(self) -> dict[str, Any]:
        """What `predictions.json` holds."""
        return json.loads((self.folder / TABLE).read_text(encoding="utf-8"))

    def index(self, row: dict[str, Any]) -> UInt8[np.ndarray, "H W"]:
        """Returns the index mask of a row of the table's frames."""
        return overlay.read_index(self.folder / row["mask"])


def write_each(name: str, predicted: Predicted, output: Path, replace: bool) -> None:
    """Writes the files that a format has for a video, if it has some.

    Args:
      name: of the format, one of `FORMATS`.
      predicted: the video.
      output: folder in which the format's folder is.
      replace: whether files that are there are written again.
    """
    if name not in _EACH:
        return
    place, write = _EACH[name]
    target = output / place.format(predicted.name)
    if target.exists():
        if not replace:
            return
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    write(predicted, target)


def write_all(name: str, videos: Sequence[Predicted], categories: Sequence[str], output: Path
              ) -> None:
    """Writes the file that a format has for all videos together, if it has one.

    Args:
      name, output: see `write_each`.
      videos: in the order of the file.
      categories: of the model.
    """
    if name in _ALL:
        content = _ALL[name](videos, list(categories or ANY_CATEGORY))
        write_text(output / f"{name}.json", json.dumps(content) + "\n")


# --- a video ------------------------------------------------------------------------------------


def _pngs(predicted: Predicted, target: Path) -> None:
    with atomic_folder(target) as folder:
        for row in predicted.table["frames"]:
            file = predicted.folder / row["mask"]
            try:
                os.link(file, folder / file.name)
            except OSError:   # another disk, or one without links
                shutil.copyfile(file, folder / file.name)


def _npz(predicted: Predicted, target: Path) -> None:
    """Writes a file that `np.load` reads, with one mask at a time in memory."""
    table = predicted.table
    rows = table["frames"]
    shape = (len(rows), table["height"], table["width"])
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    columns = {"frames": np.array([row["frame"] for row in rows], np.int64),
               "times": np.array([row["time"] for row in rows], np.float64)}
    with atomic_file(target) as temporary, \
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("masks.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, header)
            for row in rows:
                file.write(predicted.index(row).tobytes())
        for name, column in columns.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, column)


def _cutout(predicted: Predicted, target: Path) -> None:
    source = open_source(predicted.video, predicted.fps, predicted.part)
    with VideoWriter(target, source.fps, transparent=True) as writer:
        for number, (row, frame) in enumerate(
                zip(predicted.table["frames"], source, strict=False)):
            opacity = np.uint8(255) * (predicted.index(row) > 0)
            start, end = (time - source.times[0] for time in source.times[number:number + 2])
            writer.add(np.dstack([frame, opacity]), start, end)


# --- all videos ---------------------------------------------------------------------------------


def _coco(videos: Sequence[Predicted], categories: list[str]) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, video in enumerate(videos, 1):
        table = video.table
        for row, name in zip(table["frames"], _frame_names(video, table), strict=True):
            images.append({
                "id": len(images) + 1, "file_name": name, "height": table["height"],
                "width": table["width"], "video_id": number, "frame_id": row["frame"]})
            for found, code in _codes(video, row):
                annotations.append({
                    "id": len(annotations) + 1, "image_id": len(images),
                    "category_id": _category(found, categories), "segmentation": code,
                    "area": found["area"], "bbox": _corner_and_size(found["box"]), "iscrowd": 0,
                    "score": found["score"], "track_id": found["id"]})
    return {"images": images, "annotations": annotations, "categories": _listed(categories)}


def _youtube_vis(videos: Sequence[Predicted], categories: list[str]) -> dict[str, Any]:
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, video in enumerate(videos, 1):
        table = video.table
        rows, size = table["frames"], {"height": table["height"], "width": table["width"]}
        entries.append({"id": number, **size, "length": len(rows),
                        "file_names": _frame_names(video, table)})
        tracks: dict[int, list[Any]] = {}
        for t, row in enumerate(rows):
            for found, code in _codes(video, row):
                tracks.setdefault(found["id"], [None] * len(rows))[t] = (found, code)
        summary = {track["id"]: track for track in table.get("identities", ())}
        for i, track in sorted(tracks.items()):
            seen = [frame[0] for frame in track if frame]
            whole = summary.get(i, {"score": float(np.mean([found["score"] for found in seen])),
                                    "category": seen[-1].get("category")})
            annotations.append({
                "id": len(annotations) + 1, "video_id": number, **size, "iscrowd": 0,
                "category_id": _category(whole, categories), "score": whole["score"],
                "length": len(rows), "track_id": i,
                "segmentations": [frame and frame[1] for frame in track],
                "bboxes": [frame and _corner_and_size(frame[0]["box"]) for frame in track],
                "areas": [frame and frame[0]["area"] for frame in track]})
    return {"videos": entries, "annotations": annotations, "categories": _listed(categories)}


def _codes(video: Predicted, row: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yields the objects of a frame that have a pixel, with their run-length codes."""
    visible = [found for found in row["objects"] if found["area"]]
    index: Any = None
    for found in visible:
        code = found.get("rle")
        if code is None:   # objects that do not overlap
            index = video.index(row) if index is None else index
            mask: Bool[np.ndarray, "H W"] = index == found["id"]
            code = encode_rle(mask)
        yield found, code


def _frame_names(video: Predicted, table: dict[str, Any]) -> list[str]:
    folder = ImageFolder(video.video) if video.video.is_dir() else None
    if folder:
        return [f"{video.name}/{folder.files[row['frame']].name}" for row in table["frames"]]
    return [f"{video.name}/{row['frame']:05d}.jpg" for row in table["frames"]]


def _category(found: dict[str, Any], categories: list[str]) -> int:
    name = found.get("category")
    return 1 + categories.index(name) if name else 1


def _listed(categories: list[str]) -> list[dict[str, Any]]:
    return [{"id": number, "name": name} for number, name in enumerate(categories, 1)]


def _corner_and_size(box: list[int]) -> list[int]:
    left, top, right, bottom = box
    return [left, top, right - left, bottom - top]


_EACH: dict[str, tuple[str, Callable[[Predicted, Path], None]]] = {
    "davis": ("davis/{}", _pngs),
    "youtube_vos": ("youtube_vos/Annotations/{}", _pngs),
    "npz": ("npz/{}.npz", _npz),
    "alpha-video": ("alpha-video/{}.mov", _cutout),
}
_ALL: dict[str, Callable[[Sequence[Predicted], list[str]], dict[str, Any]]] = {
    "youtube_vis": _youtube_vis, "coco": _coco,
}
FORMATS = (*_EACH, *_ALL)
