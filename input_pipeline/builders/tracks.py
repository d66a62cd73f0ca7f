"""Annotation files in the form of YouTube-VIS, which OVIS and AVIS have too.

`videos` with the names of their frames, `categories`, and `annotations`, each an object with one
run-length code a frame, null where it is not seen. Files of test sets have no annotations; their
records have no masks.
"""

from __future__ import annotations

import dataclasses
import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vseg_jax.index_masks import VOID
from vseg_jax.input_pipeline import records
from vseg_jax.input_pipeline.builders import files
from vseg_jax.run_lengths import decode_rle, read_runs


@dataclasses.dataclass(frozen=True)
class Track:
    """One annotation: an object and its run-length code in each frame, None where not seen."""

    number: int  # its id in the file
    category: str
    codes: list[dict[str, Any] | None]
    crowd: bool = False


@dataclasses.dataclass(frozen=True)
class Video:
    """One video of an annotation file; `annotated` says whether the file has annotations."""

    number: int  # its id in the file
    name: str  # the folder of its frames
    size: tuple[int, int]  # height, width
    frames: list[Path]
    tracks: list[Track]
    annotated: bool
    file: Path


@dataclasses.dataclass(frozen=True)
class Annotations:
    """What annotation files hold: the videos of each split, in order of their names."""

    splits: dict[str, list[Video]]
    categories: tuple[records.Category, ...]


def read(places: Mapping[str, Sequence[tuple[Path, Path]]], folder: str) -> Annotations:
    """The splits whose annotation file is there.

    Args:
      places: of each split, where its annotation file may be and the folder of its images.
      folder: says in errors which folder is wanted.

    Raises:
      ValueError: no annotation file, one that cannot be read or has another form (names path and
        entry), or two that differ in their categories.
    """
    splits, listed = {}, {}
    for split, options in places.items():
        if found := next(((p, images) for p, images in options if p.is_file()), None):
            splits[split], listed[found[0]] = _read(*found)
    if not splits:
        wanted = " or ".join(str(path) for options in places.values() for path, _ in options[:1])
        raise ValueError(f"there is no {wanted}: it is not {folder}, or the archive is "
                         "half-extracted")
    (first, categories), *others = listed.items()
    for path, others_categories in others:
        if others_categories != categories:
            raise ValueError(f"{path} has other categories than {first}: "
                             f"{[c.name for c in others_categories]}, not "
                             f"{[c.name for c in categories]}; are they of one download?")
    return Annotations(splits, categories)


def _read(path: Path, images: Path) -> tuple[list[Video], tuple[records.Category, ...]]:
    content = files.read_json(path)
    where = str(path)
    try:
        categories = tuple(sorted((records.Category(operator.index(c["id"]), str(c["name"]))
                                   for c in content["categories"]), key=lambda c: c.id))
        names = {c.id: c.name for c in categories}
        tracks: dict[Any, list[Track]] = {}
        for k, said in enumerate(content.get("annotations") or ()):
            where = f"{path}, annotation {said.get('id', k)}"
            tracks.setdefault(said["video_id"], []).append(_track(said, names, where))
        videos = []
        for said in content["videos"]:
            where = f"{path}, video {said.get('id')}"
            found = tracks.pop(said["id"], [])
            videos.append(_video(path, images, said, found, bool(content.get("annotations"))))
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


def _track(said: Mapping[str, Any], names: Mapping[int, str], where: str) -> Track:
    if said["category_id"] not in names:
        raise ValueError(f"{where} has the category_id {said['category_id']!r}, which the file's "
                         f"categories do not list; they are {names}")
    codes = said["segmentations"]
    if not isinstance(codes, list):
        raise ValueError(f"{where} has the segmentations {codes!r}; wanted is a list with a "
                         "run-length code or null for each frame")
    for t, code in enumerate(codes):
        if code is not None and not (isinstance(code, dict) and {"size", "counts"} <= code.keys()):
            raise ValueError(f"{where}, frame {t} should be a run-length code "
                             f'{{"size": ..., "counts": ...}} or null (outlines are not read), got '
                             f"{str(code)[:60]}")
    return Track(said["id"], names[said["category_id"]], codes, bool(said.get("iscrowd")))


def _video(path: Path, images: Path, said: Mapping[str, Any], tracks: list[Track],
           annotated: bool) -> Video:
    paths = [images / name for name in said["file_names"]]
    if not paths:
        raise ValueError(f"{path}, video {said['id']} has no file_names")
    for track in tracks:
        if len(track.codes) != len(paths):
            raise ValueError(f"{path}, annotation {track.number} has {len(track.codes)} "
                             f"segmentations, but its video has {len(paths)} frames; wanted is "
                             "one a frame, null where it is not seen")
    folder = paths[0].parent
    name = folder.relative_to(images).as_posix() if folder.is_relative_to(images) else "."
    if name == ".":
        raise ValueError(f"{path}, video {said['id']}: file_names should be <video>/<frame>, got "
                         f"{said['file_names'][0]}")
    return Video(
        number=said["id"], name=name,
        size=(operator.index(said["height"]), operator.index(said["width"])), frames=paths,
        tracks=sorted(tracks, key=lambda track: track.number), annotated=annotated, file=path,
    )


