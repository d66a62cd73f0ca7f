"""JSON files of LabelMe, and of all tools that write COCO's form (CVAT, Label Studio, Roboflow)."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vseg_jax.text_files import read_json
from vseg_jax.tools.own_data.annotations import (
    Annotation,
    Shape,
    code_of,
    entries,
    named,
    not_a_mask,
    outline,
)


def read(path: Path, places: tuple[str, ...]) -> list[Annotation]:
    """Returns the annotations of a file.

    Raises:
      ValueError: it is neither of LabelMe nor of COCO, or an entry cannot be used; names both.
    """
    content = read_json(path)
    if isinstance(content, dict) and "shapes" in content:
        return [_labelme(path, content, places)]
    if isinstance(content, dict) and {"images", "annotations"} <= content.keys():
        return _coco(path, content, places)
    raise ValueError(f"{path} is neither a file of LabelMe (with 'shapes') nor of COCO (with "
                     "'images' and 'annotations'); export the masks in one of these forms")


def _size(entry: Mapping[str, Any], height: str, width: str, where: str) -> tuple[int, int]:
    try:
        return int(entry[height]), int(entry[width])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{where}: {height} and {width} should be numbers: {error!r}") from error


# --- LabelMe ----------------------------------------------------------------------------------


def _labelme(path: Path, content: dict[str, Any], places: tuple[str, ...]) -> Annotation:
    size = _size(content, "imageHeight", "imageWidth", str(path))
    shapes = tuple(_labelme_shape(entry, size, where)
                   for where, entry in entries(content, "shapes", str(path)))
    return Annotation(named(path.name)[0], places, size, str(path), shapes)


def _labelme_shape(entry: Mapping[str, Any], size: tuple[int, int], where: str) -> Shape:
    label = str(entry.get("label") or "").strip()
    if not label:
        raise ValueError(f"{where} has no label")
    where = f"{where} ({label})"
    kind = entry.get("shape_type") or "polygon"
    part: Any
    if kind == "mask":
        part = _labelme_mask(entry, size, where)
    elif kind == "polygon":
        part = [outline(entry.get("points") or (), where)]
    else:
        raise not_a_mask(kind, where)
    group = entry.get("group_id")
    return Shape(label, "" if group is None else str(group), part, where)


def _labelme_mask(
    entry: Mapping[str, Any], size: tuple[int, int], where: str
) -> dict[str, Any]:
    """Returns the run-length code of a mask, which LabelMe stores as a PNG of its box."""
    try:
        data = base64.b64decode(entry["mask"], validate=True)
        inner = np.asarray(Image.open(io.BytesIO(data)).convert("L")) > 0
        left, top = (int(value) for value in entry["points"][0])
    except (KeyError, IndexError, TypeError, ValueError, OverflowError, OSError) as error:
        raise ValueError(f"{where}: the mask cannot be read: {error!r}") from error
    return code_of(inner, top, left, size, where)


# --- COCO -------------------------------------------------------------------------------------


def _coco(path: Path, content: dict[str, Any], places: tuple[str, ...]) -> list[Annotation]:
    """Returns the annotations of the images that have any; the others are not annotated."""
    where = str(path)
    try:
        labels = {entry["id"]: str(entry["name"]).strip()
                  for where, entry in entries(content, "categories", str(path))}
        images = {entry["id"]: (where, entry)
                  for where, entry in entries(content, "images", str(path))}
        shapes: dict[Any, list[Shape]] = {}
        for where, entry in entries(content, "annotations", str(path)):
            if entry["image_id"] not in images:
                raise ValueError(f"{where} is of the image {entry['image_id']!r}, which the file "
                                 "does not list")
            if entry["category_id"] not in labels:
                raise ValueError(f"{where} has the category_id {entry['category_id']!r}, which the "
                                 "file's categories do not list")
            shapes.setdefault(entry["image_id"], []).append(
                _coco_shape(entry, labels[entry["category_id"]], where))
        found = []
        for number, (where, entry) in images.items():
            if number not in shapes:
                continue
            name, folders = named(str((entry.get("extra") or {}).get("name")
                                      or entry["file_name"]))
            where = f"{where} ({entry['file_name']})"
            size = _size(entry, "height", "width", where)
            found.append(Annotation(name, (*places, *folders), size, where, tuple(shapes[number])))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{where}: not the form of COCO annotations: {error!r}") from error
    return found


def _coco_shape(entry: Mapping[str, Any], label: str, where: str) -> Shape:
    where = f"{where} ({label})"
    part = entry.get("segmentation")
    if not part:
        raise not_a_mask("box", where)
    if entry.get("iscrowd") and not isinstance(part, dict):
        raise ValueError(f"{where} is a crowd; outline each object by itself")
    tracks = (entry.get("track_id"), (entry.get("attributes") or {}).get("track_id"))
    track = next((str(t) for t in tracks if t is not None), "")
    return Shape(label, track, part, where)
