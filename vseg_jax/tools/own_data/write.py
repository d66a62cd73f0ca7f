"""Writes the dataset in the layout of DAVIS 2017, and its contact sheet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vseg_jax.input_pipeline.builders.davis import CATEGORIES
from vseg_jax.media import overlay
from vseg_jax.tools.own_data.assemble import Labeled
from vseg_jax.tools.own_data.split import Part

EXPRESSIONS, SHEET = "expressions.json", "contact_sheet.jpg"
RESOLUTION = "480p"  # what the layout calls the folder, whatever the size
_COLUMNS, _ROWS = 5, 30  # of the contact sheet
_PANEL = (320, 240)  # its largest pictures: width, height

Texts = Mapping[int, Sequence[tuple[str, str]]]  # object id: (style, expression)


def write(root: Path, parts: Sequence[Part], texts: Mapping[str, Texts]) -> None:
    """Writes the files of the dataset.

    Args:
      root: an empty folder.
      parts: the sequences.
      texts: the expressions for the objects of each video, by its name.

    Raises:
      ValueError: a frame cannot be read, has another size or does not exist.
    """
    panels: dict[str, list[np.ndarray]] = {part.name: [] for part in parts[:_ROWS]}
    videos = list({id(part.video): part.video for part in parts}.values())
    for video in videos:
        for part, t, rgb in _write_video(root, video, [p for p in parts if p.video is video]):
            if part.name in panels and t in _shown(part):
                panels[part.name].append(_panel(part, t, rgb))
    lists = root / "ImageSets/2017"
    lists.mkdir(parents=True)
    for split in dict.fromkeys(part.split for part in parts):
        names = [part.name for part in parts if part.split == split]
        (lists / f"{split}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    _write_json(root / CATEGORIES, {part.name: {i: part.video.categories[i] for i in part.ids
                                                if i in part.video.categories} for part in parts})
    _write_json(root / EXPRESSIONS, {
        part.name: _styles(part, texts.get(part.video.source.name, {})) for part in parts})
    _write_sheet(root / SHEET, list(panels.values()))


def _write_video(
    root: Path, video: Labeled, parts: Sequence[Part]
) -> Iterator[tuple[Part, int, UInt8[np.ndarray, "H W 3"]]]:
    """Writes the frames and masks of a video; yields the annotated frames."""
    last = max(part.annotated[-1] for part in parts)
    count = 0
    for t, (rgb, data, ending) in enumerate(video.source.read()):
        count += 1
        for part in parts:
            if not part.annotated[0] <= t <= part.annotated[-1]:
                continue
            frame = root / "JPEGImages" / RESOLUTION / part.name / f"{t:05d}{ending}"
            frame.parent.mkdir(parents=True, exist_ok=True)
            frame.write_bytes(data)
            if t in part.annotated:
                mask = root / "Annotations" / RESOLUTION / part.name / f"{t:05d}.png"
                mask.parent.mkdir(parents=True, exist_ok=True)
                overlay.save_index(mask, video.index(t))
                yield part, t, rgb
        if t == last:
            break
    if count <= last:
        raise ValueError(f"{video.annotations[last].where}: {video.source.path} has no frame "
                         f"{last}; it has {count} frames, 0 to {count - 1}")


def _styles(part: Part, texts: Texts) -> dict[str, dict[int, list[str]]]:
    """Returns the expressions for the objects of a part, by style and object."""
    styles: dict[str, dict[int, list[str]]] = {}
    for number in part.ids:
        for style, text in texts.get(number, ()):
            styles.setdefault(style, {}).setdefault(number, []).append(text)
    return styles


def _write_json(path: Path, content: Mapping[str, Mapping[Any, Any]]) -> None:
    """Writes the entries that are not empty, if there are any."""
    if kept := {name: entry for name, entry in content.items() if entry}:
        path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


# --- contact sheet ----------------------------------------------------------------------------


def _shown(part: Part) -> set[int]:
    """Returns the annotated frames that the contact sheet shows, evenly spread."""
    places = np.linspace(0, len(part.annotated) - 1, _COLUMNS).round().astype(int)
    return {part.annotated[k] for k in places}


def _panel(
    part: Part, t: int, rgb: UInt8[np.ndarray, "H W 3"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Returns a small picture of a frame with its objects and their names."""
    height, width = rgb.shape[:2]
    scale = min(_PANEL[0] / width, _PANEL[1] / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    index = cv2.resize(part.video.index(t), size, interpolation=cv2.INTER_NEAREST)
    names = {i: part.video.names[i] for i in part.video.seen[t]}
    return overlay.draw(small, index, f"{part.name} ({part.split}), frame {t}", names)


def _write_sheet(path: Path, rows: Sequence[Sequence[UInt8[np.ndarray, "h w 3"]]]) -> None:
    lines = [np.hstack(row) for row in rows]
    width = max(line.shape[1] for line in lines)
    padded = [np.pad(line, ((0, 0), (0, width - line.shape[1]), (0, 0))) for line in lines]
    Image.fromarray(np.vstack(padded)).save(path, quality=90)
