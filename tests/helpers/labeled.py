"""The same masks as different annotation tools write them: eight frames, three of them annotated.

A dog is in frames 1, 3 and 6, a cat in frame 3 alone.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from archives import box, palette_png, picture
from PIL import Image

from vseg_jax.run_lengths import encode_rle

SIZE = (16, 24)  # height, width
BOXES = {1: {"dog": (4, 1)}, 3: {"dog": (4, 3), "cat": (2, 14)}, 6: {"dog": (5, 6)}}  # top, left
IDS = {"dog": 1, "cat": 2}


def truth(frame: int) -> np.ndarray:
    """Returns the index mask of an annotated frame."""
    index = np.zeros(SIZE, np.uint8)
    for name, (top, left) in BOXES[frame].items():
        index[box(SIZE, top, left)] = IDS[name]
    return index


def frames(folder: Path, count: int = 8, name: str = "frame_{:03d}.jpg", seed: int = 0) -> Path:
    """Writes the images of a video."""
    folder.mkdir(parents=True)
    for t in range(count):
        Image.fromarray(picture(SIZE, seed + t)).save(folder / name.format(t))
    return folder


def corners(top: int, left: int) -> list[list[int]]:
    """Returns the outline of a box, (x, y) in pixels."""
    return [[left, top], [left + 8, top], [left + 8, top + 8], [left, top + 8]]


def labelme(folder: Path, mask: bool = False, name: str = "frame_{:03d}.json") -> Path:
    """Writes a file per frame, with polygons or with masks."""
    folder.mkdir(parents=True, exist_ok=True)
    for t, boxes in BOXES.items():
        shapes = []
        for label, (top, left) in boxes.items():
            shape = {"label": label, "group_id": None, "shape_type": "polygon",
                     "points": corners(top, left)}
            if mask:
                data = io.BytesIO()
                Image.fromarray(np.ones((8, 8), bool)).save(data, "PNG")
                shape |= {"shape_type": "mask", "points": [[left, top], [left + 7, top + 7]],
                          "mask": base64.b64encode(data.getvalue()).decode()}
            shapes.append(shape)
        (folder / name.format(t)).write_text(json.dumps({
            "version": "5", "imagePath": "x.jpg", "imageHeight": SIZE[0], "imageWidth": SIZE[1],
            "shapes": shapes}))
    return folder


def coco_content(
    segmentation: Callable[[int, int], object], file_name: str = "frame_{:03d}.jpg"
) -> dict:
    """Returns a COCO file of all eight images; the categories do not have the objects' ids."""
    categories = {"dog": 7, "cat": 4}
    return {
        "categories": [{"id": i, "name": name} for name, i in categories.items()],
        "images": [{"id": 10 + t, "file_name": file_name.format(t), "height": SIZE[0],
                    "width": SIZE[1]} for t in range(8)],
        "annotations": [
            {"id": 100 * t + i, "image_id": 10 + t, "category_id": categories[name], "iscrowd": 0,
             "segmentation": segmentation(*place)}
            for t, boxes in BOXES.items() for i, (name, place) in enumerate(boxes.items())],
    }


def outlines(top: int, left: int) -> list[list[int]]:
    """Returns a box as COCO's polygons."""
    return [[v for point in corners(top, left) for v in point]]


def code(top: int, left: int) -> dict:
    """Returns a box as a compressed run-length code."""
    return encode_rle(box(SIZE, top, left))


def runs(top: int, left: int) -> dict:
    """Returns a box as a run-length code with a list of numbers."""
    flat = np.concatenate([[False], box(SIZE, top, left).T.ravel(), [True]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(edges, prepend=0).tolist()
    return {"size": list(SIZE), "counts": counts}


def coco(path: Path, segmentation: Callable[[int, int], object] = outlines,
         file_name: str = "frame_{:03d}.jpg") -> Path:
    """Writes a COCO file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(coco_content(segmentation, file_name)))
    return path


def points(top: int, left: int) -> str:
    """Returns the outline of a box as CVAT writes it."""
    return ";".join(f"{x:.2f},{y:.2f}" for x, y in corners(top, left))


def cvat_mask(top: int, left: int) -> str:
    """Returns a box as the attributes of CVAT's <mask>, within a larger rectangle."""
    rle = "1, " + ", ".join(["8", "1"] * 7) + ", 8"   # a column of background at its left
    return f'rle="{rle}" left="{left - 1}" top="{top}" width="9" height="8"'


def cvat_images(path: Path, mask: bool = False) -> Path:
    """Writes "CVAT for images 1.1" of all eight images."""
    nodes = []
    for t in range(8):
        inner = "".join(
            f'<mask label="{label}" {cvat_mask(*place)}/>' if mask else
            f'<polygon label="{label}" points="{points(*place)}"/>'
            for label, place in BOXES.get(t, {}).items())
        nodes.append(f'<image id="{t}" name="frames/frame_{t:03d}.jpg" width="{SIZE[1]}" '
                     f'height="{SIZE[0]}">{inner}</image>')
    path.write_text(f"<?xml version='1.0'?><annotations>{''.join(nodes)}</annotations>")
    return path


def cvat_video(path: Path, source: str = "clip.mp4") -> Path:
    """Writes "CVAT for video 1.1": a track with interpolated frames, and a shape of one frame."""
    dog = "".join(
        f'<polygon frame="{t}" keyframe="{int(t in BOXES)}" outside="0" '
        f'points="{points(*BOXES.get(t, BOXES[1])["dog"])}"/>' for t in range(1, 7))
    cat = (f'<polygon frame="3" keyframe="1" outside="0" points="{points(*BOXES[3]["cat"])}"/>'
           f'<polygon frame="4" keyframe="1" outside="1" points="{points(*BOXES[3]["cat"])}"/>')
    path.write_text(
        f"<annotations><meta><task><name>task</name><original_size><width>{SIZE[1]}</width>"
        f"<height>{SIZE[0]}</height></original_size><source>{source}</source></task></meta>"
        f'<track id="0" label="dog">{dog}</track><track id="1" label="cat">{cat}</track>'
        "</annotations>")
    return path


def pngs(folder: Path, name: str = "frame_{:03d}.png") -> Path:
    """Writes palette PNGs."""
    for t in BOXES:
        palette_png(folder / name.format(t), truth(t))
    return folder