def hold_out(splits: Mapping[str, list[Video]], count: int, seed: int) -> dict[str, list[Video]]:
    """The splits with `count` videos of train, drawn by `files.draw`, as the split `dev` instead.

    Raises:
      ValueError: train has no more than `count` videos.
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
    """ValueError that lists the images that are missing."""
    if problems := [p for split, videos in splits.items() for p in missing(split, videos)]:
        raise ValueError(f"{name} in {source} is not whole: {'; '.join(problems)}; extract the "
                         "archive again")


def missing(split: str, videos: Sequence[Video]) -> list[str]:
    """What images a split lacks, in a line or two."""
    problems = []
    if absent := [v.name for v in videos if not any(f.is_file() for f in v.frames)]:
        problems.append(f"{split}: videos without frames: "
                        f"{files.first_names(absent, len(videos))}")
    frames = [f for v in videos if v.name not in set(absent) for f in v.frames]
    if lost := [f for f in frames if not f.is_file()]:
        problems.append(f"{split}: missing frames: {files.first_names(lost, len(frames))}")
    return problems


def faults(found: Annotations, counts: Mapping[str, int], names: Sequence[str] = ()) -> list[str]:
    """What is wrong with a download: counts of videos, categories, images, codes.

    Args:
      found: all of it.
      counts: videos of each official split.
      names: of the official categories in order of their ids from 1; () does not compare them.
    """
    problems = []
    for split, count in counts.items():
        if split not in found.splits:
            problems.append(f"there is no annotation file of {split}")
        elif len(found.splits[split]) != count:
            problems.append(f"{found.splits[split][0].file.name} has {len(found.splits[split])} "
                            f"videos; the official one has {count}")
    listed = [(c.id, c.name) for c in found.categories]
    if names and listed != list(enumerate(names, 1)):
        odd = sorted(set(listed) ^ set(enumerate(names, 1)))
        problems.append(f"the categories are not the official ones: {files.first_names(odd)} "
                        "are only in one of the lists")
    for split, videos in found.splits.items():
        problems += missing(split, videos)
        paths = [p for v in videos for p in v.frames if p.is_file()]
        if broken := [p for p in paths if not files.is_whole(p)]:
            problems.append(f"{split}: files cut off or not images: "
                            f"{files.first_names(broken, len(paths))}")
        if split == "train" and not any(v.annotated for v in videos):
            problems.append(f"{split}: {videos[0].file.name} has no annotations; nothing can be "
                            "trained on it")
        tracks = [(v, t) for v in videos for t in v.tracks]
        if odd := [fault for v, t in tracks if (fault := _fault(v, t))]:
            problems.append(f"{split}: objects with bad run-length codes: {len(odd)} of "
                            f"{len(tracks)}, the first: {odd[0]}")
        if odd := [_name(v, t) for v, t in tracks if not any(t.codes)]:
            problems.append(f"{split}: objects that no frame shows (all null): "
                            f"{files.first_names(odd, len(tracks))}; they are left out")
    return problems


def _name(video: Video, track: Track) -> str:
    return f"{video.name} annotation {track.number}"


def _fault(video: Video, track: Track) -> str:
    """What is wrong with the first bad code of a track, or ''."""
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

    Where two objects overlap the smaller one keeps the pixels (`files.paint`). Crowds are no
    objects: where nothing else is, their pixels are void. Objects that no frame shows are left out.
    """
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
        index = files.paint(list(_seen(video, tracks, t)), video.size)
        for _, crowd in _seen(video, crowds, t):
            index[crowd & (index == 0)] = VOID
        masks.append(records.encode_mask(index))
    return records.Record(
        video_id=video.name, frames=frames, masks=masks, height=video.size[0],
        width=video.size[1], fps=fps, audio=audio,
        objects=[records.Object(k, t.category) for k, t in enumerate(tracks, 1)],
    )


def _seen(video: Video, tracks: Sequence[Track], t: int):
    """(number from 1, bool [H, W]) of the tracks that frame `t` shows."""
    for k, track in enumerate(tracks, 1):
        if track.codes[t] is not None:
            where = f"{video.file}, annotation {track.number}, frame {t}"
            yield k, decode_rle(track.codes[t], where, video.size)
