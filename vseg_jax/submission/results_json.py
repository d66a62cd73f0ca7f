"""What the servers of YouTube-VIS and OVIS take: `results.json`, written and checked.

A zip that holds a list, an entry an object: {"video_id", "category_id", "score", "segmentations"},
ids as in the download's annotation file and a compressed run-length code or null for each frame.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vseg_jax.atomic import atomic_file
from vseg_jax.input_pipeline.builders import ovis, tracks, youtube_vis
from vseg_jax.run_lengths import Spans

SPLITS = {"youtube_vis": "valid", "ovis": "valid"}
NAME = "results.json"


def wanted(
    kind: str, source: str | Path, split: str = ""
) -> tuple[dict[Any, tracks.Video], dict[str, int]]:
    """The videos of a split by their ids, and the categories' ids by their names.

    Args:
      kind: a key of `SPLITS`.
      source: folder of the official download, as `vseg_jax.input_pipeline.builders` wants it; its images are
        not read.
      split: the one that `SPLITS` says where empty.

    Raises:
      ValueError: no such kind or split, or an annotation file that cannot be read.
    """
    if kind not in SPLITS:
        raise ValueError(f"there is no kind {kind!r} of results, only {', '.join(SPLITS)}")
    split = split or SPLITS[kind]
    found = {"youtube_vis": youtube_vis, "ovis": ovis}[kind].read(Path(source))
    if split not in found.splits:
        raise ValueError(f"{source} has no annotation file of {split}, only of "
                         f"{', '.join(found.splits)}")
    videos = {video.number: video for video in found.splits[split]}
    return videos, {category.name: category.id for category in found.categories}


def check(kind: str, source: str | Path, submission: str | Path, split: str = "") -> list[str]:
    """Every fault of a submission, one line each; an empty list where the server will take it.

    Args:
      kind, source, split: see `wanted`.
      submission: a zip, a folder that holds `results.json`, or that file.

    Raises:
      ValueError: `submission` is none of them, or the official download cannot be read.
    """
    videos, categories = wanted(kind, source, split)
    content, faults = _open(Path(submission))
    try:
        entries = json.loads(content)
    except ValueError as error:
        return [*faults, f"{NAME} is not JSON: {error}"]
    if not isinstance(entries, list) or not entries:
        return [*faults, f"{NAME} should be a list of at least one object, it is "
                         f"{str(entries)[:40]}; the official tool stops at an empty list"]
    for k, entry in enumerate(entries):
        faults += [f"entry {k}: {fault}" for fault in _faults(entry, videos, categories)]
    return faults


def _open(submission: Path) -> tuple[bytes, list[str]]:
    """What `results.json` holds, and what is wrong around it."""
    if submission.is_dir():
        submission = submission / NAME
    try:
        data = submission.read_bytes()
        if not zipfile.is_zipfile(io.BytesIO(data)):
            return data, []
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            inside = next((n for n in names if n.rpartition("/")[2] == NAME), None)
            if inside is None:
                raise ValueError(f"{submission} holds no {NAME}, only {', '.join(names[:5])}")
            faults = [] if names == [NAME] else [
                f"the zip should hold {NAME} alone, it holds {', '.join(names[:5])}"]
            return archive.read(inside), faults
    except (OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{submission} cannot be read: {error}; name a zip, {NAME}, or the folder "
                         "that holds it") from None


def _faults(
    entry: Any, videos: Mapping[Any, tracks.Video], categories: Mapping[str, int]
) -> list[str]:
    if not isinstance(entry, Mapping):
        return [f"{str(entry)[:40]} is no object"]
    faults = []
    if entry.get("category_id") not in categories.values():
        faults.append(f"the category_id is {entry.get('category_id')!r}; the download has "
                      f"{min(categories.values())} to {max(categories.values())}")
    score = entry.get("score")
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not math.isfinite(score):
        faults.append(f"the score is {score!r}, not a number")
    number = entry.get("video_id")
    if not isinstance(number, Hashable) or (video := videos.get(number)) is None:
        return [*faults, f"the video_id is {number!r}, which the split does not list"]
    codes = entry.get("segmentations")
    if not isinstance(codes, list) or len(codes) != len(video.frames):
        found = len(codes) if isinstance(codes, list) else repr(codes)
        return [*faults, f"the segmentations are {found}; video {video.number} ({video.name}) has "
                         f"{len(video.frames)} frames, each with a code or null"]
    for t, code in enumerate(codes):
        if code is None:
            continue
        try:
            Spans(code, video.size, f"frame {t}")
            if not isinstance(code["counts"], str):
                faults.append(f"the counts of frame {t} are a list; the official tool reads "
                              "compressed strings alone")
        except ValueError as error:
            faults.append(str(error))
    return faults


def write(
    kind: str, source: str | Path,
    predictions: Iterable[tuple[str, Sequence[Mapping[str, Any]]]], output: str | Path, split: str = "",
) -> Path:
    """Writes a submission as a zip, checked, or nothing.

    Args:
      kind, source, split: see `wanted`.
      answers: of each video the name of its folder (a record's `video_id`), and its objects:
        `category` (name), `score`, and `segmentations`, a code of
        `vseg_jax.run_lengths.encode_rle` at the size of the frames, or None, for each frame.
      output: the zip, not there yet; ".zip" is added where it lacks it.

    Returns:
      The zip's path.

    Raises:
      ValueError: the zip is there already, a video or category that the download does not know, or
        answers that are not what the server wants.
    """
    videos, categories = wanted(kind, source, split)
    numbers = {video.name: number for number, video in videos.items()}
    archive = Path(output if str(output).endswith(".zip") else f"{output}.zip")
    if archive.exists():
        raise ValueError(f"{archive} is there already; name a new file or remove it first")
    entries = []
    for name, objects in predictions:
        if name not in numbers:
            raise ValueError(f"{source} has no video {name}; the dataset is another split")
        for found in objects:
            if found["category"] not in categories:
                raise ValueError(f"{source} has no category {found['category']!r}; the model was "
                                 "trained for others")
            entries.append({
                "video_id": numbers[name], "category_id": categories[found["category"]],
                "score": float(found["score"]), "segmentations": list(found["segmentations"]),
            })
    with atomic_file(archive) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr(NAME, json.dumps(entries))
        if faults := check(kind, source, temporary, split):
            raise ValueError(f"the submission has {len(faults)} faults:\n" + "\n".join(faults[:20]))
    return archive
