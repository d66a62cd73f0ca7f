"""What annotation tools say about frames, in one form."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from jaxtyping import Bool

from vseg_jax.run_lengths import encode_rle

MASKS = (".json", ".xml", ".png")  # endings of the files that are read


@dataclasses.dataclass(frozen=True)
class Shape:
    """An object in one frame.

    Attributes:
      label: the name of its class in the tool.
      track: the tool's identity of the object within its video; "" if it gives none.
      segmentation: outlines or a run-length code, as COCO has them.
      where: file and entry, for errors.
    """

    label: str
    track: str
    segmentation: Any
    where: str


@dataclasses.dataclass(frozen=True)
class Annotation:
    """The objects of one frame: shapes, or an index mask.

    Attributes:
      frame: the name of the frame's image without its ending, or the number of the frame.
      places: names one of which may be that of the video: folders, files, what the tool calls it.
      size: (height, width) according to the tool; None if it does not say.
      where: file and entry, for errors.
      shapes: the objects.
      mask: an image file with an index mask, in place of shapes.
    """

    frame: str | int
    places: tuple[str, ...]
    size: tuple[int, int] | None
    where: str
    shapes: tuple[Shape, ...] = ()
    mask: Path | None = None


def find_files(paths: Sequence[Path]) -> list[tuple[Path, tuple[str, ...]]]:
    """Returns the annotation files in files and folders, each with the names of its places.

    Hidden files, and files of other types, are ignored.

    Raises:
      ValueError: there is no such file or folder, or a folder holds no annotation file.
    """
    found: list[tuple[Path, tuple[str, ...]]] = []
    for path in paths:
        if path.is_file():
            if path.suffix.lower() not in MASKS:
                raise ValueError(f"{path} is not an annotation file: they end in "
                                 f"{', '.join(MASKS)} (extract archives first)")
            found.append((path, (path.stem,)))
            continue
        if not path.is_dir():
            raise ValueError(f"there is no file or folder {path}")
        below = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in MASKS and p.is_file()
                 and not any(part.startswith(".") for part in p.relative_to(path).parts)]
        if not below:
            raise ValueError(f"{path} holds no annotation file ({', '.join(MASKS)})")
        found += [(p, (path.name, *p.relative_to(path).parts[:-1], p.stem)) for p in below]
    return found


def named(file_name: str) -> tuple[str, tuple[str, ...]]:
    """Returns the name of an image that a tool calls `file_name`, and the folders before it.

    Roboflow calls frame_7.jpg "frame_7_jpg.rf.<hash>.jpg".
    """
    path = PurePath(file_name.replace("\\", "/"))
    name, roboflow, _ = path.stem.partition(".rf.")
    if roboflow:
        stem, _, ending = name.rpartition("_")
        name = stem if stem and ending.lower() in ("jpg", "jpeg", "png", "webp") else name
    return name, path.parts[:-1]


def outline(points: Sequence[Any], where: str) -> list[float]:
    """Returns [x, y, x, y, ...] of points [[x, y], ...].

    Raises:
      ValueError: fewer than three points, or not points.
    """
    try:
        flat = [float(value) for x, y in points for value in (x, y)]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: points should be [[x, y], ...]: {error}") from error
    if len(flat) < 6:
        raise ValueError(f"{where} has {len(flat) // 2} points; an outline has at least 3")
    return flat


def code_of(
    inner: Bool[np.ndarray, "h w"], top: int, left: int, size: tuple[int, int], where: str
) -> dict[str, Any]:
    """Returns the run-length code of a mask that a tool stores as the part in a box.

    Raises:
      ValueError: the box reaches beyond the image.
    """
    whole = np.zeros(size, bool)
    place = whole[max(top, 0):top + inner.shape[0], max(left, 0):left + inner.shape[1]]
    if place.shape != inner.shape:
        raise ValueError(f"{where}: the mask, {inner.shape[0]}x{inner.shape[1]} at row {top} and "
                         f"column {left}, reaches beyond the image of {size[0]}x{size[1]} "
                         "(height x width)")
    place[:] = inner
    return encode_rle(whole)


def not_a_mask(kind: str, where: str) -> ValueError:
    """Returns the error of a shape that does not outline an object."""
    return ValueError(f"{where} is a shape of the type '{kind}', which does not say which pixels "
                      "belong to the object; draw a polygon or a mask")


def entries(content: Mapping[str, Any], key: str, where: str) -> Iterator[tuple[str, Any]]:
    """Yields (where, entry) for the entries of a list in a JSON file.

    Raises:
      ValueError: the file does not have such a list of objects.
    """
    listed = content.get(key)
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise ValueError(f"{where}: '{key}' should be a list of objects")
    for number, entry in enumerate(listed):
        yield f"{where}, {key.rstrip('s')} {entry.get('id', number)}", entry
