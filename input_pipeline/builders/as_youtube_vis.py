"""Writes a prepared dataset in the form of YouTube-VIS, for its builder and for other tools.

    python -m vseg_jax.input_pipeline.builders.as_youtube_vis data/davis/default/1.0.0 val OUT \\
        --categories 1=dog,2=dog,3=person

OUT gets `train.json`, `train/JPEGImages/<video>/<%05d>.jpg` (.png where the dataset has PNGs) and,
of videos with sound, `train/audio/<video>.wav`: what `prepare youtube_vis --option dev=0`, or
`prepare avis`, takes. Frames without a mask are left out, for that form has no word for them. Void
pixels belong to no object.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vseg_jax.input_pipeline.records import Dataset, Record, decode_mask, open_dataset
from vseg_jax.run_lengths import encode_rle

SPLIT = "train"


def write(
    dataset: Dataset, output: str | Path, categories: Mapping[int, str] | None = None
) -> Path:
    """Writes a split; whole or not at all.

    Args:
      dataset: an opened dataset.
      output: a folder that is not there yet.
      categories: names by object id, for datasets whose objects have none (DAVIS); the same in
        every video.

    Returns:
      The annotation file.

    Raises:
      ValueError: `output` is there already, or an object has no category.
    """
    output = Path(output)
    if output.exists():
        raise ValueError(f"{output} is there already; name a new folder or remove it first")
    kinds = {}  # of the objects, by video and id
    for entry in dataset.index:
        for o in entry.objects:
            kinds[entry.video_id, o.id] = (categories or {}).get(o.id) or o.category
            if not kinds[entry.video_id, o.id]:
                raise ValueError(f"{dataset.name} video {entry.video_id}: object {o.id} has no "
                                 "category; name one with --categories ID=NAME,...")
    ids = {c.name: c.id for c in dataset.categories}
    if not set(kinds.values()) <= ids.keys():
        ids = {name: k for k, name in enumerate(sorted(set(kinds.values())), 1)}
    said: dict[str, list[Any]] = {"videos": [], "annotations": []}
    said["categories"] = [{"id": k, "name": name} for name, k in ids.items()]
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as temporary:
        root = Path(temporary) / "result"
        for number, record in enumerate(dataset, 1):
            annotated = [t for t, mask in enumerate(record.masks) if mask]
            if not annotated:
                continue
            said["videos"].append({
                "id": number, "height": record.height, "width": record.width,
                "length": len(annotated), "file_names": _files(root, record, annotated)})
            masks = [decode_mask(record.masks[t], f"{dataset.name} video {record.video_id}")
                     for t in annotated]
            for o in record.objects:
                said["annotations"].append({
                    "id": len(said["annotations"]) + 1, "video_id": number, "iscrowd": 0,
                    "category_id": ids[kinds[record.video_id, o.id]],
                    "height": record.height, "width": record.width, **_track(masks, o.id)})
        if not said["videos"]:
            raise ValueError(f"{dataset.name} has no frame with a mask")
        (root / f"{SPLIT}.json").write_text(json.dumps(said), encoding="utf-8")
        os.replace(root, output)
    return output / f"{SPLIT}.json"


def _files(root: Path, record: Record, annotated: list[int]) -> list[str]:
    """Writes frames and sound; the names of the frames' files."""
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
    """Codes, areas and boxes (x, y, width, height) of an object, null where it is not seen."""
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


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0, or 2 where it cannot be written."""
    parser = argparse.ArgumentParser(prog="python -m vseg_jax.input_pipeline.builders.as_youtube_vis",
                                     description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="folder that prepare printed")
    parser.add_argument("split")
    parser.add_argument("output", help="a new folder")
    parser.add_argument("--categories", default="", help="ID=NAME,... of the objects' ids")
    given = parser.parse_args(arguments)
    try:
        names = {}
        for pair in filter(None, given.categories.split(",")):
            number, equals, name = pair.partition("=")
            if not (number.isdigit() and equals and name):
                raise ValueError(f"--categories wants ID=NAME,..., got '{pair}'")
            names[int(number)] = name
        print(write(open_dataset(given.dataset, given.split), given.output, names))
        return 0
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
