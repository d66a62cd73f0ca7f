"""XML files of CVAT, in its forms "CVAT for images 1.1" and "CVAT for video 1.1".

The form for videos holds every frame of a track. Only frames in which somebody drew an object (its
keyframes) are annotated; the objects that CVAT interpolates belong to them, too.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from vseg_jax.run_lengths import decode_rle
from vseg_jax.tools.own_data.annotations import (
    Annotation,
    Shape,
    code_of,
    named,
    not_a_mask,
    outline,
)

_SHAPES = ("polygon", "mask", "box", "polyline", "points", "ellipse", "cuboid", "skeleton")


def read(path: Path, places: tuple[str, ...]) -> list[Annotation]:
    """Returns the annotations of a file.

    Raises:
      ValueError: it is not of CVAT, or a shape cannot be used; names file and frame.
    """
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except (ElementTree.ParseError, LookupError, ValueError) as error:   # or its encoding is odd
        raise ValueError(f"{path} is not XML ({error}); export it again") from error
    if root.tag != "annotations":
        raise ValueError(f"{path} is not a file of CVAT: its root is <{root.tag}>, not "
                         "<annotations>; export the task as 'CVAT for images' or 'for video'")
    titles = [node.text.strip() for tag in ("source", "name")
            for node in root.iterfind(f"meta//{tag}") if node.text and node.text.strip()]
    places = (*places, *(Path(name).stem for name in titles))
    if root.find("track") is not None:
        return _tracks(path, root, places)
    found = [_image(path, node, places) for node in root.iterfind("image")]
    return [annotation for annotation in found if annotation.shapes]   # the others are not drawn


def _image(path: Path, node: ElementTree.Element, places: tuple[str, ...]) -> Annotation:
    file_name = node.get("name", "")
    where = f"{path}, image {file_name}"
    size = _size(node, where)
    shapes = [_shape(child, size, where, child.get("label", ""), child.get("group_id", ""))
              for child in node if child.tag in _SHAPES]
    name, folders = named(file_name)
    return Annotation(name, (*places, *folders), size, where, tuple(shapes))


def _tracks(
    path: Path, root: ElementTree.Element, places: tuple[str, ...]
) -> list[Annotation]:
    original = root.find("meta//original_size")
    if original is None:
        raise ValueError(f"{path} has tracks but no <original_size>; export the task as 'CVAT for "
                         "video 1.1'")
    size = (_number(original.findtext("height"), f"{path}: the height in <original_size>"),
            _number(original.findtext("width"), f"{path}: the width in <original_size>"))
    shown: dict[int, list[tuple[ElementTree.Element, str, str]]] = defaultdict(list)
    for track in root.iterfind("track"):
        name = f"{path}, track {track.get('id')}"
        visible = [node for node in track if node.tag in _SHAPES and node.get("outside") != "1"]
        # CVAT writes each shape that is not part of a track as a track of one frame.
        identity = track.get("id", "") if len(visible) > 1 else ""
        for node in visible:
            frame = _number(node.get("frame"), f"{name}: the frame of a <{node.tag}>")
            shown[frame].append((node, track.get("label", ""), identity))
    found = []
    for frame, listed in sorted(shown.items()):
        if all(node.get("keyframe") == "0" for node, *_ in listed):
            continue
        where = f"{path}, frame {frame}"
        shapes = tuple(_drawn(node, size, where, label, track) for node, label, track in listed)
        found.append(Annotation(frame, places, size, where, shapes))
    return found


def _drawn(
    node: ElementTree.Element, size: tuple[int, int], where: str, label: str, track: str
) -> Shape:
    """Returns a shape of a track; raises a ValueError for the copy of an earlier mask."""
    shape = _shape(node, size, where, label, track)
    if node.tag == "mask" and node.get("keyframe") == "0":
        raise ValueError(f"{shape.where}: CVAT does not interpolate masks, so this one is the copy "
                         "of an earlier frame's; in a frame in which you draw one object, draw the "
                         "others as well")
    return shape


def _shape(
    node: ElementTree.Element, size: tuple[int, int], where: str, label: str, track: str
) -> Shape:
    label = label.strip()
    if not label:
        raise ValueError(f"{where}: a <{node.tag}> has no label")
    where = f"{where} ({label}{f' of track {track}' if track else ''})"
    for attribute in node.iterfind("attribute"):
        if attribute.get("name") == "track_id" and attribute.text:
            track = attribute.text.strip()
    if node.tag == "polygon":
        points = [pair.split(",") for pair in node.get("points", "").split(";")]
        return Shape(label, track, [outline(points, where)], where)
    if node.tag == "mask":
        return Shape(label, track, _mask(node, size, where), where)
    raise not_a_mask(node.tag, where)


def _mask(node: ElementTree.Element, size: tuple[int, int], where: str) -> dict[str, Any]:
    """Returns the run-length code of a mask, of which CVAT stores the rows of its box."""
    left, top, width, height = (
        _number(node.get(key), f"{where}: the {key} of a mask")
        for key in ("left", "top", "width", "height"))
    runs = [_number(run, f"{where}: a run of a mask") for run in node.get("rle", "").split(",")]
    inner = decode_rle({"size": [width, height], "counts": runs}, where).T   # down the rows
    return code_of(inner, top, left, size, where)


def _size(node: ElementTree.Element, where: str) -> tuple[int, int]:
    return (_number(node.get("height"), f"{where}: its height"),
            _number(node.get("width"), f"{where}: its width"))


def _number(text: str | None, what: str) -> int:
    try:
        return int(float(text or ""))
    except (ValueError, OverflowError):   # also of NaN and infinity
        raise ValueError(f"{what} should be a number, got '{text}'") from None
