"""OVIS, occluded video instance segmentation (Qi et al. 2022).

Layout: `<split>/<video>/img_%07d.jpg` for train, valid and test, and `annotations_<split>.json` at
the top or in `annotations/`, in the form of YouTube-VIS: videos with `file_names`, categories, and
annotations with one run-length code a frame, null where the object is not seen. Only train has
annotations; frames of valid and test have no masks.

The split `vos25` holds 25 of the train videos for segmentation from a given first mask, each object
by itself (the paper's 25 are not published; see `files.draw` and docs/data.md for these).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from input_pipeline import records
from input_pipeline.builders import files
from input_pipeline.codecs import decode_rle

SPLITS = ("train", "valid", "test")
OFFICIAL = {"train": 607, "valid": 140, "test": 154}  # videos
VOS_VIDEOS = 25


@dataclasses.dataclass(frozen=True)
class Options:
    """How OVIS is read."""

    seed: int = 0  # which train videos are in vos25, see `files.draw`


@dataclasses.dataclass(frozen=True)
class Track:
    """One annotation: an object and its run-length code in each frame, None where not seen."""

    number: int  # its id in the file
    category: str
    codes: list[dict[str, Any] | None]


@dataclasses.dataclass(frozen=True)
class Video:
    """One video of an annotation file; `annotated` says whether the file has annotations."""

    name: str
    size: tuple[int, int]  # height, width
    frames: list[Path]
    tracks: list[Track]
    annotated: bool
    file: Path


class Builder(records.VideoBuilder):
    """OVIS records; `options` is an `Options`."""

    name = "ovis"

    def splits(self):
        """Raises a ValueError that lists what is missing before the first record is read."""
        found = read_splits(self.source)
        if problems := [p for split, videos in found.items() for p in _missing(split, videos)]:
            raise ValueError(f"OVIS in {self.source} is not whole: {'; '.join(problems)}; extract "
                             "the archive again")
        if "train" in found:
            count = min(VOS_VIDEOS, len(found["train"]))
            chosen = files.draw([v.name for v in found["train"]], count, self.options.seed)
            found["vos25"] = [v for v in found["train"] if v.name in chosen]
        return {split: (record(v) for v in videos) for split, videos in found.items()}


def verify(
    source: Path, options: Options, official: dict[str, int] = OFFICIAL
) -> list[str]:
    """What is wrong with the download: counts, missing images, images cut off, codes of a size
    that is not their video's."""
    del options
    try:
        found = read_splits(source)
    except ValueError as error:
        return [str(error)]
    problems = []
    for split, count in official.items():
        if split not in found:
            problems.append(f"there is no annotations_{split}.json")
        elif len(found[split]) != count:
            problems.append(f"annotations_{split}.json has {len(found[split])} videos; the "
                            f"official one has {count}")
    for split, videos in found.items():
        problems += _missing(split, videos)
        paths = [p for v in videos for p in v.frames if p.is_file()]
        if broken := [p for p in paths if not files.is_whole(p)]:
            problems.append(f"{split}: files cut off or not images: "
                            f"{files.first_names(broken, len(paths))}")
        odd = [f"{v.name} annotation {t.number}" for v in videos for t in v.tracks
               if any(c is not None and tuple(c["size"]) != v.size for c in t.codes)]
        if odd:
            problems.append(f"{split}: run-length codes of another size: {files.first_names(odd)}")
    return problems


def read_splits(source: Path) -> dict[str, list[Video]]:
    """The videos of every split whose annotation file is there, in order of their names.

    Raises:
      ValueError: no annotation file, or one that cannot be read (names path and entry).
    """
    found = {}
    for split in SPLITS:
        paths = [source / f"annotations_{split}.json",
                 source / "annotations" / f"annotations_{split}.json"]
        if path := next((p for p in paths if p.is_file()), None):
            found[split] = _read(path, source / split)
    if not found:
        raise ValueError(
            f"there is no annotations_train.json in {source} or in its folder 'annotations': it is "
            "not the folder of OVIS (the one that holds train, valid and test), or the archive is "
            "half-extracted"
        )
    return found


def _read(path: Path, images: Path) -> list[Video]:
    content = files.read_json(path)
    where = str(path)
    try:
        names = {c["id"]: c["name"] for c in content["categories"]}
        tracks: dict[Any, list[Track]] = {}
        for k, said in enumerate(content.get("annotations") or ()):
            where = f"{path}, annotation {said.get('id', k)}"
            codes = said["segmentations"]
            _ = [(c["size"], c["counts"]) for c in codes if c is not None]
            track = Track(said["id"], names[said["category_id"]], codes)
            tracks.setdefault(said["video_id"], []).append(track)
        videos = []
        for said in content["videos"]:
            where = f"{path}, video {said.get('id')}"
            found = tracks.pop(said["id"], [])
            videos.append(_video(path, images, said, found, bool(content.get("annotations"))))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{where}: not the form of OVIS annotations: {error!r}") from error
    if tracks:
        raise ValueError(f"{path} has annotations of videos that it does not list: "
                         f"{files.first_names(tracks)}")
    if not videos:
        raise ValueError(f"{path} lists no video")
    return sorted(videos, key=lambda video: video.name)


def _video(path: Path, images: Path, said: Mapping[str, Any], tracks: list[Track],
           annotated: bool) -> Video:
    paths = [images / name for name in said["file_names"]]
    if not paths:
        raise ValueError(f"{path}, video {said['id']} has no file_names")
    for track in tracks:
        if len(track.codes) != len(paths):
            raise ValueError(f"{path}, annotation {track.number} has {len(track.codes)} "
                             f"segmentations, but its video has {len(paths)} frames")
    return Video(
        name=paths[0].parent.relative_to(images).as_posix(),
        size=(said["height"], said["width"]), frames=paths,
        tracks=sorted(tracks, key=lambda track: track.number), annotated=annotated, file=path,
    )


def _missing(split: str, videos: list[Video]) -> list[str]:
    problems = []
    if absent := [v.name for v in videos if not any(f.is_file() for f in v.frames)]:
        problems.append(f"{split}: videos without frames: "
                        f"{files.first_names(absent, len(videos))}")
    frames = [f for v in videos if v.name not in set(absent) for f in v.frames]
    if lost := [f for f in frames if not f.is_file()]:
        problems.append(f"{split}: missing frames: {files.first_names(lost, len(frames))}")
    return problems


def record(video: Video) -> records.Record:
    """Reads one video. Its objects get the ids 1, 2, ... in order of their annotations' ids.

    Masks of OVIS are what is visible of an object and should not overlap; where two do, the
    smaller one keeps the pixels (`files.paint`).
    """
    frames, masks = [], []
    for t, path in enumerate(video.frames):
        data, image = files.read_image(path)
        files.check_size(path, (image.height, image.width), video.size, f"its video {video.file}")
        frames.append(data)
        if not video.annotated:
            masks.append(b"")
            continue
        seen = []
        for k, track in enumerate(video.tracks, 1):
            if track.codes[t] is not None:
                where = f"{video.file}, annotation {track.number}, frame {t}"
                mask = decode_rle(track.codes[t], where)
                records.check_size(mask, video.size, f"the run-length code of {where}")
                seen.append((k, mask))
        masks.append(records.encode_mask(files.paint(seen, video.size)))
    return records.Record(
        video_id=video.name, frames=frames, masks=masks, height=video.size[0],
        width=video.size[1],
        objects=[records.Object(k, t.category) for k, t in enumerate(video.tracks, 1)],
    )
