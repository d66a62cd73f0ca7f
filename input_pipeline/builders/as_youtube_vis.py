"""Writes a prepared dataset in the form of YouTube-VIS, for its builder and for other tools.

    vseg data as_youtube_vis data/davis/default/1.0.0 val OUT --categories 1=dog,2=dog,3=person

OUT gets `train.json`, `train/JPEGImages/<video>/<%05d>.jpg` (.png if the dataset has PNGs) and, for
videos with audio, `train/audio/<video>.wav`. `prepare youtube_vis --option dev=0` and `prepare
avis` read this form. Frames without a mask are left out, because the form cannot express them. Void
pixels belong to no object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vseg_jax.arguments import Parser
from vseg_jax.atomic import atomic_folder
from vseg_jax.input_pipeline.records import Dataset, Record, decode_mask, open_dataset
from vseg_jax.run_lengths import encode_rle

SPLIT = "train"


def write(
    dataset: Dataset, output: str | Path, categories: Mapping[int, str] | None = None
) -> Path:
    """Writes a split atomically.

    Args:
      dataset: an opened dataset.
      output: a new folder.
      categories: names by object id, for datasets whose objects have none (DAVIS); the same in
        every video.

    Returns:
      The path of the annotation file.

    Raises:
      ValueError: `output` exists, no frame has a mask, or an object has no category.
    """
    names = _category_names(dataset, categories or {})
    ids = {c.name: c.id for c in dataset.categories}
    if not set(names.values()) <= ids.keys():
        ids = {name: k for k, name in enumerate(sorted(set(names.values())), 1)}
    content: dict[str, list[Any]] = {
        "videos": [], "annotations": [],
        "categories": [{"id": k, "name": name} for name, k in ids.items()],
    }
    with atomic_folder(output) as root:
        for number, record in enumerate(dataset, 1):
            annotated = [t for t, mask in enumerate(record.masks) if mask]
            if not annotated:
                continue
            size = {"height": record.height, "width": record.width}
            content["videos"].append({
                "id": number, **size, "length": len(annotated),
                "file_names": _write_frames(root, record, annotated)})
            masks = [decode_mask(record.masks[t], f"{dataset.name} video {record.video_id}")
                     for t in annotated]
            for o in record.objects:
                content["annotations"].append({
                    "id": len(content["annotations"]) + 1, "video_id": number, "iscrowd": 0,
                    "category_id": ids[names[record.video_id, o.id]], **size,
                    **_track(masks, o.id)})
        if not content["videos"]:
            raise ValueError(f"{dataset.name} has no frame with a mask")
        (root / f"{SPLIT}.json").write_text(json.dumps(content), encoding="utf-8")
    return Path(output) / f"{SPLIT}.json"


def _category_names(dataset: Dataset, given: Mapping[int, str]) -> dict[tuple[str, int], str]:
    """Returns {(video, object id): name of its category}."""
    names = {}
    for entry in dataset.index:
        for o in entry.objects:
            names[entry.video_id, o.id] = given.get(o.id) or o.category
            if not names[entry.video_id, o.id]:
                raise ValueError(f"{dataset.name} video {entry.video_id}: object {o.id} has no "
                                 "category; give one with --categories ID=NAME,...")
    return names


def _write_frames(root: Path, record: Record, annotated: list[int]) -> list[str]:
    """Writes frames and audio; returns the names of the frames' files."""
    names = []
    for t in annotated:
        suffix = "png" if record.frames[t].startswith(b"\x89PNG") else "jpg"
        names.append(f"{record.video_id}/{t:05d}.{suffix}")
        path = root / SPLIT / "JPEGImages" / names[-1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(record.frames[t])
    if record.audio:
        path = root / SPLIT / "audio" / f"{record.video_id}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(record.audio)
    return names


def _track(masks: list[np.ndarray], number: int) -> dict[str, list[Any]]:
    """Returns codes, areas and boxes (x, y, width, height) of an object, None if not visible."""
    found: dict[str, list[Any]] = {"segmentations": [], "areas": [], "bboxes": []}
    for mask in masks:
        alone = mask == number
        rows, columns = np.flatnonzero(alone.any(1)), np.flatnonzero(alone.any(0))
        seen = len(rows) > 0
        found["segmentations"].append(encode_rle(alone) if seen else None)
        found["areas"].append(int(alone.sum()) if seen else None)
        found["bboxes"].append([int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1,
                                int(np.ptp(rows)) + 1] if seen else None)
    return found


def parse_categories(text: str) -> dict[int, str]:
    """Returns {object id: category} of "1=dog,2=person".

    Raises:
      ValueError: it has another form.
    """
    names = {}
    for pair in filter(None, text.split(",")):
        number, equals, name = pair.partition("=")
        if not (number.isdigit() and equals and name):
            raise ValueError(f"--categories must be ID=NAME,..., got '{pair}'")
        names[int(number)] = name
    return names


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns 0, or 2 if it failed."""
    parser = Parser(
        prog="vseg data as_youtube_vis", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", help="folder of a prepared dataset, as printed by prepare")
    parser.add_argument("split")
    parser.add_argument("output", help="a new folder")
    parser.add_argument("--categories", default="", help="ID=NAME,... of the objects")
    given = parser.parse_args(arguments)
    try:
        names = parse_categories(given.categories)
        print(write(open_dataset(given.dataset, given.split), given.output, names))
        return 0
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
