"""Annotation files in the form of YouTube-VIS, which OVIS and AVIS share.

A file has `videos` with the names of their frames, `categories`, and `annotations`: each is an
object with one run-length code per frame, null where it is not visible. Files of test sets have no
annotations, and their records no masks.
"""

from __future__ import annotations

import dataclasses
import operator
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vseg_jax.index_masks import VOID
from vseg_jax.input_pipeline import records
from vseg_jax.input_pipeline.builders import files
from vseg_jax.run_lengths import decode_rle, read_runs


@dataclasses.dataclass(frozen=True)
class Track:
    """One annotation: an object and its run-length code in each frame, None if not visible."""

    number: int  # id in the file
    category: str
    codes: list[dict[str, Any] | None]
    crowd: bool = False


@dataclasses.dataclass(frozen=True)
class Video:
    """One video of an annotation file; `annotated` is whether the file has annotations."""

    number: int  # id in the file
    name: str  # folder of its frames
    size: tuple[int, int]  # height, width
    frames: list[Path]
    tracks: list[Track]
    annotated: bool
    file: str  # names the video in messages


@dataclasses.dataclass(frozen=True)
class Annotations:
    """The content of annotation files: the videos of each split, in order of their names."""

    splits: dict[str, list[Video]]
    categories: tuple[records.Category, ...]


def read(places: Mapping[str, Sequence[tuple[Path, Path]]], folder: str) -> Annotations:
    """Returns the splits that have an annotation file.

    Args:
      places: for each split, possible paths of its annotation file, with the folder of its images.
      folder: description of the expected folder, for errors.

    Raises:
      ValueError: no annotation file, one that cannot be read or has another form (names path and
        entry), or files with different categories.
    """
    splits, listed = {}, {}
    for split, options in places.items():
        if found := next(((p, images) for p, images in options if p.is_file()), None):
            splits[split], listed[found[0]] = _read(*found)
    if not splits:
        wanted = " or ".join(str(path) for options in places.values() for path, _ in options[:1])
        raise ValueError(f"there is no {wanted}: it is not {folder}, or the archive is "
                         "extracted only in part")
    (first, categories), *others = listed.items()
    for path, others_categories in others:
        if others_categories != categories:
            raise ValueError(f"{path} and {first} have different categories: "
                             f"{[c.name for c in others_categories]} and "
                             f"{[c.name for c in categories]}; are they from the same download?")
    return Annotations(splits, categories)


def _read(path: Path, images: Path) -> tuple[list[Video], tuple[records.Category, ...]]:
    content = files.read_json(path)
    where = str(path)
    try:
        categories = tuple(sorted((records.Category(operator.index(c["id"]), str(c["name"]))
                                   for c in content["categories"]), key=lambda c: c.id))
        names = {c.id: c.name for c in categories}
        _check_ids(content.get("annotations") or (), path)
        tracks: dict[Any, list[Track]] = {}
        for k, entry in enumerate(content.get("annotations") or ()):
            where = f"{path}, annotation {entry.get('id', k)}"
            tracks.setdefault(entry["video_id"], []).append(_track(entry, names, where))
        videos = []
        for entry in content["videos"]:
            where = f"{path}, video {entry.get('id')}"
            found = tracks.pop(entry["id"], [])
            videos.append(_video(path, images, entry, found, bool(content.get("annotations"))))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{where}: not the form of YouTube-VIS annotations: {error!r}") from error
    if tracks:
        raise ValueError(f"{path} has annotations of videos that it does not list: "
                         f"{files.first_names(tracks)}")
    if not videos or not categories:
        raise ValueError(f"{path} lists no {'category' if videos else 'video'}")
    if twice := sorted(n for n, k in Counter(v.name for v in videos).items() if k > 1):
        raise ValueError(f"{path} lists videos twice: {files.first_names(twice, len(videos))}")
    if len(names) != len(categories) or len(set(names.values())) != len(names):
        raise ValueError(f"{path} lists a category twice: {[(c.id, c.name) for c in categories]}")
    return sorted(videos, key=lambda video: video.name), categories


