"""The files that a user takes along: an overlay video, masks, a table, cut-outs, prompts."""

from __future__ import annotations

import contextlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from vseg_jax.atomic import atomic_file, write_text
from vseg_jax.demo.work import Work
from vseg_jax.inference.predict import object_rows
from vseg_jax.inference.segmentation import Segmentation
from vseg_jax.media import overlay
from vseg_jax.media.audio import sound_of_video
from vseg_jax.media.images import open_video
from vseg_jax.media.video import Video, VideoWriter

Progress = Callable[[float], None]   # gets the share that is done, in [0, 1]


def save_overlay(work: Work, progress: Progress) -> Path:
    """Writes the clip with the masks drawn in, with its times and its sound; returns the file."""
    clip, path = work.clip, _file(work, "overlay.mp4")
    video = open_video(clip.path)
    first = clip.times[0]
    sound = sound_of_video(video, first) if isinstance(video, Video) else None
    with VideoWriter(path, clip.fps, sound) as writer:
        for found in _segmentations(work, progress):
            start, end = clip.times[found.frame:found.frame + 2]
            writer.add(overlay.draw(found.image, found.index, work.query, work.names),
                       start - first, end - first)
    return path


def save_masks(work: Work, progress: Progress) -> Path:
    """Writes an archive of index PNGs with DAVIS' palette; returns the file."""
    path = _file(work, "masks.zip")
    with _archive(path) as archive:
        for found in _segmentations(work, progress):
            archive.writestr(f"masks/{_number(work, found):05d}.png", _png(found.index))
    return path


def save_table(work: Work, progress: Progress) -> Path:
    """Writes the table of frames and objects as JSON; returns the file.

    It is that of `vseg predict` without "settings". Scores are those of the model, 1 where the user
    gave the mask. "names" has the names of the objects by id.
    """
    clip, path = work.clip, _file(work, "table.json")
    rows = [{"frame": _number(work, found), "time": round(clip.times[found.frame], 6),
             "mask": f"masks/{_number(work, found):05d}.png", "objects": object_rows(found)}
            for found in _segmentations(work, progress)]
    height, width = clip.size
    table: dict[str, Any] = {"video": clip.path.name}
    if work.query:
        table["query"] = work.query
    table |= {"fps": round(clip.fps, 6), "height": height, "width": width,
              "names": {str(i): name for i, name in work.names.items()}, "frames": rows}
    write_text(path, json.dumps(table, indent=1) + "\n")
    return path


def save_cutouts(work: Work, progress: Progress) -> Path:
    """Writes an archive with a folder of RGBA PNGs for each object; returns the file.

    An object's PNGs have the size of the frames, and show nothing but the object. There is none for
    a frame without it.
    """
    path = _file(work, "cutouts.zip")
    with _archive(path) as archive:
        for found in _segmentations(work, progress):
            for number, mask in zip(found.ids, found.masks, strict=True):
                if mask.any():
                    alpha = np.uint8(255) * mask
                    rgba = np.dstack([found.image[..., ::-1] * mask[..., None], alpha])
                    name = f"{_file_name(number, work.names)}/{_number(work, found):05d}.png"
                    archive.writestr(name, cv2.imencode(".png", rgba)[1].tobytes())
    return path


def save_prompts(work: Work, progress: Progress) -> Path:
    """Writes an archive of the masks that the user gave; returns the file.

    It has a folder of index PNGs for each object, with the size and the numbers of the frames in
    the video: what `vseg predict --mask` takes for the whole of it.
    """
    path, clip = _file(work, "prompts.zip"), work.clip
    size = clip.original[1], clip.original[0]
    masks, objects = work.prompts.for_model()
    with _archive(path) as archive:
        for done, (frame, numbers) in enumerate(objects.items(), 1):
            for number in numbers:
                index = cv2.resize((masks[frame] == number) * np.uint8(number), size,
                                   interpolation=cv2.INTER_NEAREST)
                archive.writestr(f"prompts/{number}/{clip.first + frame:05d}.png", _png(index))
            progress(done / len(objects))
    return path


def _file(work: Work, name: str) -> Path:
    """Returns where to write a file; apart from the video, which may have the same name."""
    return work.folder / "files" / name


def _number(work: Work, found: Segmentation) -> int:
    """Returns the number of a frame in the video."""
    return work.clip.first + found.frame


@contextlib.contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Yields an archive that is written atomically; what it holds is compressed already."""
    with atomic_file(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        yield archive


def _png(index: UInt8[np.ndarray, "H W"]) -> bytes:
    file = io.BytesIO()
    overlay.save_index(file, index)
    return file.getvalue()


def _segmentations(work: Work, progress: Progress) -> Iterator[Segmentation]:
    """Yields what is known of all frames; reports the progress."""
    for number in range(len(work.clip)):
        yield work.segmentation(number)
        progress((number + 1) / len(work.clip))


def _file_name(number: int, names: Mapping[int, str]) -> str:
    """Returns the name of an object's folder, like "2 red car"."""
    plain = re.sub(r"[^\w -]", "_", names[number])
    return f"{number} {plain}"


# Name for the user -> what writes the file and returns its path.
DOWNLOADS: dict[str, Callable[[Work, Progress], Path]] = {
    "overlay video": save_overlay,
    "masks": save_masks,
    "table": save_table,
    "cut-outs": save_cutouts,
    "prompts": save_prompts,
}