def _check_ids(annotations: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Raises a ValueError if two annotations have one id."""
    counts = Counter(entry["id"] for entry in annotations)
    if twice := [number for number, count in counts.items() if count > 1]:
        raise ValueError(f"{path} has two annotations with the id {twice[0]!r} "
                         f"({len(twice)} of {len(counts)} ids are used more than once)")


def _track(entry: Mapping[str, Any], names: Mapping[int, str], where: str) -> Track:
    if entry["category_id"] not in names:
        raise ValueError(f"{where} has the category_id {entry['category_id']!r}, which the file's "
                         f"categories do not list; they are {names}")
    codes = entry["segmentations"]
    if not isinstance(codes, list):
        raise ValueError(f"{where} has the segmentations {codes!r}; expected is a list with "
                         "a run-length code or null for each frame")
    for t, code in enumerate(codes):
        if code is not None and not (isinstance(code, dict) and {"size", "counts"} <= code.keys()):
            raise ValueError(f"{where}, frame {t} should be a run-length code "
                             f'{{"size": ..., "counts": ...}} or null (outlines are not read), got '
                             f"{str(code)[:60]}")
    return Track(entry["id"], names[entry["category_id"]], codes, bool(entry.get("iscrowd")))


def _video(path: Path, images: Path, entry: Mapping[str, Any], tracks: list[Track],
           annotated: bool) -> Video:
    paths = [images / name for name in entry["file_names"]]
    if not paths:
        raise ValueError(f"{path}, video {entry['id']} has no file_names")
    for track in tracks:
        if len(track.codes) != len(paths):
            raise ValueError(f"{path}, annotation {track.number} has {len(track.codes)} "
                             f"segmentations, but its video has {len(paths)} frames; "
                             "expected is one per frame, null where it is not visible")
    folder = paths[0].parent
    name = folder.relative_to(images).as_posix() if folder.is_relative_to(images) else "."
    if name == ".":
        raise ValueError(f"{path}, video {entry['id']}: file_names should be <video>/<frame>, got "
                         f"{entry['file_names'][0]}")
    return Video(
        number=entry["id"], name=name,
        size=(operator.index(entry["height"]), operator.index(entry["width"])), frames=paths,
        tracks=sorted(tracks, key=lambda track: track.number), annotated=annotated,
        file=str(path),
    )


def hold_out(splits: Mapping[str, list[Video]], count: int, seed: int) -> dict[str, list[Video]]:
    """Returns the splits with `count` train videos, drawn by `files.draw`, moved to `dev`.

    Raises:
      ValueError: no video would be left in train.
    """
    if not count or "train" not in splits:
        return dict(splits)
    train = splits["train"]
    if not 0 < count < len(train):
        raise ValueError(f"the option 'dev' takes {count} videos out of train, which has "
                         f"{len(train)}; dev=0 takes none")
    held = set(files.draw([v.name for v in train], count, seed))
    return {**splits, "train": [v for v in train if v.name not in held],
            "dev": [v for v in train if v.name in held]}


# --- checking ---------------------------------------------------------------------------------


def check_whole(name: str, source: Path, splits: Mapping[str, list[Video]]) -> None:
    """Raises a ValueError that lists the images that are missing."""
    if problems := [p for split, videos in splits.items() for p in missing(split, videos)]:
        raise ValueError(f"{name} in {source} is incomplete: {'; '.join(problems)}; extract the "
                         "archive again")


def missing(split: str, videos: Sequence[Video]) -> list[str]:
    """Returns the problems of a split's missing images."""
    problems = []
    if absent := [v.name for v in videos if not any(f.is_file() for f in v.frames)]:
        problems.append(f"{split}: videos without frames: "
                        f"{files.first_names(absent, len(videos))}")
    frames = [f for v in videos if v.name not in set(absent) for f in v.frames]
    if lost := [f for f in frames if not f.is_file()]:
        problems.append(f"{split}: missing frames: {files.first_names(lost, len(frames))}")
    return problems


def faults(found: Annotations, counts: Mapping[str, int], names: Sequence[str] = ()) -> list[str]:
    """Returns the problems of a download: counts of videos, categories, images, codes.

    Args:
      found: the content of its annotation files.
      counts: number of videos of each official split.
      names: the official categories in order of their ids from 1; () skips the comparison.
    """
    problems = []
    for split, count in counts.items():
        if split not in found.splits:
            problems.append(f"there is no annotation file of {split}")
        elif len(found.splits[split]) != count:
            name = Path(found.splits[split][0].file).name
            problems.append(f"{name} has {len(found.splits[split])} videos; the official one has "
                            f"{count}")
    listed = [(c.id, c.name) for c in found.categories]
    if names and listed != list(enumerate(names, 1)):
        odd = sorted(set(listed) ^ set(enumerate(names, 1)))
        problems.append(f"the categories are not the official ones: {files.first_names(odd)} "
                        "are only in one of the lists")
    for split, videos in found.splits.items():
        problems += missing(split, videos)
        paths = [p for v in videos for p in v.frames if p.is_file()]
        problems += files.broken(paths, split)
        if split == "train" and not any(v.annotated for v in videos):
            problems.append(f"{split}: {Path(videos[0].file).name} has no annotations; training "
                            "needs them")
        tracks = [(v, t) for v in videos for t in v.tracks]
        if odd := [fault for v, t in tracks if (fault := _fault(v, t))]:
            problems.append(f"{split}: objects with bad run-length codes: {len(odd)} of "
                            f"{len(tracks)}, the first: {odd[0]}")
        problems += [f"{split}: {fault}" for v in videos if (fault := _too_many(v))]
        if odd := [_name(v, t) for v, t in tracks if not any(t.codes)]:
            problems.append(f"{split}: objects that no frame shows (all null): "
                            f"{files.first_names(odd, len(tracks))}; they are left out")
    return problems


def _name(video: Video, track: Track) -> str:
    return f"{video.name} annotation {track.number}"


def _too_many(video: Video) -> str:
    """Returns the error of a video with more objects than an index mask can name, or ''."""
    count = sum(any(t.codes) and not t.crowd for t in video.tracks)
    if count < VOID:
        return ""
    return (f"{video.file}, video {video.number} ({video.name}) has {count} objects; an index mask "
            f"names at most {VOID - 1}: leave some out, or cut the video in parts")


def _fault(video: Video, track: Track) -> str:
    """Returns the error of the first bad code of a track, or ''."""
    try:
        for t, code in enumerate(track.codes):
            if code is not None:
                read_runs(code, f"{_name(video, track)}, frame {t}", video.size)
    except ValueError as error:
        return str(error)
    return ""


# --- reading ----------------------------------------------------------------------------------


def record(video: Video, fps: float = 0.0, audio: bytes = b"") -> records.Record:
    """Reads one video. Its objects get the ids 1, 2, ... in order of their annotations' ids.

    Where two objects overlap, the smaller one gets the pixels (`files.paint`). Crowds are not
    objects: their pixels are void unless an object covers them. Objects that no frame shows are
    left out.
    """
    if fault := _too_many(video):
        raise ValueError(fault)
    frames, masks = [], []
    tracks = [t for t in video.tracks if any(t.codes) and not t.crowd]
    crowds = [t for t in video.tracks if any(t.codes) and t.crowd]
    for t, path in enumerate(video.frames):
        data, image = files.read_image(path)
        files.check_size(path, (image.height, image.width), video.size, f"its video {video.file}")
        frames.append(data)
        if not video.annotated:
            masks.append(b"")
            continue
        index = files.paint(list(_visible(video, tracks, t)), video.size)
        for _, crowd in _visible(video, crowds, t):
            index[crowd & (index == 0)] = VOID
        masks.append(records.encode_mask(index))
    return records.Record(
        video_id=video.name, frames=frames, masks=masks, height=video.size[0],
        width=video.size[1], fps=fps, audio=audio,
        objects=[records.Object(k, t.category) for k, t in enumerate(tracks, 1)],
    )


def _visible(
    video: Video, tracks: Sequence[Track], t: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (number from 1, bool [H, W]) for the tracks that frame `t` shows."""
    for k, track in enumerate(tracks, 1):
        if track.codes[t] is not None:
            where = f"{video.file}, annotation {track.number}, frame {t}"
            yield k, decode_rle(track.codes[t], where, video.size)
